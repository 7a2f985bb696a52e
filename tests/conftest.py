"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tasks.runtime.env_defaults import set_env_defaults

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests run beside one another and share the processors
set_env_defaults()  # as every command does

# How long an example takes says nothing on a shared machine. The same examples every time: a run of the tests tells
# of the change that was made, not of its luck. `pytest --hypothesis-profile other-examples` looks for new ones.
settings.register_profile("other-examples", deadline=None)
settings.register_profile("medmtl", deadline=None, derandomize=True)
settings.load_profile("medmtl")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; a test that asks for it skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data not here: expected the folder shared/data beside the project")
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own MEDMTL_HOME or servers."""
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
