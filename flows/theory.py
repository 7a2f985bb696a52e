"""The theory flow: compare the theory of transfer between linear tasks with the solutions that optimisation finds.

Figure 3 with every solver, and its map; Propositions 1 and 3; Theorem 2; Figure 2; classification and ReLU.
"""

import time
from pathlib import Path

from prefect import flow
from pydantic import Field

from data_prep.settings import Seed
from flows.settings import FlowSettings
from tasks.arms.mlflow_runs import study_run
from tasks.runtime.run_folder import prepare_run_folder
from tasks.theory.computations import ComputationsSettings, compute
from tasks.theory.report import report_theory


class TheorySettings(FlowSettings):
    """Settings of the computations, and the number of seeds."""

    experiments: ComputationsSettings = Field(ComputationsSettings(), description="settings of the computations")
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


@flow(name="theory")
def theory(settings: TheorySettings = TheorySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run the computations and return the report's path. Parts that were computed before are reused."""
    begun = time.monotonic()
    folder = prepare_run_folder(out, "theory", settings, force)
    seeds, seeds_of_slow = (range(settings.seed, settings.seed + n) for n in (settings.seeds, settings.seeds_of_slow))
    with study_run(f"theory · {settings.seeds} seeds", settings) as run_id:
        results, reused = compute(settings.experiments, seeds, seeds_of_slow)
        config = settings.model_dump(mode="json")
        return report_theory(results, reused, settings.experiments, config, run_id, begun, folder)
