"""Classification and ReLU tasks of shared width 1, fitted from many random starts: Figure 2, and a smaller Figure 3.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), sections 2.1 and 2.4 and Figure 2. With width r = 1 task i predicts from
X_i B and its head a_i:

    linear     y = a_i X_i B + noise                squared loss
    logistic   P(y = 1) = sigmoid(a_i X_i B)        logistic loss
    relu       y = a_i ReLU(X_i B) + noise          squared loss

The three differ in the link function, from X_i B to the prediction. A penalty ridge * m_i / 2 * ||a_i B||^2 is added to
each loss, so that separable classes have a solution too.

Figure 2 shows that transfer depends on the inputs, not only on the true models: of two sources with the same theta_2,
hence the same decision boundary, one may help the target and the other hurt. Here the inputs of one source have their
large variance along theta_2 - theta_1, where the tasks disagree; those of the other, a rotation of it, orthogonal to
that.

Shapes: m samples, d dimensions, k tasks.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit

from models.settings import Settings
from models.theory.linear_tasks import (
    SOURCES,
    TARGET,
    Floats,
    Pair,
    Samples,
    draw_designs,
    random_rotation,
    stream,
    two_thetas,
)

Link = Literal["linear", "logistic", "relu"]
LINKS: tuple[Link, ...] = ("linear", "logistic", "relu")
ALONG, ACROSS = "along the disagreement", "across the disagreement"


class NonlinearSettings(Settings):
    """Settings of non-linear tasks and of the search for their solution."""

    noise: float = Field(1.0, gt=0, le=1e6, description="standard deviation of the label noise, for linear and relu")
    ridge: float = Field(1e-3, ge=0, le=1e6, description="ridge penalty per sample, on ||a_i B||^2 / 2")
    starts: int = Field(
        4, ge=0, le=1000, description="random starts of each fit, in addition to each task's least squares solution"
    )


class Figure2Settings(Settings):
    """Settings of Figure 2: two sources with the same decision boundary."""

    dimensions: int = Field(10, ge=2, le=2000, multiple_of=2, description="d, an even number")
    target_samples: int = Field(
        60, ge=4, le=10_000_000, description="training samples of the target, whose inputs are standard normal"
    )
    source_samples: int = Field(600, ge=4, le=10_000_000, description="training samples of each source")
    norm: float = Field(2.0, gt=0, le=1e6, description="length of both thetas")
    cosine: float = Field(0.7, gt=0, lt=1, description="of the angle between them")
    small: float = Field(0.1, gt=0, le=1e6, description="standard deviation of half of a source's inputs")
    large: float = Field(2.0, gt=0, le=1e6, description="standard deviation of the other half")


class NonlinearFigure3Settings(Settings):
    """Settings of Figure 3's tasks 1 to 4 with a non-linear link, smaller than the linear ones."""

    dimensions: int = Field(20, ge=10, le=2000, multiple_of=10, description="d, a multiple of 10")
    target_samples: int = Field(60, ge=4, le=10_000_000, description="training samples of task 1")
    source_samples: tuple[Samples, ...] = Field(
        (100, 1000), min_length=1, max_length=100, description="training samples of a source"
    )
    norm: float = Field(1.0, gt=0, le=1e6, description="length of both thetas")
    cosine: float = Field(0.98, gt=-1, lt=1, description="of the angle between them")
    condition: float = Field(10.0, ge=1, le=1e6, description="kappa, the standard deviation of the d/10 large inputs")


def draw_labels(generator: np.random.Generator, link: Link, inputs: Floats, theta: Floats, noise: float) -> Floats:
    """Draw labels, (m,), for the inputs (m, d); 0 or 1 for the logistic link, which has no other noise."""
    z = inputs @ theta
    if link == "logistic":
        return (generator.random(len(z)) < expit(z)).astype(np.float64)
    return (np.maximum(z, 0) if link == "relu" else z) + noise * generator.standard_normal(len(z))


def fit_shared(
    link: Link,
    inputs: Sequence[Floats],
    labels: Sequence[Floats],
    settings: NonlinearSettings,
    generator: np.random.Generator,
) -> tuple[Floats, float]:
    """Fit all tasks, with inputs (m_i, d) and labels (m_i,), with a shared width of 1: the best of many descents.

    Returns:
        theta of every task, a_i B, as (k, d), and the loss. For the relu link it is |a_i| B, whose positive half-space
        is where the prediction is not 0.
    """
    k, d = len(inputs), inputs[0].shape[1]
    starts = [
        np.concatenate([generator.standard_normal(d) / np.sqrt(d), np.abs(generator.standard_normal(k))])
        for _ in range(settings.starts)
    ]
    for x, y in zip(inputs, labels, strict=True):
        starts.append(np.concatenate([np.linalg.lstsq(x, y - y.mean())[0], np.ones(k)]))
    descents = [minimize(_loss, s, (link, inputs, labels, settings.ridge), "L-BFGS-B", jac=True) for s in starts]
    best = min(descents, key=lambda descent: descent.fun)
    heads = np.abs(best.x[d:]) if link == "relu" else best.x[d:]
    return heads[:, None] * best.x[:d], float(best.fun)


def _loss(
    flat: Floats, link: Link, inputs: Sequence[Floats], labels: Sequence[Floats], ridge: float
) -> tuple[float, Floats]:
    """Return the sum of the tasks' losses and its gradient with respect to B (d) and the heads (k)."""
    d = inputs[0].shape[1]
    b, value, gradient = flat[:d], 0.0, np.zeros_like(flat)
    for i, (x, y) in enumerate(zip(inputs, labels, strict=True)):
        head, penalty = flat[d + i], ridge * len(y)
        hidden = x @ b
        derivative: NDArray[np.bool_] | float = 1.0
        if link == "relu":
            hidden, derivative = np.maximum(hidden, 0), hidden > 0
        z = head * hidden
        residual = (expit(z) if link == "logistic" else z) - y
        value += float(np.logaddexp(0, z).sum() - y @ z) if link == "logistic" else 0.5 * float(residual @ residual)
        value += 0.5 * penalty * head**2 * float(b @ b)
        gradient[:d] += head * ((residual * derivative) @ x) + penalty * head**2 * b
        gradient[d + i] = residual @ hidden + penalty * head * float(b @ b)
    return value, gradient


def wrong_side_share(estimate: Floats, theta: Floats, covariance: Floats) -> float:
    """Return the share of new normal inputs for which the two decision boundaries disagree.

    It is exact: the angle between estimate and theta, (d,) each, in the inner product of the inputs' covariance (d, d),
    divided by pi; 1/2 where the estimate or theta is 0.
    """
    lengths = np.sqrt(estimate @ covariance @ estimate) * np.sqrt(theta @ covariance @ theta)
    if lengths == 0:
        return 0.5
    return float(np.arccos(np.clip(estimate @ covariance @ theta / lengths, -1, 1)) / np.pi)


def figure_2(link: Link, settings: Figure2Settings, fitting: NonlinearSettings, seed: int) -> dict[str, float]:
    """Return the share of inputs on the wrong side of the target's boundary, without and with each source.

    Returns:
        The share by source: `ALONG` and `ACROSS`; the empty key is the target without a source.
    """
    d = settings.dimensions
    generator = stream(seed, f"figure 2, {link}")
    rotation = random_rotation(generator, d)
    half = np.arccos(settings.cosine) / 2
    bisector, orthogonal = np.cos(half) * rotation[:, -1], np.sin(half) * rotation[:, 0]
    theta_1, theta_2 = settings.norm * (bisector - orthogonal), settings.norm * (bisector + orthogonal)
    scales = np.repeat([settings.large, settings.small], d // 2)
    designs = {
        "": (rotation, np.ones(d), settings.target_samples),
        ALONG: (rotation, scales, settings.source_samples),
        ACROSS: (rotation, scales[::-1], settings.source_samples),
    }
    return _wrong_side_shares(link, designs, (theta_1, theta_2), np.eye(d), fitting, generator)


def nonlinear_figure_3(
    link: Link, settings: NonlinearFigure3Settings, fitting: NonlinearSettings, seed: int
) -> dict[str, float]:
    """Return the share of inputs on the wrong side of task 1's boundary, without and with each source.

    Returns:
        The share by source and its number of samples, for instance '3 200'; the empty key is task 1 without a source.
    """
    generator = stream(seed, f"figure 3, {link}")
    drawn, units = draw_designs(generator, settings.dimensions, settings.condition)
    designs = {"": (*drawn[TARGET], settings.target_samples)}
    designs |= {f"{task} {m}": (*drawn[task], m) for task in SOURCES for m in settings.source_samples}
    rotation, scales = drawn[TARGET]
    thetas = two_thetas(units, settings.cosine, settings.norm)
    return _wrong_side_shares(link, designs, thetas, (rotation * scales**2) @ rotation.T, fitting, generator)


def _wrong_side_shares(
    link: Link,
    designs: dict[str, tuple[Floats, Floats, int]],
    thetas: Pair,
    covariance: Floats,
    fitting: NonlinearSettings,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Draw the target, named "", and the sources, each with its Q, D and m; fit the target alone and with each source.

    Returns:
        The target's wrong-side share by source, "" for none.
    """
    tasks = {}
    for name, (rotation, scales, m) in designs.items():
        x = (generator.standard_normal((m, len(scales))) * scales) @ rotation.T
        tasks[name] = x, draw_labels(generator, link, x, thetas[1 if name else 0], fitting.noise)
    shares = {}
    for name, task in tasks.items():
        inputs, labels = zip(*([tasks[""], task] if name else [task]), strict=True)
        estimates, _ = fit_shared(link, inputs, labels, fitting, generator)
        shares[name] = wrong_side_share(estimates[0], thetas[0], covariance)
    return shares
