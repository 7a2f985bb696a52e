"""Linear regression tasks whose inputs are aligned or not: the data of Figure 3.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944),
section 2.4 and Figure 3:

    X = R D Q^T,   y = X theta + noise,   R standard normal, D = diag(kappa on d/10 coordinates, else 1), Q a rotation

Task 1 is the target, with (Q_1, D_1, theta_1); tasks 2, 3 and 4 are sources, all with theta_2, whose cosine with
theta_1 is given:

    task 2   (Q_1, D_1)   the target's covariance
    task 3   (Q_1, D_2)   other coordinates are the large ones, disjoint from D_1's
    task 4   (Q_2, D_1)   another rotation

The paper prints X = R Q D. With a Gaussian R that has the covariance D^2 whatever Q is, which would make task 4 a
second task 2; as built here it is Q D^2 Q^T. The paper leaves open what `LinearSettings` sets.

A task is kept as its Gram matrix and what the inputs say of the noise: labels for any theta and any noise follow
without new data, and cells of a map share their draws.

Shapes: m samples, d dimensions.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.settings import Settings

Floats = NDArray[np.float64]

TARGET: Final = 1
SOURCES: Final = (2, 3, 4)


class LinearSettings(Settings):
    """Every number of the experiment, those that the paper does not state with it."""

    dimensions: int = Field(100, ge=10, multiple_of=10, description="d, inputs of every task; a multiple of 10")
    target_samples: int = Field(120, ge=12, description="training samples of task 1; at least d + 2")
    norm: float = Field(1.0, gt=0, description="length of theta_1 and theta_2; only norm / noise matters")
    noise: float = Field(1.0, gt=0, description="standard deviation of the label noise")
    cosine: float = Field(0.999, gt=-1, lt=1, description="of the angle between theta_1 and theta_2")
    condition: float = Field(100.0, ge=1, description="kappa, the standard deviation of the d/10 large inputs")

    @model_validator(mode="after")
    def _target_is_determined(self) -> "LinearSettings":
        if self.target_samples < self.dimensions + 2:
            raise ValueError(
                f"target_samples must be at least dimensions + 2, or task 1 alone has no finite mean error; "
                f"got {self.target_samples} for {self.dimensions} dimensions"
            )
        return self


@dataclass(frozen=True)
class Inputs:
    """The inputs of one task, and the noise that its labels will have.

    covariance: (d, d), of the population. gram: (d, d), X^T X. noise_cross: (d,), X^T e for noise e of unit
    variance. samples: m.
    """

    covariance: Floats
    gram: Floats
    noise_cross: Floats
    samples: int

    def cross(self, theta: Floats, noise: float) -> Floats:
        """(d,) X^T y of the labels y = X theta + noise e."""
        return self.gram @ theta + noise * self.noise_cross


def draw_inputs(generator: np.random.Generator, rotation: Floats, scales: Floats, samples: int) -> Inputs:
    """X = R D Q^T with Q = rotation (d, d) and the diagonal of D = scales (d,)."""
    x = (generator.standard_normal((samples, len(scales))) * scales) @ rotation.T
    covariance = (rotation * scales**2) @ rotation.T
    return Inputs(covariance, x.T @ x, x.T @ generator.standard_normal(samples), samples)


@dataclass(frozen=True)
class Figure3:
    """One draw of the experiment.

    inputs: of task 1, by its number and None, and of tasks 2 to 4 by number and number of samples.
    theta: (d,), of length 1. aside: (d,), of length 1 and at right angles to theta.
    """

    target: Inputs
    sources: dict[tuple[int, int], Inputs]
    theta: Floats
    aside: Floats

    def thetas(self, cosine: float, norm: float) -> tuple[Floats, Floats]:
        """theta_1 and theta_2, each (d,)."""
        return norm * self.theta, norm * (cosine * self.theta + np.sqrt(1 - cosine**2) * self.aside)


def draw_figure3(settings: LinearSettings, source_samples: tuple[int, ...], seed: int) -> Figure3:
    """Tasks 1 to 4, the sources with each number of samples; each part is drawn from a stream of its own."""
    d = settings.dimensions
    shared = stream(seed, "figure 3")
    q_1, q_2 = rotation(shared, d), rotation(shared, d)
    order = shared.permutation(d)
    d_1, d_2 = (large_scales(d, settings.condition, order[part * d // 10 : (part + 1) * d // 10]) for part in (0, 1))
    theta, aside = np.linalg.qr(shared.standard_normal((d, 2)))[0].T
    laid_out = {2: (q_1, d_1), 3: (q_1, d_2), 4: (q_2, d_1)}
    return Figure3(
        target=draw_inputs(stream(seed, "figure 3, task 1"), q_1, d_1, settings.target_samples),
        sources={
            (task, m): draw_inputs(stream(seed, f"figure 3, task {task}, {m} samples"), q, scales, m)
            for task, (q, scales) in laid_out.items()
            for m in source_samples
        },
        theta=theta,
        aside=aside,
    )


def large_scales(dimensions: int, condition: float, large: NDArray[np.int64]) -> Floats:
    """The diagonal of D, (d,): `condition` on the coordinates `large`, else 1."""
    scales = np.ones(dimensions)
    scales[large] = condition
    return scales


def rotation(generator: np.random.Generator, dimensions: int) -> Floats:
    """A random orthogonal matrix (d, d), uniformly distributed."""
    q, r = np.linalg.qr(generator.standard_normal((dimensions, dimensions)))
    return np.asarray(q * np.sign(np.diag(r)))


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose of a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def excess_error(found: Floats, theta: Floats, covariance: Floats) -> Floats:
    """Expected squared error of the prediction on new inputs, beyond the label noise.

    found (..., d), theta (d,), covariance (d, d) of the inputs -> (...,).
    """
    off = found - theta
    return np.asarray(np.einsum("...i,ij,...j->...", off, covariance, off))
