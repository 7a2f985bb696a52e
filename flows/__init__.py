"""What a person runs or schedules: one file per flow, and the command line."""

from tasks.runtime.env_defaults import prepare_environment

prepare_environment()  # here, because it must come before any flow imports prefect or mlflow
