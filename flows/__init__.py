"""Flows: what a user runs or schedules, one file per flow, and the command line."""

from tasks.runtime.env_defaults import set_env_defaults

set_env_defaults()  # here, because it must run before any flow imports prefect or mlflow
