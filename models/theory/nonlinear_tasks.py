"""Classification and ReLU tasks with one shared direction, fitted from many starts; and Figure 2's two sources.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), sections 2.1 and 2.4 and Figure 2. With width r = 1 task i predicts from
X_i B and its head a_i:

    linear     y = a_i X_i B + noise                squared loss
    logistic   P(y = 1) = sigmoid(a_i X_i B)        logistic loss
    relu       y = a_i ReLU(X_i B) + noise          squared loss

Beside the loss stands ridge * m_i / 2 * ||a_i B||^2, so that separable classes have a solution too.

Figure 2 says that not the model alone decides, but the data: of two sources with the same theta_2, so the same decision
boundary, one may help the target and the other hurt. Here one has its large inputs along theta_2 - theta_1, where the
tasks disagree, and the other, a rotation of it, at right angles to that.

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
from models.theory.linear_tasks import Floats, large_scales, rotation, stream

Link = Literal["linear", "logistic", "relu"]
LINKS: tuple[Link, ...] = ("linear", "logistic", "relu")
ALONG, ACROSS = "along the disagreement", "across the disagreement"


class NonlinearSettings(Settings):
    """Tasks with a link, and how they are fitted."""

    noise: float = Field(1.0, gt=0, description="standard deviation of the labels, linear and relu")
    ridge: float = Field(1e-3, ge=0, description="penalty on ||a_i B||^2 / 2, per sample")
    starts: int = Field(4, ge=0, description="random starts of each fit, beside each task's least squares solution")


class Figure2Settings(Settings):
    """Two sources with the same decision boundary."""

    dimensions: int = Field(10, ge=2, multiple_of=2, description="d, an even number")
    target_samples: int = Field(60, ge=4, description="training samples of the target, whose inputs are round")
    source_samples: int = Field(600, ge=4, description="training samples of either source")
    norm: float = Field(2.0, gt=0, description="length of both thetas")
    cosine: float = Field(0.7, gt=0, lt=1, description="of the angle between them")
    small: float = Field(0.1, gt=0, description="standard deviation of half of a source's inputs")
    large: float = Field(2.0, gt=0, description="standard deviation of the other half")


class NonlinearFigure3Settings(Settings):
    """Figure 3's tasks 1 to 4, smaller."""

    dimensions: int = Field(20, ge=10, multiple_of=10, description="d, a multiple of 10")
    target_samples: int = Field(60, ge=4, description="training samples of task 1")
    source_samples: tuple[int, ...] = Field((100, 1000), min_length=1, description="training samples of a source")
    norm: float = Field(1.0, gt=0, description="length of both thetas")
    cosine: float = Field(0.98, gt=-1, lt=1, description="of the angle between them")
    condition: float = Field(10.0, ge=1, description="kappa, the standard deviation of the d/10 large inputs")


def draw_labels(generator: np.random.Generator, link: Link, inputs: Floats, theta: Floats, noise: float) -> Floats:
    """(m,) labels of inputs (m, d); 0 or 1 for the logistic link."""
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
    """theta of every task, a_i B, as (k, d), and the loss: the best of many L-BFGS descents.

    For the relu link a_i B is the direction on whose positive side the prediction is not 0, times |a_i|.
    """
    k, d = len(inputs), inputs[0].shape[1]
    starts = [
        np.concatenate([generator.standard_normal(d) / np.sqrt(d), np.abs(generator.standard_normal(k))])
        for _ in range(settings.starts)
    ]
    for x, y in zip(inputs, labels, strict=True):
        starts.append(np.concatenate([np.linalg.lstsq(x, y - y.mean())[0], np.ones(k)]))
    ends = [minimize(_loss, s, (link, inputs, labels, settings.ridge), "L-BFGS-B", jac=True) for s in starts]
    best = min(ends, key=lambda end: end.fun)
    heads = np.abs(best.x[d:]) if link == "relu" else best.x[d:]
    return heads[:, None] * best.x[:d], float(best.fun)


def _loss(
    flat: Floats, link: Link, inputs: Sequence[Floats], labels: Sequence[Floats], ridge: float
) -> tuple[float, Floats]:
    """The sum over tasks and its gradient with respect to B (d) and the heads (k)."""
    d = inputs[0].shape[1]
    b, value, slope = flat[:d], 0.0, np.zeros_like(flat)
    for i, (x, y) in enumerate(zip(inputs, labels, strict=True)):
        head, penalty = flat[d + i], ridge * len(y)
        hidden, passes = _hidden(link, x @ b)
        z = head * hidden
        off = (expit(z) if link == "logistic" else z) - y
        value += float(np.logaddexp(0, z).sum() - y @ z) if link == "logistic" else 0.5 * float(off @ off)
        value += 0.5 * penalty * head**2 * float(b @ b)
        slope[:d] += head * ((off * passes) @ x) + penalty * head**2 * b
        slope[d + i] = off @ hidden + penalty * head * float(b @ b)
    return value, slope


def _hidden(link: Link, z: Floats) -> tuple[Floats, NDArray[np.bool_] | float]:
    """What the shared module gives for X B, and where it passes its gradient on."""
    return (np.maximum(z, 0), z > 0) if link == "relu" else (z, 1.0)


def wrong_side(found: Floats, theta: Floats, covariance: Floats) -> float:
    """Share of new normal inputs that lie on the other side of the boundary found than of theta's, in [0, 1].

    Exact: the angle between the two, measured by the covariance (d, d), over pi. 1/2 where nothing was found.
    """
    lengths = np.sqrt(found @ covariance @ found) * np.sqrt(theta @ covariance @ theta)
    if lengths == 0:
        return 0.5
    return float(np.arccos(np.clip(found @ covariance @ theta / lengths, -1, 1)) / np.pi)


def figure_2(link: Link, settings: Figure2Settings, fitting: NonlinearSettings, seed: int) -> dict[str, float]:
    """Wrong sides of the target (shares) alone, key '', and beside either source, keys `ALONG` and `ACROSS`."""
    d = settings.dimensions
    generator = stream(seed, f"figure 2, {link}")
    turn = rotation(generator, d)
    half = np.arccos(settings.cosine) / 2
    middle, aside = np.cos(half) * turn[:, -1], np.sin(half) * turn[:, 0]
    theta_1, theta_2 = settings.norm * (middle - aside), settings.norm * (middle + aside)
    scales = np.repeat([settings.large, settings.small], d // 2)
    target = _draw(generator, link, turn, np.ones(d), settings.target_samples, theta_1, fitting.noise)
    found = {"": [target]}
    for name, of_source in ((ALONG, scales), (ACROSS, scales[::-1])):
        source = _draw(generator, link, turn, of_source, settings.source_samples, theta_2, fitting.noise)
        found[name] = [target, source]
    return _wrong_sides(link, found, theta_1, np.eye(d), fitting, generator)


def linked_figure_3(
    link: Link, settings: NonlinearFigure3Settings, fitting: NonlinearSettings, seed: int
) -> dict[str, float]:
    """Wrong sides of task 1 (shares) alone, key '', and beside each source, keys such as '3 200' (task, samples)."""
    d, part = settings.dimensions, settings.dimensions // 10
    generator = stream(seed, f"figure 3, {link}")
    q_1, q_2 = rotation(generator, d), rotation(generator, d)
    order = generator.permutation(d)
    d_1, d_2 = (large_scales(d, settings.condition, order[i * part : (i + 1) * part]) for i in (0, 1))
    theta, aside = np.linalg.qr(generator.standard_normal((d, 2)))[0].T
    theta_1 = settings.norm * theta
    theta_2 = settings.norm * (settings.cosine * theta + np.sqrt(1 - settings.cosine**2) * aside)
    target = _draw(generator, link, q_1, d_1, settings.target_samples, theta_1, fitting.noise)
    found = {"": [target]}
    for task, (q, scales) in {2: (q_1, d_1), 3: (q_1, d_2), 4: (q_2, d_1)}.items():
        for m in settings.source_samples:
            found[f"{task} {m}"] = [target, _draw(generator, link, q, scales, m, theta_2, fitting.noise)]
    return _wrong_sides(link, found, theta_1, (q_1 * d_1**2) @ q_1.T, fitting, generator)


def _draw(
    generator: np.random.Generator, link: Link, turn: Floats, scales: Floats, samples: int, theta: Floats, noise: float
) -> tuple[Floats, Floats]:
    x = (generator.standard_normal((samples, len(scales))) * scales) @ turn.T
    return x, draw_labels(generator, link, x, theta, noise)


def _wrong_sides(
    link: Link,
    groups: dict[str, list[tuple[Floats, Floats]]],
    theta: Floats,
    covariance: Floats,
    fitting: NonlinearSettings,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Of the first task of each group, trained together with the rest of the group."""
    shares = {}
    for name, tasks in groups.items():
        fitted, _ = fit_shared(link, [x for x, _ in tasks], [y for _, y in tasks], fitting, generator)
        shares[name] = wrong_side(fitted[0], theta, covariance)
    return shares
