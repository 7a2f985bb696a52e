"""A Prefect server and a small phantom that the flow tests of one process share."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

DATA = """
data: {size: 32, phantom: {patients: 60, size: 64}}
split: {shares: [0.5, 0.2, 0.3]}
training: {epochs: 3}
"""
STUDY = """
methods: [{kind: uniform}, {kind: svd}]
protocol: {kind: all, noise: [{kind: none}, {kind: random, rate: 0.2, labels: [Effusion]}]}
seeds: 1
floor: false
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect server that lives as long as the tests."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    from tasks.runtime.prefect_server import prefect_server, wait_until_up

    with pytest.MonkeyPatch.context() as patch, ExitStack() as outlasting, ExitStack() as stack:
        patch.delenv("PREFECT_API_URL", raising=False)
        url = stack.enter_context(prefect_server(tmp_path_factory.mktemp("prefect")))
        # this process may have read its settings already; they must hold until the server has settled
        password = os.environ["PREFECT_API_AUTH_STRING"]
        retries = int(os.environ["PREFECT_CLIENT_MAX_RETRIES"])
        known = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password, PREFECT_CLIENT_MAX_RETRIES: retries}
        outlasting.enter_context(temporary_settings(known))
        wait_until_up(url)
        yield url


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database before the first run; to make one takes MLflow one to two seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def medmtl_home(server: str, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A MEDMTL_HOME without any runs or data, with the shared Prefect server."""
    monkeypatch.setenv("PREFECT_API_URL", server)  # for processes that a test starts
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    shutil.copyfile(empty_mlflow, tmp_path / "home" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """Flags of a study of four arms that takes seconds."""
    (tmp_path / "small.yaml").write_text(DATA + STUDY)
    return ["--config", str(tmp_path / "small.yaml")]


@pytest.fixture
def small_train(tmp_path: Path) -> list[str]:
    """Flags of a single training on the same data."""
    (tmp_path / "train.yaml").write_text(DATA)
    return ["--config", str(tmp_path / "train.yaml")]
