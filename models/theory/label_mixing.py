"""Mixup in ridge regression: it is to first order a stronger ridge.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3.2; mixup: Zhang, Cissé, Dauphin, Lopez-Paz (ICLR 2018).
m rows w x_i + (1 - w) x_j with the labels w y_i + (1 - w) y_j are added; i and j are drawn independently and uniformly,
w from Beta(a, a). In expectation

    E Z^T Z = (1 + q m / n) X^T X + m (1 - q) xbar xbar^T,      q = E[w^2 + (1 - w)^2] = (a + 1) / (2 a + 1)

For centred inputs (xbar = 0) and a uniform weight (a = 1, q = 2/3) that is plain ridge with another lambda:

    rescaled    lambda' = lambda (n + m) / (n + q m)     kept    lambda' = lambda n / (n + q m)

So with the rescaled penalty it lowers the risk only below the best ridge, lambda* = sigma^2 p / (n ||beta||^2).
"""

from typing import Any

from pydantic import Field

from models.settings import Settings


class MixupSettings(Settings):
    """Settings of mixup in ridge regression; the inputs are N(0, I / p), and ||beta|| = 1."""

    dimensions: int = Field(100, ge=2, le=2000, description="p, more than the samples")
    samples: int = Field(30, ge=2, le=1999, description="n")
    noise: float = Field(0.3, gt=0, le=1e6, description="sigma, standard deviation of the label noise")
    multiples: tuple[int, ...] = Field((1, 10, 100), min_length=1, max_length=20, description="mixed rows per sample")
    concentrations: tuple[float, ...] = Field(
        (1.0, 0.2), min_length=1, max_length=20, description="a of the weight's distribution Beta(a, a); 1 is uniform"
    )
    relative_ridges: tuple[float, ...] = Field(
        (0.1, 0.3, 1.0, 1.5, 3.0), min_length=1, max_length=100, description="lambda / lambda*"
    )
    draws: int = Field(20, ge=2, le=10_000, description="draws of the mixed rows for each mean and standard error")
    shift: float = Field(0.1, ge=0, le=1e6, description="mean of every entry of uncentred inputs, times sqrt(p)")


def mixup(settings: MixupSettings, seed: int) -> dict[str, Any]:
    """Compare the risk with mixed rows with that of the equivalent ridge, and with that of plain ridge.

    Returns:
        'rows', for each concentration, multiple, relative ridge and convention (inputs centred): 'concentration',
        'multiple', 'relative_ridge', 'convention'; 'equivalent_ridge', lambda' / lambda; 'plain', the risk without
        mixed rows; 'equivalent', the risk at lambda'; 'mixed', the mean risk over draws of the mixed rows, and its
        'standard_error'; 'deviation' of 'mixed' from 'equivalent' in standard errors; 'change', 'mixed' / 'plain' - 1.
        'grams', for each concentration, with inputs centred and not: 'concentration', 'centred', 'multiple' (the
        largest); 'deviation', of the mean Z^T Z from its expectation in standard errors, root mean square over entries
        (1 where it holds); 'without_mean', the same if the term with xbar xbar^T is left out.
    """
    raise NotImplementedError
