"""Default environment variables, set before torch, Prefect and MLflow are imported.

They switch telemetry off, keep the libraries' log lines off the terminal, give up dead servers soon, and shorten the
busy-waiting of OpenMP threads. A variable that the user has set is left as it is.
"""

import os

DEFAULTS = {
    # telemetry is off unless the user turns it on; Prefect reads the first two
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # the libraries' log lines: Prefect would repeat every failure before our own line
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # what its threads could not send to a dead server, with contents
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each run that ends on a server
    # Prefect's client gives up a dead server after seconds: by default it would try for a minute. A user whose servers
    # restart now and then may want more patience
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    # MLflow's client tries once, without a word of its own: `tasks.arms.outages` waits for its server, says so, and
    # repeats whole steps that look first, so that a lost answer makes no second run or model
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; a server of `medmtl deploy` takes 75 of silence for death
    # By default, idle OpenMP threads spin 300,000 times. That makes training up to ten times slower beside another
    # busy process; no spinning at all costs a third to a half of the speed on a quiet machine (conv4, 64 px, two cores)
    "GOMP_SPINCOUNT": "10000",
}


def set_env_defaults() -> None:
    """Set each default whose variable is not set; call it before importing torch, prefect or mlflow."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
