"""What an epoch leaves is written beside the next one, in order, and nothing that goes wrong is lost."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.arms import checkpoint_writer
from tasks.arms.checkpoint_writer import AsyncCheckpointWriter
from tasks.runtime.atomic_files import read_state


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What reached MLflow."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(checkpoint_writer.mlflow_runs, "log_metrics", lambda *call: calls.append(call))
    return calls


def test_epochs_are_written_in_order_and_all_of_them_before_the_end(logged: list[Any], tmp_path: Path) -> None:
    with AsyncCheckpointWriter("run", tmp_path / "checkpoint.pt") as writer:
        for epoch in range(1, 6):
            writer.save({"epoch": epoch}, {"auc": epoch / 10}, epoch, 1000 + epoch)
    assert logged == [("run", {"auc": epoch / 10}, epoch, 1000 + epoch) for epoch in range(1, 6)]
    assert read_state(tmp_path / "checkpoint.pt") == {"epoch": 5}


def test_the_checkpoint_is_there_before_anything_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    seen: list[Any] = []
    monkeypatch.setattr(checkpoint_writer.mlflow_runs, "log_metrics", lambda *_: seen.append(read_state(path)))
    with AsyncCheckpointWriter("run", path) as writer:
        writer.save({"epoch": 1}, {}, 1, 0)
    assert seen == [{"epoch": 1}]


def test_training_goes_on_while_an_epoch_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()
    monkeypatch.setattr(checkpoint_writer.mlflow_runs, "log_metrics", lambda *_: may_go_on.wait(10))
    with AsyncCheckpointWriter("run", tmp_path / "checkpoint.pt") as writer:
        writer.save({}, {}, 1, 0)  # would not return if it waited
        may_go_on.set()


def test_a_failure_to_write_is_raised_at_the_next_epoch_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(checkpoint_writer.mlflow_runs, "log_metrics", fail)
    with pytest.raises(ConnectionError), AsyncCheckpointWriter("run", tmp_path / "c.pt") as writer:
        writer.save({}, {}, 1, 0)
    writer = AsyncCheckpointWriter("run", tmp_path / "c.pt")
    writer.save({}, {}, 1, 0)
    with pytest.raises(ConnectionError):
        writer.save({}, {}, 2, 0)


def test_a_stop_finds_the_last_epoch_on_the_disk(logged: list[Any], tmp_path: Path) -> None:
    def stopped() -> None:
        with AsyncCheckpointWriter("run", tmp_path / "c.pt") as writer:
            writer.save({"epoch": 1}, {}, 1, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert read_state(tmp_path / "c.pt") == {"epoch": 1}
