"""An arm whose epochs a test allows one by one; run as a program: FOLDER, in which `epoch-1` allows the first."""

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tasks.arms.base import BaseArm, OnStep, ResumableEpochs, log_results, train_or_reuse
from tasks.records.arms import ArmRecord, ConditionRecord
from tasks.records.scores import MeanRecord
from tasks.runtime.progress import configure_logging


class PacedArm(BaseArm):
    version: ClassVar[int] = 1
    epochs: ClassVar[int] = 6
    outputs: ClassVar[int] = 1
    method: str

    def hash_inputs(self) -> list[Any]:
        return ["paced", self.seed]

    def parameters(self) -> dict[str, Any]:
        return {"seed": self.seed}


ARM = PacedArm(method="paced", condition="clean", seed=0, device="cpu", threads=1)


def train_in(folder: Path) -> None:
    def train(run_id: str, on_step: OnStep) -> ArmRecord:
        epochs = ResumableEpochs(ARM, run_id)
        with epochs:
            for epoch in range(epochs.resumed_epochs + 1, ARM.epochs + 1):
                while not (folder / f"epoch-{epoch}").exists():
                    on_step(epoch, ARM.epochs)
                    time.sleep(0.02)
                epochs.save(epoch, {"loss": 1 / epoch}, {"epoch": epoch})
        mean = MeanRecord(value=None, lo=None, hi=None, reason="nothing was scored", labels=())
        record = ArmRecord(
            factors=ARM.factors, condition=ConditionRecord(name="clean"), seed=ARM.seed, by_label={}, mean=mean,
            best_epoch=1, items_per_second=None, seconds=epochs.seconds,
        )  # fmt: skip
        log_results(ARM, run_id, record, {"p": np.zeros(3)}, {"test": 0.5}, epochs.last_timestamp_ms)
        return record

    train_or_reuse(ARM, None, train)


if __name__ == "__main__":
    configure_logging()
    train_in(Path(sys.argv[1]))
