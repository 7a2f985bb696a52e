"""What must be set before Prefect and MLflow are imported: no telemetry, and only our own lines on the terminal.

Everything is a default: what the user has set stays.
"""

import os

DEFAULTS = {
    # telemetry, off unless the user turns it on; Prefect looks at both
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # their log lines; ours reach Prefect's record through its extra loggers
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "medmtl",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # one small JSON per cached task, content-addressed by us
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}


def prepare_environment() -> None:
    """Set the defaults above where the user has set nothing; call it before importing prefect or mlflow."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
