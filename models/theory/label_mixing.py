"""Mixup in ridge regression: it acts as another ridge, to first order in n / m.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3.2; mixup: Zhang, Cissé, Dauphin, Lopez-Paz (ICLR 2018).
m rows w x_i + (1 - w) x_j with the labels w y_i + (1 - w) y_j are added; i and j are drawn independently and uniformly,
w from Beta(a, a). The mixed rows are W X, with W (m, n), and all that matters of them is S = I + W^T W, (n, n):
Z^T Z = X^T S X and Z^T A = X^T S. In expectation

    E S = (1 + q m / n) I + m (1 - q) / n^2 11^T,      q = E[w^2 + (1 - w)^2] = (a + 1) / (2 a + 1)
    E Z^T Z = (1 + q m / n) X^T X + m (1 - q) xbar xbar^T

and so, for centred inputs (xbar = 0), mixup is to first order plain ridge with another lambda:

    rescaled    lambda' = lambda (n + m) / (n + q m)        kept    lambda' = lambda n / (n + q m)

With the rescaled penalty lambda' is larger than lambda, and mixup lowers the risk only below the best ridge,
lambda* = sigma^2 p / (n ||beta||^2). With the penalty kept it is smaller: mixup undoes a part of the ridge.

Shapes: n samples, p dimensions, m mixed rows.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from models.settings import Settings
from models.theory.augmented_ridge import (
    CASES,
    CONVENTIONS,
    Convention,
    RidgeCase,
    draw_design,
    exact_risk,
    ridge_penalty,
)
from models.theory.linear_tasks import Floats, stream

Concentration = Annotated[float, Field(gt=0, le=1e3)]


class MixupSettings(Settings):
    """Settings of mixup in ridge regression."""

    cases: tuple[RidgeCase, ...] = Field(
        CASES, min_length=1, max_length=100, description="the regressions; lambda is that of relative_ridges"
    )
    multiples: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1, 100), min_length=1, max_length=20, description="mixed rows per sample, m / n"
    )
    concentrations: tuple[Concentration, ...] = Field(
        (1.0, 0.2), min_length=1, max_length=20, description="a of the weight's distribution Beta(a, a); 1 is uniform"
    )
    relative_ridges: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (0.1, 1.0, 1.5), min_length=1, max_length=100, description="lambda / lambda*"
    )
    draws: int = Field(200, ge=4, le=100_000, description="draws of mixed rows and noise, for each mean")
    shift: float = Field(
        1.0, gt=0, le=1e6, description="mean of every entry of uncentred inputs, in its standard deviations"
    )


def expected_square(concentration: float) -> float:
    """Return q = E[w^2 + (1 - w)^2] of a weight from Beta(a, a): 2/3 for a uniform one."""
    return (concentration + 1) / (2 * concentration + 1)


def equivalent_ridge(convention: Convention, samples: int, mixed: int, concentration: float) -> float:
    """Return lambda' / lambda: the ridge that mixup acts as, for n samples with centred inputs and m mixed rows."""
    penalty = ridge_penalty(convention, 1.0, samples, samples + mixed)
    return penalty / (samples + expected_square(concentration) * mixed)


def expected_mixing(samples: int, mixed: int, concentration: float) -> Floats:
    """Return E S, (n, n), of m mixed rows."""
    q = expected_square(concentration)
    return np.eye(samples) * (1 + q * mixed / samples) + mixed * (1 - q) / samples**2


def draw_mixing(generator: np.random.Generator, samples: int, mixed: int, concentration: float) -> Floats:
    """Draw m mixed rows and return S = I + W^T W, (n, n)."""
    first, second = generator.integers(samples, size=(2, mixed))
    weight = generator.beta(concentration, concentration, mixed)
    square = np.eye(samples).ravel()
    for i, w in ((first, weight), (second, 1 - weight)):
        for j, v in ((first, weight), (second, 1 - weight)):
            square += np.bincount(i * samples + j, w * v, samples**2)
    return square.reshape(samples, samples)


def mixup(settings: MixupSettings, seed: int) -> dict[str, Any]:
    """Compare the risk with mixed rows with that of the equivalent ridge, and with that of plain ridge.

    Returns:
        'rows', for each case (centred inputs), concentration, multiple, relative ridge and convention: the case's
        'dimensions', 'samples' and 'noise'; 'concentration', 'multiple', 'relative_ridge', 'convention';
        'equivalent_ridge', lambda' / lambda; 'plain', the risk without mixed rows; 'equivalent', the risk at lambda';
        'mixed', the exact risk for given mixed rows, averaged over their draws; 'off', 'mixed' / 'equivalent' - 1;
        'change', 'mixed' / 'plain' - 1; 'simulated', the mean squared error of regressions with fresh mixed rows and
        fresh noise; its 'standard_error', and its 'deviation' from 'equivalent' in standard errors.
        'grams', for each concentration, with inputs centred and not: 'concentration', 'centred', 'multiple' (the
        largest); 'deviation', of the mean Z^T Z from its expectation in standard errors, root mean square over entries
        (about 1 where it holds); 'without_mean', the same if the term with xbar xbar^T is left out.
    """
    rows = [row for case in settings.cases for a in settings.concentrations for row in _risks(settings, case, a, seed)]
    grams = [_grams(settings, a, centred, seed) for a in settings.concentrations for centred in (True, False)]
    return {"rows": rows, "grams": grams}


def risks_of_mixing(
    inputs: Floats, beta: Floats, noises: Floats, noise: float, mixing: Floats, penalties: Floats
) -> tuple[Floats, Floats]:
    """Return the exact risk for given mixed rows, and the squared error of one regression, for many penalties at once.

    With S = L L^T and the eigenvalues and eigenvectors L^T X X^T L = Q diag(mu) Q^T, the estimate for labels Y is
    X^T L Q diag(1 / (mu + t)) Q^T L^T Y; its length and its product with beta are sums over the eigenvalues.

    Args:
        inputs: X, (n, p).
        beta: (p,).
        noises: e, (n,), one draw, with its standard deviation sigma.
        noise: sigma.
        mixing: S, (n, n).
        penalties: t, (k,), positive.

    Returns:
        Risks and squared errors, (k,) each.
    """
    lower = np.linalg.cholesky(mixing)
    rows = lower.T @ inputs
    values, vectors = np.linalg.eigh(rows @ rows.T)
    basis = lower @ vectors
    seen, labels = basis.T @ (inputs @ beta), basis.T @ (inputs @ beta + noises)
    shrunk = 1 / (values + penalties[:, None])
    squares, length = values * shrunk**2, float(beta @ beta)
    bias = length - 2 * shrunk @ seen**2 + squares @ seen**2
    variance = noise**2 * squares @ (basis**2).sum(0)
    return bias + variance, length - 2 * shrunk @ (seen * labels) + squares @ labels**2


def _risks(settings: MixupSettings, case: RidgeCase, concentration: float, seed: int) -> list[dict[str, Any]]:
    """Compute the rows of one case and concentration."""
    n, noise = case.samples, case.noise
    inputs, beta = draw_design(stream(seed, f"mixup, {case}"), case.dimensions, n)
    inputs -= inputs.mean(0)
    best = noise**2 * case.dimensions / n
    cells = [(relative, convention) for relative in settings.relative_ridges for convention in CONVENTIONS]
    rows = []
    for multiple in settings.multiples:
        m = multiple * n
        penalties = np.array([ridge_penalty(convention, relative * best, n, n + m) for relative, convention in cells])
        generator = stream(seed, f"mixup, {case}, {concentration}, {multiple}")
        drawn = []
        for _ in range(settings.draws):
            mixing, noises = draw_mixing(generator, n, m, concentration), noise * generator.standard_normal(n)
            drawn.append(risks_of_mixing(inputs, beta, noises, noise, mixing, penalties))
        means = np.mean(drawn, 0)
        standard_errors = np.std([errors for _, errors in drawn], 0, ddof=1) / np.sqrt(settings.draws)
        for (relative, convention), mixed, simulated, se in zip(cells, *means, standard_errors, strict=True):
            ratio = equivalent_ridge(convention, n, m, concentration)
            plain, equivalent = (
                exact_risk(inputs, np.eye(n), beta, noise, n * scale * relative * best).total for scale in (1, ratio)
            )
            rows.append(
                case.model_dump(include={"dimensions", "samples", "noise"})
                | {"concentration": concentration, "multiple": multiple, "relative_ridge": relative}
                | {"convention": convention, "equivalent_ridge": ratio, "plain": plain, "equivalent": equivalent}
                | {"mixed": float(mixed), "off": float(mixed / equivalent - 1), "change": float(mixed / plain - 1)}
                | {"simulated": float(simulated), "standard_error": float(se)}
                | {"deviation": float((simulated - equivalent) / se)}
            )
    return rows


def _grams(settings: MixupSettings, concentration: float, centred: bool, seed: int) -> dict[str, Any]:
    """Compare the mean of Z^T Z over draws of the mixed rows with its expectation, in the first case."""
    case, multiple = settings.cases[0], max(settings.multiples)
    n, m = case.samples, multiple * case.samples
    generator = stream(seed, f"mixup's Gram matrix, {concentration}, {centred}")
    inputs, _ = draw_design(generator, case.dimensions, n)
    inputs = inputs - inputs.mean(0) if centred else inputs + settings.shift / np.sqrt(case.dimensions)
    drawn = [inputs.T @ draw_mixing(generator, n, m, concentration) @ inputs for _ in range(settings.draws)]
    mean, standard_error = np.mean(drawn, 0), np.std(drawn, 0, ddof=1) / np.sqrt(settings.draws)
    expected = inputs.T @ expected_mixing(n, m, concentration) @ inputs
    scaled = (1 + expected_square(concentration) * m / n) * inputs.T @ inputs
    deviation, without_mean = (
        float(np.sqrt(np.mean(((mean - each) / standard_error) ** 2))) for each in (expected, scaled)
    )
    named = {"concentration": concentration, "centred": centred, "multiple": multiple}
    return named | {"deviation": deviation, "without_mean": without_mean}
