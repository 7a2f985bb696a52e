"""The theory's experiments, part by part and seed by seed; a part that was computed is not computed again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from models.theory.linear_tasks import LinearSettings, draw_figure3
from models.theory.nonlinear_tasks import (
    LINKS,
    Figure2Settings,
    NonlinearFigure3Settings,
    NonlinearSettings,
    figure_2,
    linked_figure_3,
)
from models.theory.propositions import CapacitySettings, Theorem2Settings, capacity, proposition_3, theorem_2
from models.theory.transfer import SolverSettings, predicted_changes, transfer
from models.theory.transfer_map import MapSettings, map_rows
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interruptible
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings

PART_VERSION = 1  # a change to what the same settings compute must raise it

Part = tuple[str, int]
"""The name of an experiment and a seed."""


class TheoryExperimentsSettings(Settings):
    """Every number of the theory's experiments."""

    linear: LinearSettings = Field(LinearSettings(), description="Figure 3's tasks")
    source_samples: tuple[int, ...] = Field(
        (100, 200, 500, 1000, 2000, 5000, 10_000), min_length=2, description="training samples of Figure 3's sources"
    )
    solvers: SolverSettings = Field(SolverSettings(), description="by which Figure 3 is solved")
    map: MapSettings = Field(MapSettings(), description="where Figure 3's picture holds")
    capacity: CapacitySettings = Field(CapacitySettings(), description="Propositions 1 and 3")
    theorem_2: Theorem2Settings = Field(Theorem2Settings(), description="Theorem 2's fall and plateau")
    fitting: NonlinearSettings = Field(NonlinearSettings(), description="classification and ReLU tasks")
    figure_2: Figure2Settings = Field(Figure2Settings(), description="two sources with the same boundary")
    linked_figure_3: NonlinearFigure3Settings = Field(
        NonlinearFigure3Settings(), description="Figure 3's tasks with a link"
    )


def _figure_3(settings: TheoryExperimentsSettings, seed: int) -> Any:
    linear = settings.linear
    drawn = draw_figure3(linear, settings.source_samples, seed)
    changes = transfer(drawn, linear.cosine, linear.norm, linear.noise, settings.solvers, seed)
    predicted = predicted_changes(drawn, linear.cosine, linear.norm, linear.noise)
    return {name: _flat(of_solver) for name, of_solver in (changes | {"predicted": predicted}).items()}


def _flat(by_source: Mapping[tuple[int, int], float]) -> dict[str, float]:
    return {f"{source} {samples}": value for (source, samples), value in by_source.items()}


EXPERIMENTS: dict[str, tuple[tuple[str, ...], Callable[[TheoryExperimentsSettings, int], Any]]] = {
    "figure 3": (("linear", "source_samples", "solvers"), _figure_3),
    "map": (("linear", "map"), lambda s, seed: list(map_rows(s.linear, s.map, seed))),
    "capacity": (("capacity",), lambda s, seed: capacity(s.capacity, seed)),
    "proposition 3": (("capacity",), lambda s, seed: proposition_3(s.capacity, seed)),
    "theorem 2": (("theorem_2",), lambda s, seed: theorem_2(s.theorem_2, seed)),
    "figure 2": (
        ("fitting", "figure_2"),
        lambda s, seed: {link: figure_2(link, s.figure_2, s.fitting, seed) for link in LINKS},
    ),
    "linked figure 3": (
        ("fitting", "linked_figure_3"),
        lambda s, seed: {link: linked_figure_3(link, s.linked_figure_3, s.fitting, seed) for link in LINKS[1:]},
    ),
}
"""By name: the settings that it depends on, and what it computes for a seed."""

SLOW = ("map", "linked figure 3")


@task(name="compute theory", cache_policy=NO_CACHE)
def compute(
    settings: TheoryExperimentsSettings, seeds: range, seeds_of_slow: range
) -> tuple[dict[str, list[Any]], int]:
    """Every experiment for every seed, or for `seeds_of_slow`: name -> what it found by seed, and how many parts were
    there already.
    """
    parts = [(name, seed) for name in EXPERIMENTS for seed in (seeds_of_slow if name in SLOW else seeds)]
    known = {part: found for part in parts if (found := _read(settings, part)) is not None}
    missing = [part for part in parts if part not in known]
    if known:
        LOGGER.info("%d of %d parts: reused, computed before", len(known), len(parts))
    found = known | _compute_all(settings, missing)
    return {name: [found[part] for part in parts if part[0] == name] for name in EXPERIMENTS}, len(known)


def _compute_all(settings: TheoryExperimentsSettings, parts: list[Part]) -> dict[Part, Any]:
    """One part on each processor at a time: linear algebra of this size gains nothing from more threads."""
    done: dict[Part, Any] = {}
    with (
        progress("theory") as update,
        interruptible() as raise_if_stopped,
        threadpool_limits(1),
        ThreadPoolExecutor(processors()) as pool,
    ):
        futures = {pool.submit(_compute, settings, part): part for part in parts}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                update(len(done), len(parts))
                raise_if_stopped()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _compute(settings: TheoryExperimentsSettings, part: Part) -> Any:
    """Compute a part, keep it, and return it as it will be read again."""
    name, seed = part
    text = json.dumps(EXPERIMENTS[name][1](settings, seed), allow_nan=False)
    write_atomically(_path(settings, part), text.encode())
    return json.loads(text)


def _read(settings: TheoryExperimentsSettings, part: Part) -> Any | None:
    try:
        return json.loads(_path(settings, part).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _path(settings: TheoryExperimentsSettings, part: Part) -> Path:
    """Where a part is kept: named by all that determines it."""
    name, seed = part
    fields = {field: getattr(settings, field) for field in EXPERIMENTS[name][0]}
    plain = {
        key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value for key, value in fields.items()
    }
    identity = json.dumps([PART_VERSION, name, seed, plain], sort_keys=True)
    return home().root / "theory" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
