"""The common steps of the text studies (glue, sentiment): plan, train, compare and report."""

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
from tasks.text.compare import compare_texts
from tasks.text.plan import Experiment, TextPlanSettings, plan_texts, resolve_sources
from tasks.text.report import publish_report


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
    seed: int = Field(0, ge=0, description="first training seed, for initial weights, order of the texts, dropout")
    seeds: int = Field(
        3, ge=1, description="number of seeds, counted up from the first; each arm is trained with every one"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device to train on: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time, and where")


def run_text_study(
    settings: TextStudySettings,
    data: SentimentData | GlueData,
    experiments: Sequence[Experiment],
    plan_settings: TextPlanSettings,
    title: str,
    folder: Path,
) -> Path:
    """Train the arms of the comparisons, compare them, and write the report.

    Args:
        settings: of the study, as recorded in MLflow and in the results.
        data: the tasks, with the folder of their files.
        experiments: the comparisons to run.
        plan_settings: from which the arms are planned.
        title: of the study's MLflow run.
        folder: for the results.

    Returns:
        The path of the report.
    """
    begun = time.monotonic()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    threads = settings.runner.threads_per_arm(settings.device)
    plan = plan_texts(data, experiments, plan_settings, seeds, settings.device, threads)
    with study_run(title, settings) as run_id:
        done: dict[str, ArmRef] = {}
        failed: list[ArmRecord] = []
        for stage in plan.stages:
            finished, diverged = train_text_arms(resolve_sources(stage, done), run_id, settings.runner)
            done |= finished
            failed += diverged
        results = compare_texts(settings.model_dump(mode="json"), data, plan, done, failed, begun, folder)
        return publish_report(results, run_id)
