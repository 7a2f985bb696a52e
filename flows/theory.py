"""The theory flow: compare the theory of two papers with what direct computation finds.

Transfer between tasks: Figure 3 with every solver, and its map; Propositions 1 and 3; Theorem 2; Figure 2;
classification and ReLU. Data augmentation: what a transformed sample and mixup do to the risk of ridge regression.
"""

import time
from pathlib import Path

from pydantic import Field

from data_prep.settings import Seed
from flows.settings import FlowSettings
from tasks.arms.mlflow_runs import parent_run
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.runtime.settings import AbsolutePath
from tasks.theory.augmentation_computations import AugmentationSettings, augmentation_computations
from tasks.theory.computations import ComputationsSettings, transfer_computations
from tasks.theory.digits import read_digits
from tasks.theory.parts import compute
from tasks.theory.report import report_theory


class TheorySettings(FlowSettings):
    """Settings of the computations of both papers, and the number of seeds."""

    experiments: ComputationsSettings = Field(
        ComputationsSettings(), description="settings of the computations on transfer between tasks"
    )
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="settings of the computations on data augmentation"
    )
    digits: AbsolutePath | None = Field(
        None,
        description="folder with MNIST's two files of its training or test part, such as t10k-images-idx3-ubyte.gz; "
        "none: the part on digits is left out",
    )
    seed: Seed = Field(0, description="first seed, for data, noise and random starting points")
    seeds: int = Field(
        20, ge=1, le=1000, description="number of seeds, counted up from the first; intervals need at least two"
    )
    seeds_of_slow: int = Field(
        10,
        ge=1,
        le=1000,
        description="number of seeds for the slowest computations: the map, and Figure 3 for nonlinear tasks",
    )

    @property
    def title(self) -> str:
        """See the base class."""
        return f"theory · {self.seeds} seeds"


@pipeline("theory")
def theory(settings: TheorySettings = TheorySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run the computations and return the report's path. Parts that were computed before are reused."""
    begun = time.monotonic()
    folder = prepare_run_folder(out, "theory", settings, force)
    seeds, seeds_of_slow = (range(settings.seed, settings.seed + n) for n in (settings.seeds, settings.seeds_of_slow))
    digits = read_digits(settings.digits) if settings.digits else None
    computations = transfer_computations(settings.experiments, seeds, seeds_of_slow)
    computations |= augmentation_computations(settings.augmentation, digits, seeds)
    with parent_run("study", settings.title, settings) as run_id:
        results, reused = compute(computations)
        config = settings.model_dump(mode="json")
        return report_theory(results, reused, settings.experiments, digits, config, run_id, begun, folder)
