"""What an epoch leaves is written beside the next one, in order, and nothing that goes wrong is lost."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.arms import checkpoint_writer
from tasks.arms.checkpoint_writer import UNSENT, AsyncCheckpointWriter
from tasks.runtime.atomic_files import read_state


def send_with(monkeypatch: pytest.MonkeyPatch, send: Callable[..., object]) -> None:
    monkeypatch.setattr(checkpoint_writer.mlflow_runs, "log_metrics", send)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What reached MLflow."""
    rows: list[tuple[Any, ...]] = []
    send_with(monkeypatch, lambda *row: rows.append(row))
    return rows


def state_of(path: Path) -> dict[str, Any]:
    state = read_state(path)
    assert state is not None
    return state


def test_epochs_are_written_in_order_and_all_of_them_before_the_end(logged: list[Any], tmp_path: Path) -> None:
    with AsyncCheckpointWriter("run", tmp_path / "checkpoint.pt") as writer:
        for epoch in range(1, 6):
            writer.save({"epoch": epoch}, {"auc": epoch / 10}, epoch, 1000 + epoch)
    assert logged == [("run", {"auc": epoch / 10}, epoch, 1000 + epoch) for epoch in range(1, 6)]
    state = state_of(tmp_path / "checkpoint.pt")
    assert state["epoch"] == 5
    assert state[UNSENT][5] == (1005, {"auc": 0.5})


def test_the_checkpoint_is_there_before_anything_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    seen: list[Any] = []
    send_with(monkeypatch, lambda *_: seen.append(state_of(path)))
    with AsyncCheckpointWriter("run", path) as writer:
        writer.save({"epoch": 1}, {}, 1, 0)
    assert seen == [{"epoch": 1, UNSENT: {1: (0, {})}}]


def test_training_goes_on_while_an_epoch_waits_to_be_sent_and_each_checkpoint_has_all_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, may_go_on, sent = tmp_path / "checkpoint.pt", threading.Event(), []

    def send(_run: str, metrics: dict[str, float], epoch: int, timestamp_ms: int) -> None:
        assert may_go_on.wait(60)
        sent.append((epoch, timestamp_ms, metrics))

    send_with(monkeypatch, send)
    epochs = {epoch: (1000 + epoch, {"auc": epoch / 10}) for epoch in range(1, 5)}
    with AsyncCheckpointWriter("run", path) as writer:
        for epoch, (timestamp_ms, metrics) in epochs.items():
            writer.save({}, metrics, epoch, timestamp_ms)  # would not return if it waited
        writer._wait_for_write()
        assert state_of(path)[UNSENT] == epochs
        may_go_on.set()
    assert sent == [(epoch, *row) for epoch, row in epochs.items()]


def test_what_an_earlier_process_could_not_send_is_sent_first(logged: list[Any], tmp_path: Path) -> None:
    with AsyncCheckpointWriter("run", tmp_path / "c.pt", {2: (1002, {"auc": 0.2}), 1: (1001, {"auc": 0.1})}) as writer:
        writer.save({}, {"auc": 0.3}, 3, 1003)
    assert logged == [("run", {"auc": epoch / 10}, epoch, 1000 + epoch) for epoch in range(1, 4)]


def test_a_failure_to_write_is_raised_at_the_next_epoch_or_at_the_end(
    logged: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint_writer, "write_state", fail)
    with pytest.raises(OSError, match="no space"), AsyncCheckpointWriter("run", tmp_path / "c.pt") as writer:
        writer.save({}, {}, 1, 0)
    writer = AsyncCheckpointWriter("run", tmp_path / "c.pt")
    writer.save({}, {}, 1, 0)
    with pytest.raises(OSError, match="no space"):
        writer.save({}, {}, 2, 0)
    assert logged == []


@pytest.mark.parametrize(("error", "seen_at_once"), [(ValueError("refused"), True), (ConnectionError("away"), False)])
def test_what_mlflow_refuses_is_raised_at_the_next_epoch_but_a_server_that_is_away_only_at_the_end(
    error: Exception, seen_at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*_: Any) -> None:
        failed.set()
        raise error

    send_with(monkeypatch, fail)
    saved = []

    def train() -> None:
        with AsyncCheckpointWriter("run", tmp_path / "c.pt") as writer:
            for epoch in (1, 2):
                writer.save({}, {"auc": 0.5}, epoch, epoch)
                writer._wait_for_write()
                assert failed.wait(60)
                assert writer._sending is not None
                writer._sending.exception(60)
                saved.append(epoch)

    with pytest.raises(type(error)):
        train()
    assert saved == ([1] if seen_at_once else [1, 2])
    assert set(state_of(tmp_path / "c.pt")[UNSENT]) == set(saved)


def test_a_stop_finds_the_last_epoch_on_the_disk(logged: list[Any], tmp_path: Path) -> None:
    def stopped() -> None:
        with AsyncCheckpointWriter("run", tmp_path / "c.pt") as writer:
            writer.save({"epoch": 1}, {}, 1, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert state_of(tmp_path / "c.pt")["epoch"] == 1
