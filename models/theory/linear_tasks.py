"""Linear regression tasks with aligned or misaligned input covariances: the data of Figure 3.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944),
section 2.4 and Figure 3:

    X = R D Q^T,   y = X theta + noise,   R standard normal, D = diag(kappa on d/10 coordinates, else 1), Q a rotation

Task 1 is the target, with (Q_1, D_1, theta_1); tasks 2, 3 and 4 are sources, all with theta_2, whose cosine with
theta_1 is given:

    task 2   (Q_1, D_1)   the target's covariance
    task 3   (Q_1, D_2)   other large coordinates, disjoint from those of D_1
    task 4   (Q_2, D_1)   another rotation

The paper prints X = R Q D. With a Gaussian R the covariance would then be D^2 for every Q, so that task 4 would have
task 2's covariance. With X = R D Q^T it is Q D^2 Q^T. `LinearSettings` sets the numbers that the paper does not state.

A task is kept as its sufficient statistics X^T X and X^T e. They give X^T y for every theta and noise level without
new samples, and so all cells of the map use the same random draws.

Shapes: m samples, d dimensions.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.settings import Settings

Samples = Annotated[int, Field(ge=1, le=10_000_000)]
"""Number of training samples."""

Floats = NDArray[np.float64]

Pair = tuple[Floats, Floats]
"""Something of the first and of the second task, or of the first tasks and of the second tasks of several pairs."""
Weights = tuple[Floats | float, Floats | float]
"""Weights of the losses of the first and of the second tasks of p pairs, (p,) each or one number for all pairs."""

TARGET: Final = 1
SOURCES: Final = (2, 3, 4)


class LinearSettings(Settings):
    """Settings of Figure 3's linear tasks, including the numbers that the paper does not state."""

    dimensions: int = Field(
        100, ge=10, le=2000, multiple_of=10, description="d, inputs of every task; a multiple of 10"
    )
    target_samples: int = Field(120, ge=12, le=10_000_000, description="training samples of task 1; at least d + 2")
    norm: float = Field(1.0, gt=0, le=1e6, description="length of theta_1 and theta_2; only norm / noise matters")
    noise: float = Field(1.0, gt=0, le=1e6, description="standard deviation of the label noise")
    cosine: float = Field(0.999, gt=-1, lt=1, description="of the angle between theta_1 and theta_2")
    condition: float = Field(100.0, ge=1, le=1e6, description="kappa, the standard deviation of the d/10 large inputs")

    @model_validator(mode="after")
    def _target_is_determined(self) -> "LinearSettings":
        if self.target_samples < self.dimensions + 2:
            raise ValueError(
                f"target_samples must be at least dimensions + 2, or task 1 has no finite mean error without a source; "
                f"got {self.target_samples} for {self.dimensions} dimensions"
            )
        return self


@dataclass(frozen=True)
class TaskStatistics:
    """Sufficient statistics of one linear task.

    Attributes:
        covariance: covariance of the inputs in the population, (d, d).
        gram: X^T X, (d, d).
        noise_cross: X^T e, (d,), for label noise e of unit variance.
        samples: m.
    """

    covariance: Floats
    gram: Floats
    noise_cross: Floats
    samples: int

    def cross(self, theta: Floats, noise: float) -> Floats:
        """Return X^T y, (d,), for the labels y = X theta + noise e."""
        return self.gram @ theta + noise * self.noise_cross


def draw_task(generator: np.random.Generator, rotation: Floats, scales: Floats, samples: int) -> TaskStatistics:
    """Draw `samples` inputs X = R D Q^T, with the rotation Q (d, d) and the diagonal D (d,), and label noise."""
    x = (generator.standard_normal((samples, len(scales))) * scales) @ rotation.T
    covariance = (rotation * scales**2) @ rotation.T
    return TaskStatistics(covariance, x.T @ x, x.T @ generator.standard_normal(samples), samples)


@dataclass(frozen=True)
class Figure3Data:
    """One random draw of Figure 3's tasks.

    Attributes:
        target: task 1.
        sources: tasks 2 to 4, by task number and number of samples.
        units: unit vectors along theta_1 and orthogonal to it, (2, d).
    """

    target: TaskStatistics
    sources: dict[tuple[int, int], TaskStatistics]
    units: Floats

    def thetas(self, cosine: float, norm: float) -> Pair:
        """Return theta_1 and theta_2, each (d,), of length `norm` and with the given cosine."""
        return two_thetas(self.units, cosine, norm)


def two_thetas(units: Floats, cosine: float, norm: float) -> Pair:
    """Return two vectors (d,) of length `norm` and with the given cosine, in the plane of two unit vectors (2, d)."""
    return norm * units[0], norm * (cosine * units[0] + np.sqrt(1 - cosine**2) * units[1])


def draw_figure3_data(settings: LinearSettings, source_samples: tuple[int, ...], seed: int) -> Figure3Data:
    """Draw tasks 1 to 4, each source once per size; norm, noise and cosine of the settings are not used.

    Every task and size has a random stream of its own, so that a draw does not depend on the others.
    """
    designs, units = draw_designs(stream(seed, "figure 3"), settings.dimensions, settings.condition)
    return Figure3Data(
        target=draw_task(stream(seed, "figure 3, task 1"), *designs[TARGET], settings.target_samples),
        sources={
            (task, m): draw_task(stream(seed, f"figure 3, task {task}, {m} samples"), *designs[task], m)
            for task in SOURCES
            for m in source_samples
        },
        units=units,
    )


def draw_designs(generator: np.random.Generator, dimensions: int, condition: float) -> tuple[dict[int, Pair], Floats]:
    """Draw Q (d, d) and the diagonal of D (d,) of tasks 1 to 4, by task, and two orthogonal unit vectors (2, d)."""
    large = dimensions // 10
    q_1, q_2 = random_rotation(generator, dimensions), random_rotation(generator, dimensions)
    order = generator.permutation(dimensions)
    d_1, d_2 = (feature_scales(dimensions, condition, order[i * large : (i + 1) * large]) for i in (0, 1))
    units = np.linalg.qr(generator.standard_normal((dimensions, 2)))[0].T
    return {TARGET: (q_1, d_1), 2: (q_1, d_1), 3: (q_1, d_2), 4: (q_2, d_1)}, units


def feature_scales(dimensions: int, condition: float, large: NDArray[np.int64]) -> Floats:
    """Return the diagonal of D, (d,): `condition` at the indices `large`, else 1."""
    scales = np.ones(dimensions)
    scales[large] = condition
    return scales


def random_rotation(generator: np.random.Generator, dimensions: int) -> Floats:
    """Draw an orthogonal matrix (d, d) from the uniform (Haar) distribution."""
    q, r = np.linalg.qr(generator.standard_normal((dimensions, dimensions)))
    return np.asarray(q * np.sign(np.diag(r)))


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator of a seed and a purpose; different purposes have independent random streams."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def excess_error(estimate: Floats, theta: Floats, covariance: Floats) -> Floats:
    """Return the expected squared prediction error on new inputs, without the label noise, of each estimate.

    Shapes: estimate (..., d); the true theta (d,); covariance of the inputs (d, d); the errors (...,).
    """
    deviation = estimate - theta
    return np.asarray(np.einsum("...i,ij,...j->...", deviation, covariance, deviation))
