"""How large a drift must be for a night to alarm.

    python -m benchmarks.drift [--nights 400]

A night's new patients, one image each, are compared with 500 of the reference period by `models.evaluation.drift`. The
table shows the share of nights that alarm when one quantity drifts: its p-value is below 0.01 / 36, as the correction
for the 36 tests of a night of fourteen labels asks of the smallest.
"""

import argparse
from collections.abc import Callable

import numpy as np

from models.evaluation.drift import compare_count, compare_shares, compare_values

REFERENCE, PATIENTS, TESTS, LEVEL = 500, (20, 40, 100), 36, 0.01
Night = Callable[[np.random.Generator, int], float | None]
"""Makes a night of so many patients and returns the p-value."""


def shifted(by: float, share: float = 1.0) -> Night:
    """Shift values by so many standard deviations, in a share of the images."""

    def p_value(rng: np.random.Generator, n: int) -> float | None:
        night = rng.normal(size=n) + by * (rng.random(n) < share)
        return compare_values(rng.normal(size=REFERENCE), night, 10).p_value

    return p_value


def share(before: float, tonight: float) -> Night:
    """Change the share of images with a finding, of a view, or of unreadable files."""

    def p_value(rng: np.random.Generator, n: int) -> float | None:
        with_it = rng.binomial(REFERENCE, before), rng.binomial(n, tonight)
        reference, night = ({"with": x, "without": of - x} for x, of in zip(with_it, (REFERENCE, n), strict=True))
        return compare_shares(reference, night, 10).p_value

    return p_value


def count(factor: float, nights: int) -> Night:
    """Multiply the number of images, which has twice the variance of Poisson's."""

    def p_value(rng: np.random.Generator, n: int) -> float | None:
        earlier = rng.negative_binomial(n, 0.5, size=nights).tolist()
        return compare_count(earlier, round(factor * n)).p_value

    return p_value


DRIFTS: dict[str, Night] = {
    "none: grey levels": shifted(0),
    "none: a share of 10 %": share(0.1, 0.1),
    "none: images, 10 nights before": lambda rng, n: count(rng.negative_binomial(n, 0.5) / n, 10)(rng, n),
    "grey levels or scores by 0.5 standard deviations": shifted(0.5),
    "by 0.75": shifted(0.75),
    "by 1": shifted(1),
    "by 1.5": shifted(1.5),
    "by 3, in a quarter of the images": shifted(3, 0.25),
    "by 3, in half of the images": shifted(3, 0.5),
    "a share from 5 to 15 %": share(0.05, 0.15),
    "from 10 to 20 %": share(0.1, 0.2),
    "from 10 to 30 %": share(0.1, 0.3),
    "from 40 to 60 %": share(0.4, 0.6),
    "from 40 to 80 %": share(0.4, 0.8),
    "from 0.5 to 10 %": share(0.005, 0.1),
    "from 0.5 to 20 %": share(0.005, 0.2),
    "images x 2, 10 nights before": count(2, 10),
    "images x 2, 30 nights before": count(2, 30),
    "images x 3, 10 nights before": count(3, 10),
    "no images, 10 nights before": count(0, 10),
}


def main() -> None:
    """Print the share of nights that alarm, by drift and number of new patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=400, help="of each drift and number of patients")
    nights = parser.parse_args().nights
    print(f"| drift | {' | '.join(f'{n} patients' for n in PATIENTS)} |\n|---|{'---|' * len(PATIENTS)}")
    for name, night in DRIFTS.items():
        found = []
        for n in PATIENTS:
            rng = np.random.default_rng(n)
            p_values = [night(rng, n) for _ in range(nights)]
            found.append(np.mean([p is not None and p < LEVEL / TESTS for p in p_values]))
        print(f"| {name} | {' | '.join(f'{share:.0%}' for share in found)} |", flush=True)


if __name__ == "__main__":
    main()
