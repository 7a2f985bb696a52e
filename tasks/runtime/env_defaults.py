"""What must be set before torch, Prefect and MLflow are imported: no telemetry, only our own lines on the terminal,
and threads that spin for a moment only.

Everything is a default: what the user has set stays.
"""

import os

DEFAULTS = {
    # telemetry, off unless the user turns it on; Prefect looks at both
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # their log lines (Prefect reports every failure itself, above ours); ours reach Prefect's record all the same
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "medmtl",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Idle OpenMP threads spin 300,000 times by default, which costs up to ten times the speed beside another busy
    # process; never spinning costs a third to a half of it on a quiet machine (conv4 at 64 px on two cores)
    "GOMP_SPINCOUNT": "10000",
}


def set_env_defaults() -> None:
    """Set the defaults above where the user has set nothing; call it before importing torch, prefect or mlflow."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
