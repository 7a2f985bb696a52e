"""How much a source changes the target's error, by the way in which the two are solved: Figure 3, and its map.

The relative change is (error of task 1 trained with the source) / (error of task 1 alone) - 1, with the expected error
on new inputs beyond the label noise (`models.theory.linear_tasks.excess_error`): negative is positive transfer. The same with
the noise counted in is nearer to 0 and of the same sign. With shared width r = 1 the problem is not convex, and the
sign depends on the solver:

    optimum             the global optimum, exact (`models.theory.two_tasks`)
    descent             gradient flow from a random start to its end (`models.theory.gradient_flow`)
    descent, N steps    the same, stopped after as many gradient steps of the largest stable length
    alternating, N      alternating least squares from the target's own solution, N sweeps

Shapes: p pairs, d dimensions.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from models.settings import Settings
from models.theory.formulas import expected_own_error, predicted_excess_error
from models.theory.gradient_flow import follow, random_starts
from models.theory.linear_tasks import Figure3, Floats, excess_error, stream
from models.theory.two_tasks import TwoTasks

Scaling = Literal["samples", "tasks"]
OPTIMUM, DESCENT = "optimum", "descent"
ALONE, MINIMA = "alone", "minima"


class SolverSettings(Settings):
    """Which solvers are compared beside the global optimum and the end of plain descent, and of what loss."""

    scaling: Scaling = Field(
        "samples", description="samples: sum over samples, a large source weighs more; tasks: sum of the tasks' means"
    )
    steps: tuple[int, ...] = Field((1000, 100_000), description="gradient steps after which descent is also looked at")
    sweeps: tuple[int, ...] = Field((100, 10_000), description="sweeps of alternating least squares")

    @property
    def names(self) -> tuple[str, ...]:
        """Of all solvers, in the order in which they are reported."""
        steps = (f"descent, {steps:,} steps" for steps in sorted(self.steps))
        return (OPTIMUM, DESCENT, *steps, *(f"alternating, {sweeps:,}" for sweeps in sorted(self.sweeps)))


def transfer(
    drawn: Figure3, cosine: float, norm: float, noise: float, solvers: SolverSettings, seed: int
) -> dict[str, dict[tuple[int, int], float]]:
    """Relative changes: solver -> (source, its samples) -> change; under `ALONE` the target's own excess error, under
    `MINIMA` how many local minima the loss of the two tasks has.
    """
    theta_1, theta_2 = drawn.thetas(cosine, norm)
    sources = list(drawn.sources.values())
    p, target = len(sources), drawn.target
    own_cross = target.cross(theta_1, noise)
    grams = (np.repeat(target.gram[None], p, 0), np.stack([source.gram for source in sources]))
    crosses = (np.repeat(own_cross[None], p, 0), np.stack([source.cross(theta_2, noise) for source in sources]))
    weights: tuple[Floats | float, Floats | float] = (1.0, 1.0)
    if solvers.scaling == "tasks":
        weights = (1.0, np.array([target.samples / source.samples for source in sources]))
    found, minima = solutions(grams, crosses, weights, solvers, seed)
    alone = float(excess_error(np.asarray(np.linalg.solve(target.gram, own_cross)), theta_1, target.covariance))
    changes = {
        name: dict(
            zip(drawn.sources, (excess_error(theta, theta_1, target.covariance) / alone - 1).tolist(), strict=True)
        )
        for name, theta in found.items()
    }
    aside = {ALONE: dict.fromkeys(drawn.sources, alone), MINIMA: dict(zip(drawn.sources, minima, strict=True))}
    return aside | changes


def solutions(
    grams: tuple[Floats, Floats],
    crosses: tuple[Floats, Floats],
    weights: tuple[Floats | float, Floats | float],
    solvers: SolverSettings,
    seed: int,
) -> tuple[Mapping[str, Floats], list[float]]:
    """theta of the first tasks, (p, d), by the name of the solver, and each pair's number of local minima."""
    pairs = TwoTasks.of(grams, crosses, weights)
    minima = pairs.minima()
    optimum, _ = pairs.parameters(np.array([ratios[0] for ratios in minima]))
    p, d = crosses[0].shape
    steps, sweeps = sorted(solvers.steps), sorted(solvers.sweeps)
    start = random_starts(stream(seed, "start of plain descent"), p, d)
    *stopped, end = follow(grams, crosses, start, [*steps, np.inf], weights)
    alternating = [theta for theta, _ in pairs.alternate(sweeps)] if sweeps else []
    found = dict(zip(solvers.names, [optimum, end, *stopped, *alternating], strict=True))
    return found, [float(len(ratios)) for ratios in minima]


def predicted_changes(drawn: Figure3, cosine: float, norm: float, noise: float) -> dict[tuple[int, int], float]:
    """What `models.theory.formulas.predicted_excess_error` expects at the global optimum, relative to the target alone."""
    theta_1, theta_2 = drawn.thetas(cosine, norm)
    target = drawn.target
    own = expected_own_error(target.samples, len(theta_1), noise)
    return {
        key: predicted_excess_error(
            (target.covariance, target.samples), (source.covariance, source.samples), theta_2 - theta_1, noise
        )
        / own
        - 1
        for key, source in drawn.sources.items()
    }
