"""Propositions 1 and 3 and Theorem 2 as experiments, a seed at a time.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944).

Shapes: m samples, d dimensions, k tasks, r width.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.formulas import largest_sine, optimal_subspace, theorem_2_bound, theorem_2_c
from models.theory.linear_tasks import Floats, draw_inputs, large_scales, rotation, stream
from models.theory.many_tasks import own_solutions, solve_shared
from models.theory.two_tasks import TwoTasks


class CapacitySettings(Settings):
    """Tasks of which a few directions explain most, for Propositions 1 and 3."""

    tasks: int = Field(5, ge=2, description="k")
    directions: int = Field(2, ge=1, description="dimension of the span that the tasks' thetas lie near")
    apart: float = Field(0.15, ge=0, description="length of what each theta, itself of length 1, has of its own")
    dimensions: int = Field(12, ge=2, description="d, inputs")
    samples: int = Field(24, ge=3, description="training samples of each task, at least d + 2")
    noise: float = Field(1.0, gt=0, description="standard deviation of the label noise")
    starts: int = Field(8, ge=1, description="random starts of the search below width k")
    beyond: int = Field(2, ge=0, description="widths beyond k that are tried")

    @model_validator(mode="after")
    def _tasks_are_determined(self) -> Self:
        if self.samples < self.dimensions + 2:
            raise ValueError(f"samples must be at least dimensions + 2; got {self.samples} for {self.dimensions}")
        return self


def capacity(settings: CapacitySettings, seed: int) -> list[dict[str, float]]:
    """For each width r: the tasks' relative change, and the largest difference between B A_i and task i's own solution.

    The change is the mean over tasks of ||theta_hat - theta||^2 over the same of the tasks alone, minus 1; inputs are
    round, so that it is the error of prediction too.
    """
    thetas, inputs, labels = _draw_tasks(settings, seed)
    grams, crosses = np.einsum("kmi,kmj->kij", inputs, inputs), np.einsum("kmi,km->ki", inputs, labels)
    own = own_solutions(grams, crosses)
    alone = float(((own - thetas) ** 2).sum())
    rows = []
    for width in range(1, settings.tasks + settings.beyond + 1):
        found = solve_shared(grams, crosses, width, seed, settings.starts).parameters
        rows.append(
            {
                "width": width,
                "change": float(((found - thetas) ** 2).sum()) / alone - 1,
                "off": float(np.abs(found - own).max()),
            }
        )
    return rows


def proposition_3(settings: CapacitySettings, seed: int) -> list[dict[str, float]]:
    """For each width r < k: the sine of the largest angle between the span that Proposition 3 gives and the one that
    descent from many starts finds, for tasks that share their inputs and have random weights between 1/2 and 2.
    """
    _, inputs, labels = _draw_tasks(settings, seed)
    generator = stream(seed, "proposition 3")
    shared = inputs[0] * 2.0 ** generator.uniform(-1, 1, settings.dimensions)
    weights = 2.0 ** generator.uniform(-1, 1, settings.tasks)
    grams, crosses = np.repeat((shared.T @ shared)[None], settings.tasks, 0), labels @ shared
    rows = []
    for width in range(1, settings.tasks):
        found = solve_shared(grams, crosses, width, seed, settings.starts, weights).shared
        sine = largest_sine(optimal_subspace(shared, labels.T, weights, width), found)
        rows.append({"width": width, "sine": sine})
    return rows


def _draw_tasks(settings: CapacitySettings, seed: int) -> tuple[Floats, Floats, Floats]:
    """thetas (d, k), inputs (k, m, d), standard normal, labels (k, m)."""
    generator = stream(seed, "capacity")
    d, k = settings.dimensions, settings.tasks
    together = generator.standard_normal((d, settings.directions)) @ generator.standard_normal((settings.directions, k))
    own = generator.standard_normal((d, k))
    thetas = together / np.linalg.norm(together, axis=0) + settings.apart * own / np.linalg.norm(own, axis=0)
    thetas /= np.linalg.norm(thetas, axis=0)
    inputs = generator.standard_normal((k, settings.samples, d))
    noise = settings.noise * generator.standard_normal((k, settings.samples))
    return thetas, inputs, np.einsum("kmi,ik->km", inputs, thetas) + noise


class Theorem2Settings(Settings):
    """A target that is well enough conditioned for Theorem 2, which Figure 3's is not."""

    dimensions: int = Field(20, ge=10, multiple_of=10, description="d, a multiple of 10")
    target_samples: int = Field(200, ge=12, description="training samples of the target; its inputs are round")
    source_samples: tuple[int, ...] = Field(
        (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), min_length=2, description="training samples of the source"
    )
    source_condition: float = Field(3.0, ge=1, description="standard deviation of the source's d/10 large inputs")
    norm: float = Field(2.0, gt=0, description="length of both thetas")
    noise: float = Field(1.0, gt=0, description="standard deviation of the label noise")
    cosine: float = Field(0.999, gt=0, lt=1, description="of the angle between them")


def theorem_2(settings: Theorem2Settings, seed: int) -> dict[str, float]:
    """The target's ||theta_hat - theta|| / ||theta|| alone ('own') and, by the source's number of samples, at the
    global optimum of width 1; 'c' of the condition, and the 'bound' that holds from some number of samples on.
    """
    d = settings.dimensions
    generator = stream(seed, "theorem 2")
    turn, unit = rotation(generator, d), np.linalg.qr(generator.standard_normal((d, 2)))[0].T
    aside = np.sqrt(1 - settings.cosine**2)
    target, source = settings.norm * unit[0], settings.norm * (settings.cosine * unit[0] + aside * unit[1])
    x = generator.standard_normal((settings.target_samples, d))
    noise = settings.noise * generator.standard_normal(settings.target_samples)
    gram, cross = x.T @ x, x.T @ (x @ target + noise)
    c = theorem_2_c(x, settings.cosine)
    bound = theorem_2_bound(c, float(np.linalg.norm(noise) / np.linalg.norm(x @ target)))
    scales = large_scales(d, settings.source_condition, np.arange(d // 10))
    found = {"c": c, "bound": bound, "own": _off(np.linalg.solve(gram, cross), target)}
    for m in settings.source_samples:
        drawn = draw_inputs(stream(seed, f"theorem 2, {m} samples"), turn, scales, m)
        grams, crosses = (gram[None], drawn.gram[None]), (cross[None], drawn.cross(source, settings.noise)[None])
        found[str(m)] = _off(TwoTasks.of(grams, crosses).optimum()[0][0], target)
    return found


def _off(found: Floats, theta: Floats) -> float:
    return float(np.linalg.norm(found - theta) / np.linalg.norm(theta))
