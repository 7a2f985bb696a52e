"""The computations of the theory of transfer between tasks: one per figure or statement of the paper.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

from pydantic import Field, model_validator

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
from tasks.runtime.settings import Settings
from tasks.theory.parts import Computation


class ComputationsSettings(Settings):
    """Settings of the computations of the theory of transfer."""

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


def transfer_computations(settings: ComputationsSettings, seeds: range, seeds_of_slow: range) -> dict[str, Computation]:
    """Return the computations by name, to run for all `seeds`, those in `SLOW` for `seeds_of_slow`."""
    return {
        name: Computation(
            settings.model_dump(mode="json", include=set(fields)),
            partial(run, settings),
            seeds_of_slow if name in SLOW else seeds,
        )
        for name, (fields, run) in COMPUTATIONS.items()
    }
