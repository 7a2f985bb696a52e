"""The order of biases and of variances: plain ridge, rotated samples and mixup, counted over random designs.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3: a label-invariant transform lowers the bias, mixup
lowers the variance and raises the bias. Here every sample gets a rotated copy with its own label (N = 2 n), and mixup
adds mixed rows. What holds depends on the convention of the penalty and on what is added; so everything is counted:

* With the rescaled penalty both orders of the bias hold. With the kept one mixup's bias lies below plain ridge's, as it
  acts as a smaller ridge.
* One added row instead of n, with the rescaled penalty, often raises the bias: the rise from shrinking the samples' own
  directions more exceeds the fall in one new direction.
* That mixup's variance lies below that of the rotation holds in some regressions and in others not.

Shapes: n samples, p dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from models.settings import Settings
from models.theory.augmented_ridge import (
    CASES,
    CONVENTIONS,
    Convention,
    RidgeCase,
    Risk,
    draw_design,
    exact_risk,
    ridge_penalty,
)
from models.theory.label_invariant import orthogonalise, rotate_around
from models.theory.label_mixing import draw_mixing
from models.theory.linear_tasks import Floats, stream

PLAIN, ROTATION, MIXUP, ONE_ROW = "plain", "rotation", "mixup", "one row"


class OrderSettings(Settings):
    """Settings of the order of biases and variances."""

    cases: tuple[RidgeCase, ...] = Field(CASES, min_length=1, max_length=100, description="the regressions")
    designs: int = Field(40, ge=1, le=10_000, description="random designs of each, for each seed")
    multiple: int = Field(1, ge=1, le=1000, description="mixed rows per sample")


def effect_order(settings: OrderSettings, seed: int) -> list[dict[str, Any]]:
    """Count in how many designs the biases and the variances are in the order of the theory.

    Returns:
        One row per case and convention: the case's 'dimensions', 'samples', 'ridge' and 'noise'; 'convention';
        'designs'; the mean biases and variances 'bias_plain', 'bias_rotation', 'bias_mixup', 'variance_plain',
        'variance_rotation', 'variance_mixup'; the numbers of designs in which the biases are in the order rotation <
        plain < mixup, 'biases', and in each half of it, 'rotation_below_plain' and 'plain_below_mixup'; in which the
        bias falls by one added row alone, 'one_row_below_plain'; in which the variances are in the order
        'variance_mixup_below_plain', 'variance_mixup_below_rotation'.
    """
    rows = []
    for case in settings.cases:
        generator = stream(seed, f"order of effects, {case}")
        designs = [_risks(generator, case, settings.multiple) for _ in range(settings.designs)]
        for convention in CONVENTIONS:
            counts = _counts([design[convention] for design in designs])
            rows.append(case.model_dump() | {"convention": convention, "designs": settings.designs} | counts)
    return rows


def _risks(generator: np.random.Generator, case: RidgeCase, multiple: int) -> dict[Convention, dict[str, Risk]]:
    """Draw a design and return the risks without and with each augmentation, by convention."""
    n = case.samples
    inputs, beta = draw_design(generator, case.dimensions, n)
    own, rotated = np.eye(n), rotate_around(generator, beta, inputs)
    # n rows with the same Z^T Z and Z^T A as the samples and their mixed rows
    mixed = np.asarray(np.linalg.cholesky(draw_mixing(generator, n, multiple * n, 1.0)).T)
    augmented: dict[str, tuple[Floats, Floats, int]] = {
        PLAIN: (inputs, own, n),
        ROTATION: (np.vstack([inputs, rotated]), np.vstack([own, own]), 2 * n),
        ONE_ROW: (*orthogonalise(inputs, rotated[:1], [0]).after(inputs), n + 1),
        MIXUP: (mixed @ inputs, mixed, (1 + multiple) * n),
    }
    return {
        convention: {
            name: exact_risk(rows, mixing, beta, case.noise, ridge_penalty(convention, case.ridge, n, count))
            for name, (rows, mixing, count) in augmented.items()
        }
        for convention in CONVENTIONS
    }


def _counts(designs: Sequence[dict[str, Risk]]) -> dict[str, float]:
    """Return mean biases and variances, and the numbers of designs in which an order holds."""
    bias = {name: np.array([design[name].bias for design in designs]) for name in designs[0]}
    variance = {name: np.array([design[name].variance for design in designs]) for name in designs[0]}
    means = {
        f"{part}_{name}": float(values[name].mean())
        for part, values in (("bias", bias), ("variance", variance))
        for name in (PLAIN, ROTATION, MIXUP)
    }
    below, above = bias[ROTATION] < bias[PLAIN], bias[PLAIN] < bias[MIXUP]
    holds = {
        "biases": below & above,
        "rotation_below_plain": below,
        "plain_below_mixup": above,
        "one_row_below_plain": bias[ONE_ROW] < bias[PLAIN],
        "variance_mixup_below_plain": variance[MIXUP] < variance[PLAIN],
        "variance_mixup_below_rotation": variance[MIXUP] < variance[ROTATION],
    }
    return means | {name: int(held.sum()) for name, held in holds.items()}
