"""A transform that keeps the labels, in ridge regression: the exact fall of the risk, its condition, leading orders.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3.1, which states them to leading order; the exact
formula is our own. F keeps the labels where F^T beta = beta: (F x)^T beta = x^T beta. One row is added,
orthogonalised against the n samples X:

    z = F x_1 - X^T c,    c = (X^T)^+ F x_1,    y_aug = y_1 - c^T Y = z^T beta + a^T e,    a = e_1 - c

As z is orthogonal to the samples, the risk splits. With the penalty t after the augmentation and s_i, v_i the
singular values and right singular vectors of X, the risk of plain ridge minus that of the augmented one is exactly

    <z,beta>^2 / ||z||^2 [1 - (t / (t + ||z||^2))^2]  -  sigma^2 ||a||^2 ||z||^2 / (||z||^2 + t)^2
        + R(n lambda) - R(t),     R(t) = sum_i [(t <v_i,beta>)^2 + sigma^2 s_i^2] / (s_i^2 + t)^2

The first term is the fall of the bias, the second the rise of the variance. With the penalty kept, R cancels, and the
transform helps where <z,beta>^2 (2 t + ||z||^2) > sigma^2 ||a||^2 ||z||^2. The fall of the bias is to leading order
<z,beta>^2 / ||z||^2 for penalties far below ||z||^2, and 2 <z,beta>^2 / t for those far above it.

Shapes: n samples, p dimensions, k added rows.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.augmented_ridge import (
    CASES,
    CONVENTIONS,
    RidgeCase,
    draw_design,
    exact_risk,
    require_unseen_directions,
    ridge_penalty,
    squared_errors,
)
from models.theory.linear_tasks import Floats, stream

RelativeRidge = Annotated[float, Field(gt=0, le=1e6)]
"""lambda n / ||z||^2, the penalty before the augmentation relative to the added row."""


class AddedRows(NamedTuple):
    """Added rows, orthogonal to the samples and to one another, (k, p), and how the noises enter them, (k, n)."""

    rows: Floats
    mixing: Floats

    def after(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return Z, (n + k, p), and A, (n + k, n): the samples with their own noises, then the added rows."""
        return np.vstack([inputs, self.rows]), np.vstack([np.eye(len(inputs)), self.mixing])


def rotate_around(generator: np.random.Generator, beta: Floats, inputs: Floats) -> Floats:
    """Turn each input, (..., p), by a random rotation of its own that keeps beta, (p,), and so its label.

    The part along beta stays; the rest gets a uniformly random direction orthogonal to beta and keeps its length.
    """
    axis = beta / np.linalg.norm(beta)
    along = (inputs @ axis)[..., None] * axis
    direction = generator.standard_normal(inputs.shape)
    direction -= (direction @ axis)[..., None] * axis
    lengths = np.linalg.norm(inputs - along, axis=-1, keepdims=True)
    return np.asarray(along + direction * lengths / np.linalg.norm(direction, axis=-1, keepdims=True))


def orthogonalise(inputs: Floats, transformed: Floats, sources: Sequence[int]) -> AddedRows:
    """Orthogonalise transformed samples against all samples, and against those before them.

    Args:
        inputs: X, (n, p).
        transformed: label-invariant transforms of samples, (k, p).
        sources: the sample that each was made from, which gives its label, k row numbers.

    Returns:
        z and a of each; z is 0, to rounding, where a transform adds no new direction.
    """
    rows, mixing = inputs, np.eye(len(inputs))
    for row, source in zip(transformed, sources, strict=True):
        c = np.linalg.lstsq(rows.T, row)[0]
        z = row - c @ rows
        a = np.eye(len(inputs))[source] - c @ mixing
        rows, mixing = np.vstack([rows, z]), np.vstack([mixing, a])
    return AddedRows(rows[len(inputs) :], mixing[len(inputs) :])


def risk_fall(inputs: Floats, added: AddedRows, beta: Floats, noise: float, penalties: tuple[float, float]) -> float:
    """Return the risk of plain ridge minus that with one added row, by the closed form.

    Args:
        inputs: X, (n, p).
        added: one row.
        beta: (p,).
        noise: sigma.
        penalties: n lambda, of plain ridge, and t, after the augmentation.
    """
    (z,), (a,) = added
    before, after = penalties
    square, projection = float(z @ z), float(z @ beta)
    bias_fall = projection**2 / square * (1 - (after / (after + square)) ** 2)
    variance_rise = noise**2 * float(a @ a) * square / (square + after) ** 2
    _, scales, directions = np.linalg.svd(inputs, full_matrices=False)
    seen = directions @ beta

    def samples_part(t: float) -> float:
        return float((((t * seen) ** 2 + (noise * scales) ** 2) / (scales**2 + t) ** 2).sum())

    return bias_fall - variance_rise + samples_part(before) - samples_part(after)


def transform_helps(added: AddedRows, beta: Floats, noise: float, penalty: float) -> bool:
    """Check <z,beta>^2 (2 t + ||z||^2) > sigma^2 ||a||^2 ||z||^2: one added row lowers the risk, the penalty t kept."""
    (z,), (a,) = added
    square = float(z @ z)
    return bool((z @ beta) ** 2 * (2 * penalty + square) > noise**2 * float(a @ a) * square)


class ClosedFormSettings(Settings):
    """Settings of the comparison of the closed form with direct algebra, on random regressions."""

    cases: int = Field(200, ge=1, le=100_000, description="random regressions for each seed")
    dimensions: int = Field(100, ge=3, le=2000, description="largest p; p, n, lambda and sigma are drawn")


def compare_with_algebra(settings: ClosedFormSettings, seed: int) -> dict[str, float]:
    """Compare the closed form of the risk's fall with direct algebra, on random regressions.

    lambda is between 0.001 and 1, sigma between 0.01 and 1, both uniform in the logarithm.

    Returns:
        'cases'; for each convention, 'kept' and 'rescaled', the largest absolute difference; 'kept rises' and
        'rescaled rises', the number of cases in which the augmentation raises the risk.
    """
    generator = stream(seed, "closed form against direct algebra")
    found: dict[str, float] = {"cases": settings.cases}
    found |= {f"{convention}{end}": 0 for end in ("", " rises") for convention in CONVENTIONS}
    for _ in range(settings.cases):
        dimensions = int(generator.integers(3, settings.dimensions, endpoint=True))
        samples = int(generator.integers(1, dimensions))
        ridge, noise = 10 ** generator.uniform(-3, 0), 10 ** generator.uniform(-2, 0)
        inputs, beta = draw_design(generator, dimensions, samples)
        added = orthogonalise(inputs, rotate_around(generator, beta, inputs[:1]), [0])
        before = ridge_penalty("kept", ridge, samples, samples)
        plain = exact_risk(inputs, np.eye(samples), beta, noise, before).total
        for convention in CONVENTIONS:
            after = ridge_penalty(convention, ridge, samples, samples + 1)
            closed = risk_fall(inputs, added, beta, noise, (before, after))
            direct = plain - exact_risk(*added.after(inputs), beta, noise, after).total
            found[convention] = max(found[convention], abs(closed - direct))
            found[f"{convention} rises"] += closed < 0
    return found


class SimulationSettings(Settings):
    """Settings of the comparison of the closed form with simulated regressions."""

    cases: tuple[RidgeCase, ...] = Field(CASES, min_length=1, max_length=100, description="the regressions")
    draws: int = Field(20_000, ge=2, le=1_000_000, description="noise draws for each regression")


def compare_with_simulation(settings: SimulationSettings, seed: int) -> list[dict[str, Any]]:
    """Compare the closed form of the risk's fall with simulated regressions, for each case and convention.

    Plain and augmented ridge see the same noise draws, so that the standard error is that of their difference.

    Returns:
        One row per case and convention: the case's 'dimensions', 'samples', 'ridge' and 'noise'; 'convention';
        'closed', the fall of the risk by the closed form (negative where the augmentation raises the risk);
        'simulated', and its 'standard_error'; 'deviation', their difference in standard errors.
    """
    rows = []
    for case in settings.cases:
        n = case.samples
        generator = stream(seed, f"closed form against simulation, {case}")
        inputs, beta = draw_design(generator, case.dimensions, n)
        added = orthogonalise(inputs, rotate_around(generator, beta, inputs[:1]), [0])
        noises = case.noise * generator.standard_normal((n, settings.draws))
        before = ridge_penalty("kept", case.ridge, n, n)
        plain = squared_errors(inputs, np.eye(n), beta, noises, before)
        for convention in CONVENTIONS:
            after = ridge_penalty(convention, case.ridge, n, n + 1)
            falls = plain - squared_errors(*added.after(inputs), beta, noises, after)
            closed, simulated = risk_fall(inputs, added, beta, case.noise, (before, after)), float(falls.mean())
            standard_error = float(falls.std(ddof=1) / np.sqrt(settings.draws))
            compared = {"closed": closed, "simulated": simulated, "standard_error": standard_error}
            deviation = (simulated - closed) / standard_error
            rows.append(case.model_dump() | {"convention": convention} | compared | {"deviation": deviation})
    return rows


class LeadingOrderSettings(Settings):
    """Settings of the comparison of the bias's exact fall with its leading orders."""

    dimensions: int = Field(100, ge=2, le=2000, description="p, more than the samples")
    samples: int = Field(30, ge=1, le=1999, description="n")
    relative_ridges: tuple[RelativeRidge, ...] = Field(
        (0.044, 0.44, 4.4, 44.0, 440.0, 44_000.0), min_length=1, max_length=100, description="lambda n / ||z||^2"
    )

    @model_validator(mode="after")
    def _is_over_parametrised(self) -> Self:
        require_unseen_directions(self.dimensions, self.samples)
        return self


def leading_order(settings: LeadingOrderSettings, seed: int) -> dict[str, Any]:
    """Compare the exact fall of the bias, by direct algebra, with its leading orders, in one random design.

    With the penalty kept the comparison is the same in every design, as u = lambda n / ||z||^2 determines it. With the
    penalty rescaled it is not: the samples' own directions are shrunk more, so that the bias may rise.

    Returns:
        'rows', for each relative ridge lambda n / ||z||^2: 'relative_ridge'; 'kept' and 'rescaled', the fall over
        2 <z,beta>^2 / (lambda n), the leading order for a large ridge; 'small', the fall with the penalty kept over
        <z,beta>^2 / ||z||^2, the leading order for a small ridge. 'limit': what 'rescaled' tends to with the ridge,
        (n - ||X beta||^2 / <z,beta>^2) / (n + 1).
    """
    n = settings.samples
    generator = stream(seed, "leading order")
    inputs, beta = draw_design(generator, settings.dimensions, n)
    added = orthogonalise(inputs, rotate_around(generator, beta, inputs[:1]), [0])
    square, projection = float((added.rows**2).sum()), float((added.rows @ beta).item() ** 2)
    rows = []
    for relative in settings.relative_ridges:
        before = relative * square
        plain = exact_risk(inputs, np.eye(n), beta, 0, before).bias
        falls = {
            convention: plain - exact_risk(*added.after(inputs), beta, 0, after).bias
            for convention in CONVENTIONS
            for after in [ridge_penalty(convention, before / n, n, n + 1)]
        }
        over_large = {convention: fall * before / (2 * projection) for convention, fall in falls.items()}
        rows.append({"relative_ridge": relative} | over_large | {"small": falls["kept"] * square / projection})
    return {"rows": rows, "limit": float((n - ((inputs @ beta) ** 2).sum() / projection) / (n + 1))}
