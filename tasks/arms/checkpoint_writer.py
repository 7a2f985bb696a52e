"""An asynchronous checkpoint writer: while the next epoch trains, it writes the checkpoint, then sends the metrics.

In this order, every epoch whose metrics are in MLflow can be resumed. Metrics that are not known to be in MLflow are in
the checkpoint too: a server that is away holds up no training, and neither it nor a kill loses an epoch.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.arms import mlflow_runs
from tasks.runtime.atomic_files import write_state
from tasks.runtime.part_errors import is_away

UNSENT = "unsent"
"""In a checkpoint: (time stamp in milliseconds, metrics) by epoch, of those that MLflow may not have."""

Unsent = dict[int, tuple[int, Mapping[str, float]]]


class AsyncCheckpointWriter:
    """Writes one epoch at a time in a background thread, and sends the metrics of written ones in another.

    As a context manager, it returns at the end when all is written and sent. An error is raised at the next epoch, or
    at the end; that MLflow's server is away is none before the end.

    Args:
        run_id: of the MLflow run.
        checkpoint: the file to write.
        unsent: metrics that an earlier process may not have sent. Sent again they change nothing.
    """

    def __init__(self, run_id: str, checkpoint: Path, unsent: Unsent | None = None) -> None:
        self._run_id, self._checkpoint = run_id, checkpoint
        self._unsent: Unsent = dict(unsent or {})
        self._writer, self._sender = (ThreadPoolExecutor(1, name) for name in ("checkpoint-writer", "metrics-sender"))
        self._writing: Future[None] | None = None
        self._sending: Future[None] | None = None

    def __enter__(self) -> Self:
        self._start_sending()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        self._sender.shutdown()
        if kind is None:
            self._wait_for_write()
            self._send()

    def save(self, state: Mapping[str, Any], metrics: Mapping[str, float], epoch: int, timestamp_ms: int) -> None:
        """Start to write an epoch (counted from 1), after the one before is written.

        The state must not change after this call. The metrics get the time stamp, Unix time in milliseconds.
        """
        self._wait_for_write()
        self._raise_if_refused()
        self._writing = self._writer.submit(self._write, state, epoch, (timestamp_ms, metrics))

    def _wait_for_write(self) -> None:
        if self._writing:
            self._writing.result()

    def _raise_if_refused(self) -> None:
        failed = self._sending.exception() if self._sending and self._sending.done() else None
        if failed and not is_away(failed):
            raise failed

    def _write(self, state: Mapping[str, Any], epoch: int, row: tuple[int, Mapping[str, float]]) -> None:
        write_state({**state, UNSENT: {**self._unsent, epoch: row}}, self._checkpoint)
        self._unsent[epoch] = row  # not before: the sender takes what it finds here
        self._start_sending()

    def _start_sending(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = self._sender.submit(self._send)

    def _send(self) -> None:
        while self._unsent:
            epoch = min(self._unsent)
            timestamp_ms, metrics = self._unsent[epoch]
            mlflow_runs.log_metrics(self._run_id, metrics, epoch, timestamp_ms)
            del self._unsent[epoch]
