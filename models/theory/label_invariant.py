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

from typing import Any, NamedTuple

from pydantic import Field

from models.settings import Settings
from models.theory.augmented_ridge import CASES, RidgeCase
from models.theory.linear_tasks import Floats


class AddedRows(NamedTuple):
    """Rows orthogonal to the samples and to one another, (k, p), and how the samples' noises enter them, (k, n)."""

    rows: Floats
    mixing: Floats


class ClosedFormSettings(Settings):
    """Settings of the comparison of the closed form with direct algebra, on random regressions."""

    cases: int = Field(200, ge=1, le=100_000, description="random regressions for each seed")
    dimensions: int = Field(100, ge=3, le=2000, description="largest p; p, n, lambda and sigma are drawn")


class SimulationSettings(Settings):
    """Settings of the comparison of the closed form with simulated regressions."""

    cases: tuple[RidgeCase, ...] = Field(CASES, min_length=1, max_length=100, description="the regressions")
    draws: int = Field(20_000, ge=2, le=1_000_000, description="noise draws for each regression")


class LeadingOrderSettings(Settings):
    """Settings of the comparison of the bias's exact fall with its leading order."""

    dimensions: int = Field(100, ge=2, le=2000, description="p, more than the samples")
    samples: int = Field(30, ge=1, le=1999, description="n")
    relative_ridges: tuple[float, ...] = Field(
        (0.044, 0.44, 4.4, 44.0, 440.0), min_length=1, max_length=100, description="lambda n / ||z||^2"
    )


def compare_with_algebra(settings: ClosedFormSettings, seed: int) -> dict[str, float]:
    """Compare the closed form of the risk's fall with direct algebra, on random regressions.

    Returns:
        'cases'; for each convention, 'kept' and 'rescaled', the largest absolute difference; 'kept rises' and
        'rescaled rises', the number of cases in which the augmentation raises the risk.
    """
    raise NotImplementedError


def compare_with_simulation(settings: SimulationSettings, seed: int) -> list[dict[str, Any]]:
    """Compare the closed form of the risk's fall with simulated regressions, for each case and convention.

    Returns:
        One row per case and convention: the case's 'dimensions', 'samples', 'ridge' and 'noise'; 'convention';
        'closed', the fall of the risk by the closed form (negative where the augmentation raises the risk);
        'simulated', and its 'standard_error'; 'deviation', their difference in standard errors.
    """
    raise NotImplementedError


def leading_order(settings: LeadingOrderSettings, seed: int) -> dict[str, Any]:
    """Compare the exact fall of the bias, by direct algebra, with its leading orders, in one random design.

    Returns:
        'rows', for each relative ridge lambda n / ||z||^2: 'relative_ridge'; 'kept' and 'rescaled', the fall over
        2 <z,beta>^2 / (lambda n), the leading order for a large ridge; 'small', the fall with the penalty kept over
        <z,beta>^2 / ||z||^2, the leading order for a small ridge. 'limit': what 'rescaled' tends to with the ridge,
        (n - ||X beta||^2 / <z,beta>^2) / (n + 1).
    """
    raise NotImplementedError
