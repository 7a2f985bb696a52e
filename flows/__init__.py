"""Flows: what a user runs or schedules, one file per flow, and the command line."""

from tasks.runtime.env_defaults import set_env_defaults
from tasks.runtime.run_logs import keep_causes_out

set_env_defaults()  # here, because it must run before any flow imports prefect or mlflow
keep_causes_out()
