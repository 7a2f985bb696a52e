"""Checks of the theory of data augmentation: each statement with the figure found for it, and whether it holds."""

from collections.abc import Callable, Iterable
from itertools import chain

from tasks.records.data import CheckRecord
from tasks.records.summary_text import join_names, signed
from tasks.theory.augmentation_records import FAR, AugmentationRecord, Deviations, MixupRecord
from tasks.theory.estimate import Estimate
from tasks.theory.estimate_text import helps, percent, percent_of
from tasks.theory.leading_orders import kept_over_leading

ALGEBRA_LIMIT = 1e-10
SUM_LIMIT = 1e-6
LIMIT_TOLERANCE = 0.02  # of a ratio to the leading order; relative where it is larger than 1
BIAS_SHARE = 0.9  # of the designs of each setting: 36 of 40
NEAR_SHARE = 0.99  # of comparisons within 3 standard errors; of exact ones 99.7 % are
GRAM_TOLERANCE = 0.2  # of the root mean square deviation, which is 1 where the expectation holds
ABOVE_BEST = 1.5

_Check = tuple[str, str, bool]


def check_augmentation(record: AugmentationRecord) -> tuple[CheckRecord, ...]:
    """Compare each statement of the theory with the numbers of the record."""
    checks = chain(
        _closed_form(record), _leading_order(record), _composition(record), _mixup(record), _order(record), _map(record)
    )
    return tuple(
        CheckRecord(rule=rule, found=found, result="ok" if holds else "BROKEN") for rule, found, holds in checks
    )


def _closed_form(record: AugmentationRecord) -> Iterable[_Check]:
    for row in record.closed_form:
        yield (
            f"Ridge {row.convention}: the closed form of the risk's fall equals direct algebra, to {ALGEBRA_LIMIT:g}",
            f"largest difference {row.largest_difference:.1e} in {row.cases:,} random regressions",
            row.largest_difference <= ALGEBRA_LIMIT,
        )
    deviations = Deviations.worst([row.deviations for row in record.simulation])
    yield (
        f"The closed form of the risk's fall equals simulation, within {FAR:g} standard errors of all seeds "
        "together, in every setting and convention",
        str(deviations),
        abs(deviations.together) <= FAR,
    )
    falls = [value for row in record.simulation for value in row.closed]
    rises = sum(value < 0 for value in falls)
    clear = sum(
        simulated + FAR * error < 0
        for row in record.simulation
        for simulated, error in zip(row.simulated, row.standard_error, strict=True)
    )
    yield (
        "A label-invariant transform can raise the risk",
        f"in {rises} of {len(falls)} regressions by the closed form; in {clear} the simulation shows it beyond "
        f"{FAR:g} standard errors",
        clear > 0,
    )


def _leading_order(record: AugmentationRecord) -> Iterable[_Check]:
    rows = sorted(record.leading_order, key=lambda row: row.relative_ridge)
    curve = ", ".join(f"{row.kept.median:.3f}" for row in rows)
    ridges = ", ".join(f"{row.relative_ridge:g}" for row in rows)
    off = max(
        abs(value - kept_over_leading(row.relative_ridge))
        for row in rows
        for value in (row.kept.lowest, row.kept.highest)
    )
    yield (
        "Ridge kept: the bias's exact fall is r (2r + 1) / (2 (r + 1)²) of its leading order 2⟨z,β⟩² / λn, "
        f"where r = λn / ‖z‖² = {ridges}",
        f"{curve}; largest difference from the formula {off:.1e}",
        off <= SUM_LIMIT,
    )
    last = rows[-1]
    ends = ((last.rescaled.lowest, min(record.limit)), (last.rescaled.highest, max(record.limit)))
    yield (
        "Ridge rescaled: that ratio tends to (n − ‖Xβ‖² / ⟨z,β⟩²) / (n + 1), which depends on the design",
        f"limit {signed(record.limit[0], 2)} in the first design, {signed(min(record.limit), 2)} to "
        f"{signed(max(record.limit), 2)} in all; at r = {last.relative_ridge:g} {signed(last.rescaled.lowest, 2)} to "
        f"{signed(last.rescaled.highest, 2)}",
        all(abs(found - limit) <= LIMIT_TOLERANCE * max(1, abs(limit)) for found, limit in ends),
    )


def _composition(record: AugmentationRecord) -> Iterable[_Check]:
    most = max(row.transforms for row in record.composition)
    off, large_off = (max(getattr(row, name) for row in record.composition) for name in ("off", "large_off"))
    yield (
        f"Small ridge: 1 to {most} transforms, one after the other, lower the bias by the sum of squared, sequentially "
        f"orthogonalised projections, to {SUM_LIMIT:g}",
        f"largest relative difference {off:.1e}",
        off <= SUM_LIMIT,
    )
    yield (
        f"Large ridge: they lower it by 2 Σ⟨z,β⟩² / t, to {LIMIT_TOLERANCE:g}",
        f"largest relative difference {large_off:.1e}",
        large_off <= LIMIT_TOLERANCE,
    )
    reflection = record.reflection
    yield (
        f"A reflection (R² = I) applied again adds nothing, to {SUM_LIMIT:g}; a rotation applied again does",
        f"further fall of the bias {reflection.second:.1e} of the first, ‖z₂‖ / ‖x‖ {reflection.length:.1e}; by the "
        f"rotation {reflection.rotation_second.mean:.1e}",
        reflection.second <= SUM_LIMIT and reflection.rotation_second.mean > 0,
    )


def _mixup(record: AugmentationRecord) -> Iterable[_Check]:
    multiple = max(row.multiple for row in record.mixup)
    rescaled = [row for row in record.mixup if (row.convention, row.multiple) == ("rescaled", multiple)]
    deviations = Deviations.worst([row.deviations for row in rescaled])
    yield (
        f"Ridge rescaled: mixup with m = {multiple} n rows has the risk of ridge λ' without them, within {FAR:g} "
        f"standard errors in at least {percent_of(NEAR_SHARE, 0)} of the comparisons",
        str(deviations),
        deviations.far <= (1 - NEAR_SHARE) * deviations.seeds,
    )
    main = record.main_mixup("rescaled")
    lowest = min(row.relative_ridge for row in main)
    if lowest < 1:
        yield _change_check(
            f"It lowers the risk at {lowest:g} λ* (weight {main[0].weight})",
            [row for row in main if row.relative_ridge == lowest],
            helps,
        )
    above = [row for row in main if row.relative_ridge >= ABOVE_BEST]
    if above:
        yield _change_check(
            f"It does not lower it at {ABOVE_BEST:g} λ* and above", above, lambda change: change.mean >= 0
        )
    for centred in (True, False):
        grams = [row for row in record.grams if row.centred == centred]
        term = "" if centred else ", with the term x̄x̄ᵀ"
        yield (
            f"{'Centred' if centred else 'Uncentred'} inputs: the mean ZᵀZ of mixup is its expectation{term} (root "
            f"mean square deviation {1 - GRAM_TOLERANCE:g} to {1 + GRAM_TOLERANCE:g} standard errors)",
            "; ".join(
                f"Beta({row.concentration:g}, {row.concentration:g}): {row.deviation.mean:.2f}"
                + ("" if centred else f", without the term {row.without_mean.mean:.1f}")
                for row in grams
            ),
            all(abs(row.deviation.mean - 1) <= GRAM_TOLERANCE for row in grams),
        )


def _change_check(rule: str, rows: list[MixupRecord], holds: Callable[[Estimate], bool]) -> _Check:
    found = "; ".join(f"{percent(row.change.mean, 1)} ({row.name})" for row in rows)
    return rule, found, all(holds(row.change) for row in rows)


def _order(record: AugmentationRecord) -> Iterable[_Check]:
    rescaled = [row for row in record.order if row.convention == "rescaled"]
    yield (
        "Ridge rescaled, every sample rotated: bias(rotation) < bias(plain) < bias(mixup) in at least "
        f"{percent_of(BIAS_SHARE, 0)} of the designs, in every setting and seed",
        join_names([f"{row.biases} of {row.designs}" for row in rescaled])
        + f"; fewest in one seed {percent_of(min(row.fewest_biases for row in rescaled), 0)}",
        all(row.fewest_biases >= BIAS_SHARE for row in rescaled),
    )
    yield (
        "Ridge rescaled: variance(mixup) < variance(plain) in every design",
        join_names([f"{row.variance_mixup_below_plain} of {row.designs}" for row in rescaled]),
        all(row.variance_mixup_below_plain == row.designs for row in rescaled),
    )


def _map(record: AugmentationRecord) -> Iterable[_Check]:
    cells = [cell for cell in record.map if cell.convention == "kept"]
    agree, total = sum(cell.agree for cell in cells), sum(cell.change.seeds for cell in cells)
    yield (
        "Ridge kept: the transform helps exactly where ⟨z,β⟩²(2t + ‖z‖²) > σ²‖a‖²‖z‖²",
        f"right in {agree:,} of {total:,} cells of the map, over all seeds",
        agree == total,
    )
