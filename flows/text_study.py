"""What the studies on texts share: arms planned, trained, compared and reported."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from flows.settings import FlowSettings
from tasks.arms.base import ArmRef
from tasks.arms.mlflow_runs import study_run
from tasks.arms.runner import RunnerSettings
from tasks.data.texts import GlueData, SentimentData
from tasks.records.study import ArmRecord
from tasks.text.arm import train_text_arms
from tasks.text.plan import Experiment, TextMethod, plan_texts, with_sources
from tasks.text.report import publish_report
from tasks.text.study import compare_texts


class TextStudySettings(FlowSettings):
    """The settings that every study on texts has."""

    align: Literal["free", "rotation"] = Field(
        "free", description="each task's matrix in front of the shared encoder, in the arms that align"
    )
    control: bool = Field(
        False,
        description="in pairs and together, train each task alone behind a matrix of its own too: what that gains is "
        "not gained by aligning tasks",
    )
    seed: int = Field(0, ge=0, description="first training seed: initial weights, order, dropout")
    seeds: int = Field(3, ge=1, description="arms of each kind, with seeds that count up from the first")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time")


def run_text_study(
    settings: TextStudySettings,
    data: SentimentData | GlueData,
    experiments: Sequence[Experiment],
    how: TextMethod,
    title: str,
    folder: Path,
) -> Path:
    """Train the arms of the experiments, compare them and report into `folder`; returns the report's path.

    data: with their folder.
    """
    begun = time.monotonic()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    threads = settings.runner.threads_of_an_arm(settings.device)
    plan = plan_texts(data, experiments, how, seeds, settings.device, threads)
    with study_run(title, settings) as run_id:
        done: dict[str, ArmRef] = {}
        failed: list[ArmRecord] = []
        for stage in plan.stages:
            finished, diverged = train_text_arms(with_sources(stage, done), run_id, settings.runner)
            done |= finished
            failed += diverged
        results = compare_texts(settings.model_dump(mode="json"), data, plan, done, failed, begun, folder)
        return publish_report(results, run_id)
