"""How much a source changes the target's error, for several solvers: the quantity of Figure 3.

The relative change is (error of task 1 trained with the source) / (error of task 1 trained without it) - 1, where the
error is the expected squared error on new inputs beyond the label noise (`models.theory.linear_tasks.excess_error`). A
negative change is positive transfer. If the label noise were included, the change would be closer to 0 and have the
same sign. With shared width r = 1 the problem is not convex, and the sign depends on the solver:

    optimum             the global optimum, exact (`models.theory.two_tasks`)
    descent             gradient flow from a random start to its end (`models.theory.gradient_flow`)
    descent, N steps    the same, stopped after N gradient steps of the largest stable size
    alternating, N      alternating least squares from the target's single-task solution, N sweeps

Shapes: p pairs of tasks, d dimensions.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from models.settings import Settings
from models.theory.formulas import expected_single_task_error, predicted_excess_error
from models.theory.gradient_flow import integrate, random_starts
from models.theory.linear_tasks import Figure3Data, Floats, Pair, Weights, excess_error, stream
from models.theory.two_tasks import TwoTasks

Scaling = Literal["samples", "tasks"]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
OPTIMUM, DESCENT = "optimum", "descent"
SINGLE_TASK, MINIMA = "alone", "minima"


class SolverSettings(Settings):
    """Settings of the solvers that are compared with the global optimum, and the scaling of the loss."""

    scaling: Scaling = Field(
        "samples",
        description="samples: sum over samples, so that a large source weighs more; tasks: sum of the tasks' means",
    )
    steps: tuple[Count, ...] = Field(
        (1000, 100_000),
        max_length=100,
        description="numbers of gradient steps at which descent is evaluated, besides its end",
    )
    sweeps: tuple[Count, ...] = Field((100, 10_000), max_length=100, description="sweeps of alternating least squares")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all solvers, in the order of the report."""
        steps = (f"descent, {steps:,} steps" for steps in sorted(self.steps))
        return (OPTIMUM, DESCENT, *steps, *(f"alternating, {sweeps:,}" for sweeps in sorted(self.sweeps)))


def relative_changes(
    data: Figure3Data, cosine: float, norm: float, noise: float, solvers: SolverSettings, seed: int
) -> dict[str, dict[tuple[int, int], float]]:
    """Return the relative change of task 1's error for every solver and source.

    Args:
        data: the tasks' inputs and noise.
        cosine: of the angle between theta_1 and theta_2.
        norm: length of theta_1 and theta_2.
        noise: standard deviation of the label noise.
        solvers: which solvers, and the scaling of the loss.
        seed: of the random start of descent.

    Returns:
        Solver -> (source, its number of samples) -> relative change. Two more keys instead of a solver: `SINGLE_TASK`,
        the excess error of task 1 without a source; `MINIMA`, the number of local minima of the two-task loss.
    """
    theta_1, theta_2 = data.thetas(cosine, norm)
    sources = list(data.sources.values())
    p, target = len(sources), data.target
    target_cross = target.cross(theta_1, noise)
    grams = (np.repeat(target.gram[None], p, 0), np.stack([source.gram for source in sources]))
    crosses = (np.repeat(target_cross[None], p, 0), np.stack([source.cross(theta_2, noise) for source in sources]))
    weights: Weights = (1.0, 1.0)
    if solvers.scaling == "tasks":
        weights = (1.0, np.array([target.samples / source.samples for source in sources]))
    thetas, minima = _solve(grams, crosses, weights, solvers, seed)
    single_task = np.asarray(np.linalg.solve(target.gram, target_cross))
    single_task_error = float(excess_error(single_task, theta_1, target.covariance))
    by_solver = {SINGLE_TASK: [single_task_error] * p, MINIMA: minima}
    for name, theta in thetas.items():
        by_solver[name] = (excess_error(theta, theta_1, target.covariance) / single_task_error - 1).tolist()
    return {name: dict(zip(data.sources, values, strict=True)) for name, values in by_solver.items()}


def with_text_keys(changes: Mapping[str, Mapping[tuple[int, int], float]]) -> dict[str, dict[str, float]]:
    """Write each source and its number of samples as text, such as '3 100', which may be a key of JSON."""
    return {
        solver: {f"{source} {samples}": change for (source, samples), change in by_source.items()}
        for solver, by_source in changes.items()
    }


def _solve(
    grams: Pair, crosses: Pair, weights: Weights, solvers: SolverSettings, seed: int
) -> tuple[Mapping[str, Floats], list[float]]:
    """Return the first tasks' theta, (p, d), by name of the solver, and each pair's number of local minima."""
    pairs = TwoTasks.from_grams(grams, crosses, weights)
    minima = pairs.local_minima()
    optimum, _ = pairs.parameters(np.array([ratios[0] for ratios in minima]))
    p, d = crosses[0].shape
    steps, sweeps = sorted(solvers.steps), sorted(solvers.sweeps)
    start = random_starts(stream(seed, "start of plain descent"), p, d)
    *stopped, end = integrate(grams, crosses, start, [*steps, np.inf], weights)
    alternating = [theta for theta, _ in pairs.alternating_least_squares(sweeps)] if sweeps else []
    thetas = dict(zip(solvers.names, [optimum, end, *stopped, *alternating], strict=True))
    return thetas, [float(len(ratios)) for ratios in minima]


def predicted_changes(data: Figure3Data, cosine: float, norm: float, noise: float) -> dict[tuple[int, int], float]:
    """Return the relative changes at the global optimum that `models.theory.formulas.predicted_excess_error` predicts.

    Arguments and keys are those of `relative_changes`; of the data only covariances and numbers of samples are used.
    """
    theta_1, theta_2 = data.thetas(cosine, norm)
    target = data.target
    single_task_error = expected_single_task_error(target.samples, len(theta_1), noise)
    changes = {}
    for key, source in data.sources.items():
        both = (target.covariance, target.samples), (source.covariance, source.samples)
        changes[key] = predicted_excess_error(*both, theta_2 - theta_1, noise) / single_task_error - 1
    return changes
