"""The order of biases and of variances: plain ridge, a rotated sample and mixup, counted over random designs.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3: a label-invariant transform lowers the bias, mixup
lowers the variance and raises the bias. That mixup's variance lies below that of the transform holds in some
regressions and not in others: it is counted, not claimed.
"""

from typing import Any

from pydantic import Field

from models.settings import Settings
from models.theory.augmented_ridge import CASES, RidgeCase


class OrderSettings(Settings):
    """Settings of the order of biases and variances."""

    cases: tuple[RidgeCase, ...] = Field(CASES, min_length=1, max_length=100, description="the regressions")
    designs: int = Field(40, ge=1, le=10_000, description="random designs of each, for each seed")
    multiple: int = Field(1, ge=1, le=1000, description="mixed rows per sample")


def effect_order(settings: OrderSettings, seed: int) -> list[dict[str, Any]]:
    """Count in how many designs the biases and the variances are in the order of the theory.

    Returns:
        One row per case: its 'dimensions', 'samples', 'ridge' and 'noise'; 'designs'; the mean biases and variances
        'bias_plain', 'bias_rotation', 'bias_mixup', 'variance_plain', 'variance_rotation', 'variance_mixup'; the
        numbers of designs 'biases' (rotation < plain < mixup), 'rotation_below_plain' and 'plain_below_mixup' (biases),
        'variance_mixup_below_plain', 'variance_mixup_below_rotation'.
    """
    raise NotImplementedError
