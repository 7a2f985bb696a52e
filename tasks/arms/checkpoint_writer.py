"""What every epoch leaves behind, written while the next one trains: the checkpoint first, then MLflow's metrics.

What is logged can be resumed, and is then logged again unchanged.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.arms import mlflow_runs
from tasks.runtime.atomic_files import write_state


class AsyncCheckpointWriter:
    """Writes one epoch at a time; what goes wrong is raised at the next epoch, or at the end."""

    def __init__(self, run_id: str, checkpoint: Path) -> None:
        self._run_id, self._checkpoint = run_id, checkpoint
        self._writer = ThreadPoolExecutor(1, "keeper")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        if kind is None:
            self._wait()

    def keep(self, state: Mapping[str, Any], metrics: Mapping[str, float], epoch: int, timestamp_ms: int) -> None:
        """Write an epoch; the state must not change any more. Waits for the epoch before to be written."""
        self._wait()
        self._writing = self._writer.submit(self._write, state, metrics, epoch, timestamp_ms)

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()

    def _write(self, state: Mapping[str, Any], metrics: Mapping[str, float], epoch: int, timestamp_ms: int) -> None:
        write_state(state, self._checkpoint)
        mlflow_runs.log_metrics(self._run_id, metrics, epoch, timestamp_ms)
