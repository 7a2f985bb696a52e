"""The common steps of the image flows (study, train): plan, train, compare and report."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from data_prep.labels.adjudicated import read_adjudicated
from data_prep.labels.splits import SplitSettings
from data_prep.noise.protocols import ProtocolSettings
from flows.ingest import prepare_store
from flows.settings import FlowSettings
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms.base import ArmRef
from tasks.arms.mlflow_runs import study_run
from tasks.arms.runner import RunnerSettings
from tasks.data.ingest import DataSettings, StoreRef, check_images
from tasks.images.arm import train_image_arms
from tasks.images.compare import compare_arms
from tasks.images.plan import plan_arms
from tasks.images.report import publish_report
from tasks.images.spec import ImageArm
from tasks.records.study import CheckRecord


class ImageStudySettings(FlowSettings):
    """Settings that the image flows share."""

    data: DataSettings = Field(DataSettings(), description="images and labels")
    adjudicated: Path | None = Field(
        None,
        description="table of radiologist-adjudicated labels; test images in it are scored with the data's labels "
        "and with these",
    )
    split: SplitSettings = Field(SplitSettings(), description="split of the patients into train, validation and test")
    network: NetworkSettings = Field(NetworkSettings(), description="the shared network")
    training: TrainingSettings = Field(TrainingSettings(), description="how each network is trained")
    seed: int = Field(
        0, ge=0, description="first training seed, for initial weights, order of the images, augmentation, noise masks"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device to train on: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time, and where")

    @field_validator("adjudicated")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().resolve()

    def describe(self, methods: Sequence[WeightingSettings], noise: str) -> str:
        """Describe a study in one line, for the name of its MLflow run."""
        names = ", ".join(method.name for method in methods) if len(methods) <= 4 else f"{len(methods)} methods"
        return f"{self.data.name} {self.data.size} px · {self.network.backbone} · {names} · {noise}"


def run_image_study(
    settings: ImageStudySettings,
    folder: Path,
    title: str,
    methods: Sequence[WeightingSettings],
    protocol: ProtocolSettings,
    seeds: int,
    baseline: str,
) -> tuple[Path, list[ArmRef]]:
    """Train methods x noise conditions x seeds on the same images, compare with the baseline, and write the report.

    Args:
        settings: of the run, as recorded in MLflow and in the results.
        folder: for the results.
        title: of the study's MLflow run.
        methods: the task weightings.
        protocol: gives the noise conditions.
        seeds: number of seeds, counted up from the settings' seed.
        baseline: name of the method with which the others are compared.

    Returns:
        The path of the report, and the finished arms.
    """
    begun = time.monotonic()
    store, checks, arms, population_size = plan_image_study(settings, folder, methods, protocol, seeds)
    with study_run(title, settings) as run_id:
        done, failed = train_image_arms(arms, run_id, settings.runner)
        results = compare_arms(
            settings.model_dump(mode="json"),
            store,
            checks,
            settings.split,
            done,
            failed,
            baseline,
            population_size,
            settings.adjudicated,
            begun,
            folder,
        )
        return publish_report(results, store, settings.split, run_id), done


def plan_image_study(
    settings: ImageStudySettings,
    folder: Path,
    methods: Sequence[WeightingSettings],
    protocol: ProtocolSettings,
    seeds: int,
) -> tuple[StoreRef, tuple[CheckRecord, ...], list[ImageArm], int | None]:
    """Prepare and check the store, and list the arms.

    Args:
        settings: of the run.
        folder: for the noise masks.
        methods: the task weightings.
        protocol: gives the noise conditions.
        seeds: number of seeds, counted up from the settings' seed.

    Returns:
        The store; its checks; the arms; and the number of conditions from which the study's conditions were drawn at
        random, None if they were not drawn.
    """
    if settings.adjudicated:
        read_adjudicated(settings.adjudicated)  # an unreadable table is an error now, not after hours of training
    store = prepare_store(settings.data)
    checks = check_images(settings.data, store)
    arms, population_size = plan_arms(
        store,
        settings.split,
        protocol,
        methods,
        settings.network,
        settings.training,
        settings.seed,
        seeds,
        settings.device,
        settings.runner.threads_per_arm(settings.device),
        folder / "noise",
    )
    return store, checks, arms, population_size
