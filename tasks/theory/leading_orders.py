"""How far the leading orders of the bias's fall hold, ridge kept, as formulas of r = lambda n / ||z||^2.

The exact fall is <z,beta>^2 / ||z||^2 [1 - (r / (r + 1))^2]; see `models.theory.label_invariant`.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

CLOSE = 0.05
"""Relative difference up to which a leading order counts as close."""

Ridge = TypeVar("Ridge", float, NDArray[np.float64])


def kept_over_leading(relative_ridge: Ridge) -> Ridge:
    """Return the exact fall over the large ridge's leading order, 2 <z,beta>^2 / (lambda n)."""
    return relative_ridge * (2 * relative_ridge + 1) / (2 * (relative_ridge + 1) ** 2)


def small_over_leading(relative_ridge: Ridge) -> Ridge:
    """Return the exact fall over the small ridge's leading order, <z,beta>^2 / ||z||^2."""
    return 1 - (relative_ridge / (relative_ridge + 1)) ** 2


def ranges_of_leading_orders() -> tuple[float, float]:
    """Return the r below which the small ridge's leading order is close, and the r above which the large ridge's is."""
    ridges = np.geomspace(1e-4, 1e4, 20_001)
    small = ridges[small_over_leading(ridges) >= 1 - CLOSE].max()
    large = ridges[kept_over_leading(ridges) >= 1 - CLOSE].min()
    return float(small), float(large)
