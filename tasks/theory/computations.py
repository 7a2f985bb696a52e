"""The computations of the theory: one per figure or statement of the paper, run for every seed and cached on disk."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data_prep.errors import DataError
from data_prep.json_file import read_json
from models.theory.linear_tasks import LinearSettings, Samples, draw_figure3_data
from models.theory.nonlinear_tasks import (
    LINKS,
    Figure2Settings,
    NonlinearFigure3Settings,
    NonlinearSettings,
    figure_2,
    nonlinear_figure_3,
)
from models.theory.propositions import CapacitySettings, Theorem2Settings, capacity, proposition_3, theorem_2
from models.theory.transfer import SolverSettings, predicted_changes, relative_changes, with_text_keys
from models.theory.transfer_map import MapSettings, map_rows
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interruptible
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings

PART_VERSION = 1  # raise it when the same settings give other results; stored parts are then not reused

Part = tuple[str, int]
"""The name of a computation and a seed."""


class ComputationsSettings(Settings):
    """Settings of all computations of the theory."""

    linear: LinearSettings = Field(LinearSettings(), description="tasks of Figure 3 and of the map")
    source_samples: tuple[Samples, ...] = Field(
        (100, 200, 500, 1000, 2000, 5000, 10_000),
        min_length=2,
        max_length=100,
        description="training samples of Figure 3's sources; every source has each size",
    )
    solvers: SolverSettings = Field(SolverSettings(), description="solvers of Figure 3")
    map: MapSettings = Field(MapSettings(), description="the map: Figure 3 under other settings")
    capacity: CapacitySettings = Field(
        CapacitySettings(), description="Propositions 1 and 3: shared width and optimal subspace"
    )
    theorem_2: Theorem2Settings = Field(
        Theorem2Settings(), description="Theorem 2: the error falls with the source's samples, then reaches a plateau"
    )
    fitting: NonlinearSettings = Field(
        NonlinearSettings(), description="classification and ReLU tasks, and the search for their solution"
    )
    figure_2: Figure2Settings = Field(
        Figure2Settings(), description="Figure 2: two sources with the same decision boundary"
    )
    linked_figure_3: NonlinearFigure3Settings = Field(
        NonlinearFigure3Settings(), description="Figure 3 with classification and ReLU tasks"
    )

    @model_validator(mode="after")
    def _cells_of_the_map_can_be_computed(self) -> Self:
        for samples in self.map.target_samples:
            LinearSettings.model_validate(self.linear.model_dump() | {"target_samples": samples})
        return self


def _figure_3(settings: ComputationsSettings, seed: int) -> Any:
    linear = settings.linear
    data = draw_figure3_data(linear, settings.source_samples, seed)
    changes = relative_changes(data, linear.cosine, linear.norm, linear.noise, settings.solvers, seed)
    predicted = predicted_changes(data, linear.cosine, linear.norm, linear.noise)
    return with_text_keys(changes | {"predicted": predicted})


COMPUTATIONS: dict[str, tuple[tuple[str, ...], Callable[[ComputationsSettings, int], Any]]] = {
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
        lambda s, seed: {link: nonlinear_figure_3(link, s.linked_figure_3, s.fitting, seed) for link in LINKS[1:]},
    ),
}
"""Computation -> the fields of the settings that it depends on, and its function of settings and seed.

The names are part of the stored parts' file names: do not change them.
"""

SLOW = ("map", "linked figure 3")
"""Computations that run for fewer seeds, because they take longest."""


@task(name="compute theory", cache_policy=NO_CACHE)
def compute(settings: ComputationsSettings, seeds: range, seeds_of_slow: range) -> tuple[dict[str, list[Any]], int]:
    """Run the computations for all `seeds`, those in `SLOW` for `seeds_of_slow`; parts already stored are only read.

    Returns:
        Computation -> its results, one per seed in the order of the seeds; and the number of parts that were reused.
    """
    parts = [(name, seed) for name in COMPUTATIONS for seed in (seeds_of_slow if name in SLOW else seeds)]
    stored = {part: result for part in parts if (result := _read(settings, part)) is not None}
    missing = [part for part in parts if part not in stored]
    if stored:
        LOGGER.info("%d of %d parts: reused from an earlier run", len(stored), len(parts))
    results = stored | _compute_all(settings, missing)
    return {name: [results[part] for part in parts if part[0] == name] for name in COMPUTATIONS}, len(stored)


def _compute_all(settings: ComputationsSettings, parts: list[Part]) -> dict[Part, Any]:
    """Compute the parts in parallel, one per processor: linear algebra of this size gains nothing from more threads."""
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


def _compute(settings: ComputationsSettings, part: Part) -> Any:
    """Compute a part, store it, and return it exactly as `_read` will return it from the file."""
    name, seed = part
    text = json.dumps(COMPUTATIONS[name][1](settings, seed), allow_nan=False)
    write_atomically(_path(settings, part), text.encode())
    return json.loads(text)


def _read(settings: ComputationsSettings, part: Part) -> Any | None:
    path = _path(settings, part)
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged: delete it, and run the command again to compute it anew") from error


def _path(settings: ComputationsSettings, part: Part) -> Path:
    """Return the file of a part; its name is a hash of all that determines the result."""
    name, seed = part
    fields = settings.model_dump(mode="json", include=set(COMPUTATIONS[name][0]))
    identity = json.dumps([PART_VERSION, name, seed, fields], sort_keys=True)
    return home().root / "theory" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
