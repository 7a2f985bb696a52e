"""Networks that MLflow keeps for other arms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from tasks.arms import mlflow_runs
from tasks.arms.kept_network import keep_network, read_network

PIXELS = torch.randint(0, 256, (3, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def run_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run in a store of its own."""
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return mlflow_runs.create_run(mlflow_runs.connect(), "arm", {}, {})


def keep(run_id: str, folder: Path, checkpoint: dict[str, Any]) -> None:
    arm: Any = SimpleNamespace(folder=folder)
    with mlflow_runs.active_run(run_id):
        keep_network(arm, checkpoint)


def test_a_kept_network_comes_back_as_it_was(run_id: str, tmp_path: Path) -> None:
    network = initial_network(NetworkSettings(), ("a", "b"), PIXELS, seed=0).eval()
    keep(run_id, tmp_path, network.checkpoint())
    again = MultiTaskNetwork.restore(read_network(run_id)).eval()
    assert again.labels == ("a", "b")
    assert torch.equal(again(PIXELS), network(PIXELS))


def refused(run_id: str | None) -> str:
    with pytest.raises(DataError) as caught:
        read_network(run_id)
    return str(caught.value)


def test_a_missing_network_is_answered_with_its_run_and_the_remedy(run_id: str) -> None:
    said = refused(run_id)
    assert said.startswith(f"MLflow has run {run_id} but not its network")
    assert said.endswith("delete that run in MLflow, and the arm is trained again")
    assert "\n" not in said


def test_a_run_that_mlflow_does_not_know_is_refused_in_one_line(run_id: str) -> None:
    said = refused("0" * 32)
    assert said.endswith("the arm is trained again")
    assert "\n" not in said
