"""An asynchronous checkpoint writer: while the next epoch trains, it writes the checkpoint, then the MLflow metrics.

In this order, every epoch whose metrics are in MLflow can be resumed; a resumed arm logs the same metrics again.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.arms import mlflow_runs
from tasks.runtime.atomic_files import write_state


class AsyncCheckpointWriter:
    """Writes one epoch at a time in a background thread; an error is raised at the next epoch, or at the end."""

    def __init__(self, run_id: str, checkpoint: Path) -> None:
        self._run_id, self._checkpoint = run_id, checkpoint
        self._executor = ThreadPoolExecutor(1, "checkpoint-writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        if kind is None:
            self._wait()

    def save(self, state: Mapping[str, Any], metrics: Mapping[str, float], epoch: int, timestamp_ms: int) -> None:
        """Start to write an epoch (counted from 1), after the one before is written.

        The state must not change after this call. The metrics get the time stamp, Unix time in milliseconds.
        """
        self._wait()
        self._pending = self._executor.submit(self._write, state, metrics, epoch, timestamp_ms)

    def _wait(self) -> None:
        if self._pending:
            self._pending.result()

    def _write(self, state: Mapping[str, Any], metrics: Mapping[str, float], epoch: int, timestamp_ms: int) -> None:
        write_state(state, self._checkpoint)
        mlflow_runs.log_metrics(self._run_id, metrics, epoch, timestamp_ms)
