"""The common steps of the text studies (glue, sentiment): plan, train, compare and report."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_prep.settings import Seed
from flows.settings import FlowSettings
from models.training.fabric import check_device
from tasks.arms.runner import RunnerSettings, check_runner
from tasks.data.texts import GlueData, SentimentData
from tasks.engine.study import run_study
from tasks.text.kind import TextKind
from tasks.text.plan import Experiment, TextPlanSettings, plan_texts


class TextStudySettings(FlowSettings):
    """Settings that all text studies share."""

    align: Literal["free", "rotation"] = Field(
        "free",
        description="kind of the tasks' alignment matrices before the shared encoder, in arms with alignment: any "
        "matrix (free), or a rotation",
    )
    control: bool = Field(
        False,
        description="for pairs and together, also train a single task with its own alignment matrix (capacity "
        "control); its gain over a plain single task does not come from aligning tasks",
    )
    seed: Seed = Field(0, description="first training seed, for initial weights, order of the texts, dropout")
    seeds: int = Field(
        3, ge=1, le=1000, description="number of seeds, counted up from the first; each arm is trained with every one"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device to train on: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time, and where")

    def check_before_download(self) -> None:
        """Check what needs no text: the task runner and the device.

        Raises:
            DataError: the task runner is not installed.
            SettingError: there is no such device.
        """
        check_runner(self.runner)
        if self.runner.kind == "threads":  # the machines of a Ray cluster may have other devices than this one
            check_device(self.device)


def run_text_study(
    settings: TextStudySettings,
    data: SentimentData | GlueData,
    experiments: Sequence[Experiment],
    plan_settings: TextPlanSettings,
    folder: Path,
) -> Path:
    """Train the arms of the comparisons, compare them, and return the path of the report in `folder`.

    The settings are recorded in MLflow and in the results; the data need the folder of their files.
    """
    begun = time.monotonic()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    threads = settings.runner.threads_per_arm(settings.device)
    plan = plan_texts(data, experiments, plan_settings, seeds, settings.device, threads)
    report, _ = run_study(
        TextKind(data), plan, settings, settings.runner, title=settings.title, folder=folder, begun=begun
    )
    return report
