"""An empty database of MLflow, made once, and a home with a copy of it."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.tasks.operations.made_up_home import MadeUpHome


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def made_up(mlflow_database: Path) -> MadeUpHome:
    return MadeUpHome(mlflow_database)
