"""A kind of study for tests: linear regression on arrays, with a metric of its own (RMSE, lower is better).

All that a kind must say stands here; planning, resuming, reuse, comparing and reporting are the engine's.
"""

import os
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import torch
from prefect import flow
from pydantic import BaseModel

from models.evaluation.auc import Evaluation, Score
from models.training.loop import EpochReport, Trainer
from tasks.arms.base import BaseArm
from tasks.arms.runner import RunnerSettings
from tasks.engine.kind import Kind, Report, Scored
from tasks.engine.plan import Plan, against_baseline
from tasks.engine.study import run_study
from tasks.records.data import DataRecord, SplitRecord
from tasks.records.study import read_results
from tasks.runtime.run_folder import prepare_run_folder

EPOCHS, STEPS = 4, 20
DIE_AFTER = "DIE_AFTER_EPOCH"  # environment variable: ends the process as a power cut would


class ArrayArm(BaseArm):
    version: ClassVar[int] = 1
    factor_fields: ClassVar = ("method", "condition", "features")
    outputs: ClassVar[int] = 1
    epochs: ClassVar[int] = EPOCHS
    method: str
    features: str = "all"

    def hash_inputs(self):
        return ["arrays", self.method, self.condition, self.seed]

    def parameters(self):
        return dict(self.factors)


@dataclass(frozen=True)
class Epoch(EpochReport):
    val_scores: float


class Regression(Trainer):
    report_type, remedy, higher_is_better, total_steps = Epoch, "lower the rate", False, EPOCHS * STEPS
    epochs_trained: ClassVar[list[int]] = []
    settings = SimpleNamespace(epochs=EPOCHS, learning_rate=0.1, warmup=0, decay="none")

    def __init__(self, arm):
        rng = np.random.default_rng(0)
        x = {part: rng.normal(size=(n, 6)) for part, n in (("train", 40), ("val", 30), ("test", 60))}
        y = {part: values @ np.arange(6) + rng.normal(size=len(values)) for part, values in x.items()}
        y["train"] += rng.normal(size=40) * (4 if arm.condition == "noisy" else 0)
        used = 6 if arm.features == "all" else 3
        self.x = {part: torch.tensor(values[:, :used], dtype=torch.float32) for part, values in x.items()}
        self.y = {part: torch.tensor(values, dtype=torch.float32) for part, values in y.items()}
        self.network = torch.nn.Linear(used, 1)
        torch.nn.init.normal_(self.network.weight, generator=torch.Generator().manual_seed(arm.seed))
        self.step = torch.optim.SGD(self.network.parameters(), lr=0.1, weight_decay=float(arm.method == "decay"))

    def train(self, epoch):
        def step(number):
            self.step.zero_grad()
            loss = (self.network(self.x["train"])[:, 0] - self.y["train"]).square().mean()
            loss.backward()
            self.step.step()
            return loss.detach()

        self.epochs_trained.append(epoch)
        self.read_losses(self.make_steps(range((epoch - 1) * STEPS, epoch * STEPS), step), epoch)
        return 40, {}

    def validate(self, epoch):
        return (self.rmse("val")[0],) * 2

    def determinants(self):
        return {"steps": self.total_steps}

    def rmse(self, part):
        """The root of the mean squared error, and the influence of each item on it."""
        squares = (self.network(self.x[part])[:, 0] - self.y[part]).square().detach().double().numpy()
        value = float(np.sqrt(squares.mean()))
        return value, (squares - value**2) / (2 * value * len(squares))


class ArrayKind(Kind):
    command, metric, score_name, higher_is_better, sampled = "regress", "RMSE", "rmse", False, "houses"
    report = Report(lambda results: "Does weight decay help?")

    def prepare(self, arm):
        return Regression(arm)

    def fit(self, arm, inputs, state, save, on_step):
        def on_epoch(report, state):
            if os.environ.get(DIE_AFTER) == str(report.epoch):
                time.sleep(1)  # the epoch before is written meanwhile
                os._exit(9)
            save(report.epoch, {"val_rmse": report.val_mean}, state)

        return inputs.fit(state, on_epoch, on_step)

    def score(self, arm, inputs, fitted):
        value, influence = inputs.rmse("test")
        half = 1.96 * float(np.sqrt(influence @ influence))
        score = Score(value, value - half, value + half)
        return Scored(Evaluation({"price": score}, score, ("price",)), ("price",), {"influence": influence})

    def data(self):
        split = SplitRecord(name="drawn", fingerprint="sha256:1")
        n = {"train": 40, "val": 30, "test": 60}
        return DataRecord(name="houses", fingerprint="sha256:0", labels=("price",), split=split, n=n, positives={})


class Settings(BaseModel):
    features: tuple[str, ...] = ("all",)


@flow(name="regress")
def regress(folder: Path, settings: Settings):
    cells = product(settings.features, ("clean", "noisy"), range(3), ("plain", "decay"))
    arms = tuple(ArrayArm(method=m, condition=c, features=f, seed=s, device="cpu", threads=1) for f, c, s, m in cells)
    plan = Plan(arms=arms, contrasts=against_baseline(arms, "plain"))
    folder, runner = prepare_run_folder(folder, "regress", settings, True), RunnerSettings(arms_at_once=1)
    run_study(ArrayKind(), plan, settings, runner, title="regression", folder=folder, begun=time.monotonic())
    return read_results(folder / "results.json")


if __name__ == "__main__":
    regress(Path(sys.argv[1]), Settings())
