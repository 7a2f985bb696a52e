"""Propositions 1 and 3 and Theorem 2, checked numerically on random tasks, for one seed.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944).

Shapes: m samples, d dimensions, k tasks, r width.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.formulas import largest_sine, optimal_subspace, theorem_2_bound, theorem_2_c
from models.theory.linear_tasks import Floats, Samples, draw_task, feature_scales, random_rotation, stream, two_thetas
from models.theory.many_tasks import single_task_solutions, solve_shared
from models.theory.two_tasks import TwoTasks


class CapacitySettings(Settings):
    """Settings of tasks whose thetas lie near a low-dimensional subspace, for Propositions 1 and 3."""

    tasks: int = Field(5, ge=2, le=100, description="k")
    directions: int = Field(
        2, ge=1, le=100, description="dimension of the subspace near which the thetas of the tasks lie"
    )
    apart: float = Field(
        0.15, ge=0, le=1e6, description="length of each theta's task-specific part, before theta is scaled to length 1"
    )
    dimensions: int = Field(12, ge=2, le=1000, description="d, inputs of every task")
    samples: int = Field(24, ge=3, le=10_000_000, description="training samples of each task, at least d + 2")
    noise: float = Field(1.0, gt=0, le=1e6, description="standard deviation of the label noise")
    starts: int = Field(8, ge=1, le=1000, description="random starts of the search below width k")
    beyond: int = Field(2, ge=0, le=100, description="number of widths above k to try")

    @model_validator(mode="after")
    def _tasks_are_determined(self) -> Self:
        if self.samples < self.dimensions + 2:
            raise ValueError(f"samples must be at least dimensions + 2; got {self.samples} for {self.dimensions}")
        return self


def capacity(settings: CapacitySettings, seed: int) -> list[dict[str, float]]:
    """Compare joint with single-task training for each shared width r (Proposition 1).

    Inputs are standard normal, so that ||theta_hat - theta||^2 is the excess prediction error too.

    Returns:
        For each width 1 to k + `beyond`: 'change', the sum over tasks of ||theta_hat - theta||^2 relative to
        single-task training, minus 1; 'off', the largest entry of |B A_i - single-task solution|.
    """
    thetas, inputs, labels = _draw_tasks(settings, seed)
    grams, crosses = np.einsum("kmi,kmj->kij", inputs, inputs), np.einsum("kmi,km->ki", inputs, labels)
    single_task = single_task_solutions(grams, crosses)
    single_task_error = float(((single_task - thetas) ** 2).sum())
    rows = []
    for width in range(1, settings.tasks + settings.beyond + 1):
        joint = solve_shared(grams, crosses, width, seed, settings.starts).parameters
        change = float(((joint - thetas) ** 2).sum()) / single_task_error - 1
        rows.append({"width": width, "change": change, "off": float(np.abs(joint - single_task).max())})
    return rows


def proposition_3(settings: CapacitySettings, seed: int) -> list[dict[str, float]]:
    """Compare the optimal span of Proposition 3 with the one found numerically, for each width r < k.

    The tasks share their inputs and have random weights between 1/2 and 2.

    Returns:
        For each width 1 to k - 1: 'sine', the sine of the largest principal angle between the two spans.
    """
    _, inputs, labels = _draw_tasks(settings, seed)
    generator = stream(seed, "proposition 3")
    shared_inputs = inputs[0] * 2.0 ** generator.uniform(-1, 1, settings.dimensions)
    weights = 2.0 ** generator.uniform(-1, 1, settings.tasks)
    gram, crosses = shared_inputs.T @ shared_inputs, labels @ shared_inputs
    grams = np.repeat(gram[None], settings.tasks, 0)
    rows = []
    for width in range(1, settings.tasks):
        numerical = solve_shared(grams, crosses, width, seed, settings.starts, weights).shared
        sine = largest_sine(optimal_subspace(shared_inputs, labels.T, weights, width), numerical)
        rows.append({"width": width, "sine": sine})
    return rows


def _draw_tasks(settings: CapacitySettings, seed: int) -> tuple[Floats, Floats, Floats]:
    """Draw thetas (d, k), standard normal inputs (k, m, d) and labels (k, m)."""
    generator = stream(seed, "capacity")
    d, k = settings.dimensions, settings.tasks
    common = generator.standard_normal((d, settings.directions)) @ generator.standard_normal((settings.directions, k))
    specific = generator.standard_normal((d, k))
    thetas = common / np.linalg.norm(common, axis=0) + settings.apart * specific / np.linalg.norm(specific, axis=0)
    thetas /= np.linalg.norm(thetas, axis=0)
    inputs = generator.standard_normal((k, settings.samples, d))
    noise = settings.noise * generator.standard_normal((k, settings.samples))
    return thetas, inputs, np.einsum("kmi,ik->km", inputs, thetas) + noise


class Theorem2Settings(Settings):
    """Settings for Theorem 2: the target is conditioned well enough for it, unlike Figure 3's."""

    dimensions: int = Field(20, ge=10, le=2000, multiple_of=10, description="d, a multiple of 10")
    target_samples: int = Field(
        200, ge=12, le=10_000_000, description="training samples of the target; its inputs are standard normal"
    )
    source_samples: tuple[Samples, ...] = Field(
        (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        min_length=2,
        max_length=100,
        description="training samples of the source",
    )
    source_condition: float = Field(
        3.0, ge=1, le=1e6, description="standard deviation of the source's d/10 large inputs"
    )
    norm: float = Field(2.0, gt=0, le=1e6, description="length of both thetas")
    noise: float = Field(1.0, gt=0, le=1e6, description="standard deviation of the label noise")
    cosine: float = Field(0.999, gt=0, lt=1, description="of the angle between them")


def theorem_2(settings: Theorem2Settings, seed: int) -> dict[str, float]:
    """Compare the target's error at the global optimum of width 1 with the bound of Theorem 2.

    Returns:
        The relative error ||theta_hat - theta|| / ||theta|| of the target without a source ('own') and by the source's
        number of samples, for instance '300'; 'c' of the theorem's condition; 'bound', which holds once the source has
        enough samples.
    """
    d = settings.dimensions
    generator = stream(seed, "theorem 2")
    rotation, units = random_rotation(generator, d), np.linalg.qr(generator.standard_normal((d, 2)))[0].T
    target, source = two_thetas(units, settings.cosine, settings.norm)
    x = generator.standard_normal((settings.target_samples, d))
    noise = settings.noise * generator.standard_normal(settings.target_samples)
    gram, cross = x.T @ x, x.T @ (x @ target + noise)
    c = theorem_2_c(x, settings.cosine)
    bound = theorem_2_bound(c, float(np.linalg.norm(noise) / np.linalg.norm(x @ target)))
    scales = feature_scales(d, settings.source_condition, np.arange(d // 10))
    values = {"c": c, "bound": bound, "own": _relative_error(np.asarray(np.linalg.solve(gram, cross)), target)}
    for m in settings.source_samples:
        drawn = draw_task(stream(seed, f"theorem 2, {m} samples"), rotation, scales, m)
        grams, crosses = (gram[None], drawn.gram[None]), (cross[None], drawn.cross(source, settings.noise)[None])
        values[str(m)] = _relative_error(TwoTasks.from_grams(grams, crosses).optimum()[0][0], target)
    return values


def _relative_error(estimate: Floats, theta: Floats) -> float:
    return float(np.linalg.norm(estimate - theta) / np.linalg.norm(theta))
