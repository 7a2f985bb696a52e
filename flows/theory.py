"""Theory: what is known about linear tasks, held against what optimisation finds, in one report.

Figure 3 by every solver and its map, Propositions 1 and 3, Theorem 2, Figure 2, classification and ReLU.
"""

import time
from pathlib import Path

from prefect import flow
from pydantic import Field

from flows.settings import FlowSettings
from tasks.arms.mlflow_runs import study_run
from tasks.runtime.run_folder import prepare_run_folder
from tasks.theory.experiments import TheoryExperimentsSettings, compute
from tasks.theory.report import report_theory


class TheorySettings(FlowSettings):
    """Which experiments, and over how many seeds."""

    experiments: TheoryExperimentsSettings = Field(
        TheoryExperimentsSettings(), description="every number of the experiments"
    )
    seed: int = Field(0, ge=0, description="first seed: data, noise, random starts")
    seeds: int = Field(20, ge=1, description="seeds, counting up from the first; intervals need two")
    seeds_of_slow: int = Field(10, ge=1, description="seeds of the map and of Figure 3 with links, which take longest")


@flow(name="theory")
def theory(settings: TheorySettings = TheorySettings(), out: Path | None = None, force: bool = False) -> Path:
    """Run the experiments; returns the path of the report. What was computed before is reused."""
    begun = time.monotonic()
    folder = prepare_run_folder(out, "theory", settings, force)
    seeds, of_slow = (range(settings.seed, settings.seed + n) for n in (settings.seeds, settings.seeds_of_slow))
    with study_run(f"theory · {settings.seeds} seeds", settings) as run_id:
        found, reused = compute(settings.experiments, seeds, of_slow)
        config = settings.model_dump(mode="json")
        return report_theory(found, reused, settings.experiments, config, run_id, begun, folder)
