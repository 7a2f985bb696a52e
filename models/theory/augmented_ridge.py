"""Ridge regression on augmented samples: its exact risk by direct algebra, and its risk by simulation.

Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data Augmentation (ICML 2020,
arXiv:2005.00695), section 2. There are fewer samples than dimensions. N rows Z, (N, p), are made from n samples X, and
their labels are

    Y = Z beta + A e,      e: n independent noises of variance sigma^2

where A, (N, n), says how the noises of the samples enter the rows: copied, mixed, or subtracted. With the penalty t,

    beta_hat = M Z^T Y,    M = (Z^T Z + t I)^-1
    risk = E ||beta_hat - beta||^2 = bias + variance,    bias = t^2 ||M beta||^2,    variance = sigma^2 ||M Z^T A||_F^2

For a ridge lambda there are two conventions of the penalty. `kept`: t = n lambda, as before the augmentation.
`rescaled`: t = N lambda, so that the loss is a mean over the rows. They differ: the second one shrinks more.

Shapes: n samples, p dimensions, N rows.
"""

from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.linear_tasks import Floats

Convention = Literal["kept", "rescaled"]
CONVENTIONS: tuple[Convention, ...] = ("kept", "rescaled")

_CHUNK = 5000  # noise draws that are held at a time; of 400 dimensions they take 16 MB


def require_unseen_directions(dimensions: int, samples: int, added: int = 1) -> None:
    """Check that so many added rows can each have a direction that is new.

    Raises:
        ValueError: they cannot; a field of settings is refused then.
    """
    if samples + added > dimensions:
        raise ValueError(
            f"dimensions must be at least samples + {added}, or an added row has no new direction; "
            f"got {dimensions} for {samples} samples"
        )


class RidgeCase(Settings):
    """Settings of one over-parametrised ridge regression; its inputs are N(0, I / p), and ||beta|| = 1."""

    dimensions: int = Field(ge=3, le=5000, description="p, more than the samples")
    samples: int = Field(ge=2, le=4999, description="n, samples before the augmentation")
    ridge: float = Field(gt=0, le=1e6, description="lambda, the penalty per sample")
    noise: float = Field(gt=0, le=1e6, description="sigma, standard deviation of the label noise")

    @model_validator(mode="after")
    def _is_over_parametrised(self) -> Self:
        require_unseen_directions(self.dimensions, self.samples)
        return self


CASES = (
    RidgeCase(dimensions=100, samples=30, ridge=0.01, noise=0.1),
    RidgeCase(dimensions=200, samples=60, ridge=0.002, noise=0.05),
    RidgeCase(dimensions=60, samples=50, ridge=0.02, noise=0.3),
    RidgeCase(dimensions=400, samples=100, ridge=0.1, noise=1.0),
)
"""Four regressions: with little noise and much, with few unseen directions and many."""


class Risk(NamedTuple):
    """The expected squared distance of an estimate from beta, in its two parts."""

    bias: float
    variance: float

    @property
    def total(self) -> float:
        """Bias plus variance."""
        return self.bias + self.variance


def ridge_penalty(convention: Convention, ridge: float, samples: int, rows: int) -> float:
    """Return the penalty t: lambda times the samples n (`kept`) or times the rows N (`rescaled`)."""
    return ridge * (samples if convention == "kept" else rows)


def draw_design(generator: np.random.Generator, dimensions: int, samples: int) -> tuple[Floats, Floats]:
    """Draw inputs X, (n, p), with independent N(0, 1 / p) entries, and a beta, (p,), of length 1."""
    inputs = generator.standard_normal((samples, dimensions)) / np.sqrt(dimensions)
    beta = generator.standard_normal(dimensions)
    return inputs, beta / np.linalg.norm(beta)


def ridge_operator(rows: Floats, penalty: float) -> Floats:
    """Return (Z^T Z + t I)^-1 Z^T, (p, N): the matrix that makes the estimate of the labels, for Z (N, p) and t > 0.

    With fewer rows than dimensions it is computed as the same Z^T (Z Z^T + t I)^-1: a smaller system, and one whose
    condition does not depend on t where t is small.
    """
    count, dimensions = rows.shape
    if count < dimensions:
        return np.asarray(np.linalg.solve(rows @ rows.T + penalty * np.eye(count), rows).T)
    return np.asarray(np.linalg.solve(rows.T @ rows + penalty * np.eye(dimensions), rows.T))


def exact_risk(rows: Floats, mixing: Floats, beta: Floats, noise: float, penalty: float) -> Risk:
    """Return the risk of the ridge estimate by direct algebra; the bias vector t M beta is beta - M Z^T Z beta.

    Args:
        rows: Z, (N, p).
        mixing: A, (N, n).
        beta: (p,).
        noise: sigma.
        penalty: t, positive.
    """
    operator = ridge_operator(rows, penalty)
    missed = beta - operator @ (rows @ beta)
    return Risk(float(missed @ missed), noise**2 * float(((operator @ mixing) ** 2).sum()))


def squared_errors(rows: Floats, mixing: Floats, beta: Floats, noises: Floats, penalty: float) -> Floats:
    """Fit the labels of each noise draw and return ||beta_hat - beta||^2, (draws,).

    Args:
        rows: Z, (N, p).
        mixing: A, (N, n).
        beta: (p,).
        noises: e, (n, draws), with their standard deviation sigma.
        penalty: t, positive.
    """
    operator, clean = ridge_operator(rows, penalty), (rows @ beta)[:, None]
    errors = []
    for start in range(0, noises.shape[1], _CHUNK):
        labels = clean + mixing @ noises[:, start : start + _CHUNK]
        errors.append(((operator @ labels - beta[:, None]) ** 2).sum(0))
    return np.concatenate(errors)
