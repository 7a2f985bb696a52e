"""What the page and the log say of data augmentation beside its figures and sentences: every number once."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from models.theory.augmented_ridge import CONVENTIONS
from models.theory.digit_ridge import EQUIVALENT
from tasks.records.summary_text import signed
from tasks.theory.augmentation_records import AugmentationRecord, Deviations, DigitBestRecord, DigitsRecord
from tasks.theory.augmentation_text import noise_text
from tasks.theory.estimate import Spread
from tasks.theory.estimate_text import change_text, percent, percent_of, percent_span, points_text
from tasks.theory.leading_orders import CLOSE, ranges_of_leading_orders


class MapCount(NamedTuple):
    """Cells of the map of help and harm over all seeds, for one convention of the ridge."""

    convention: str
    helps: int
    predicted: int
    agree: int
    total: int


class MixupGroup(NamedTuple):
    """Mixup in all regressions, with one weight's distribution, number of rows and convention."""

    name: str
    convention: str
    spans: list[tuple[float, str]]
    off: float
    deviations: Deviations


def augmentation_contents(record: AugmentationRecord) -> dict[str, Any]:
    """Return what the page's template of data augmentation shows, by name."""
    return {
        "augmentation": record,
        "limit": Spread.over(record.limit),
        "weight": record.mixup[0].weight,
        "falling": sum(limit > 0 for limit in record.limit),
        "close": CLOSE,
        "ranges": ranges_of_leading_orders(),
        "map_counts": map_counts(record),
        "mixup_groups": mixup_groups(record),
        "digit_tables": _digit_tables(record.digits) if record.digits else {},
        "small": small,
        "equivalent": EQUIVALENT,
        "noise_text": noise_text,
        "percent_of": percent_of,
    }


def map_counts(record: AugmentationRecord) -> list[MapCount]:
    """Count for each convention the map's cells that help, that are said to help, and in which both agree."""
    counts = []
    for convention in CONVENTIONS:
        cells = [cell for cell in record.map if cell.convention == convention]
        helps, predicted, agree = (sum(getattr(cell, name) for cell in cells) for name in MapCount._fields[1:4])
        total = sum(cell.change.seeds for cell in cells)
        counts.append(MapCount(convention, helps, predicted, agree, total))
    return counts


def mixup_groups(record: AugmentationRecord) -> list[MixupGroup]:
    """Group mixup's records by convention, weight and number of rows.

    'spans' has for each ridge the range of the change over the regressions, 'off' the largest mean difference from the
    equivalent ridge.
    """
    keys = dict.fromkeys((row.convention, row.concentration, row.multiple) for row in record.mixup)
    groups = []
    for convention, concentration, multiple in sorted(keys, key=lambda key: (CONVENTIONS.index(key[0]), *key[1:])):
        key = (convention, concentration, multiple)
        rows = [row for row in record.mixup if (row.convention, row.concentration, row.multiple) == key]
        spans = []
        for ridge in sorted({row.relative_ridge for row in rows}):
            changes = [row.change.mean for row in rows if row.relative_ridge == ridge]
            spans.append((ridge, percent_span(min(changes), max(changes))))
        name = f"{rows[0].weight}, m = {multiple} n"
        off = max((row.off.mean for row in rows), key=abs)
        groups.append(MixupGroup(name, convention, spans, off, Deviations.worst([row.deviations for row in rows])))
    return groups


def _digit_tables(digits: DigitsRecord) -> dict[str, dict[str, list[DigitBestRecord]]]:
    """Return convention -> arm -> the records by rising label noise."""
    tables: dict[str, dict[str, list[DigitBestRecord]]] = {convention: {} for convention in CONVENTIONS}
    for row in sorted(digits.best, key=lambda row: row.label_noise):
        tables[row.convention].setdefault(row.arm, []).append(row)
    return tables


def small(number: float) -> str:
    """Format a small number with its sign, as '+5.518e−02'."""
    return f"{number:+.3e}".replace("-", "−")


def augmentation_lines(record: AugmentationRecord) -> Iterator[str]:
    """Yield the log's lines: the answer, every number, and the checks."""
    yield from record.answer
    yield from chain(_closed_form_lines(record), _bias_lines(record), _mixup_lines(record), _order_lines(record))
    yield from chain(_map_lines(record), _digit_lines(record))
    for check in record.checks:
        yield f"{check.result}: {check.rule} ({check.found})"


def _closed_form_lines(record: AugmentationRecord) -> Iterator[str]:
    for row in record.closed_form:
        yield (
            f"closed form against algebra, ridge {row.convention}: largest difference {row.largest_difference:.1e} in "
            f"{row.cases} cases, of which {row.rises} rise"
        )
    for case in record.simulation:
        yield (
            f"closed form against simulation, {case.name}, ridge {case.convention}: {small(case.closed[0])} against "
            f"{small(case.simulated[0])} ± {case.standard_error[0]:.1e} in the first seed; standard errors: "
            f"{case.deviations}"
        )


def _bias_lines(record: AugmentationRecord) -> Iterator[str]:
    for row in record.leading_order:
        yield (
            f"leading order at λn/‖z‖² = {row.relative_ridge:g}: large ridge, kept {row.kept.median:.4f}, rescaled "
            f"{_spread(row.rescaled)}; small ridge {row.small.median:.4f}"
        )
    limit = Spread.over(record.limit)
    yield f"leading order, limit of the rescaled ridge: first seed {record.limit[0]:.3f}, {_spread(limit)}"
    for each in record.composition:
        yield (
            f"composition of {each.transforms}: relative difference from the sum of projections {each.off:.1e}, large "
            f"ridge {each.large_off:.1e}; fall of the bias {each.fall.mean:.4f}"
        )
    reflection = record.reflection
    yield (
        f"reflection: fall of the bias {reflection.first.mean:.4f}, again {reflection.second:.1e} of it, length of the "
        f"second direction {reflection.length:.1e}; rotation again {reflection.rotation_second.mean:.4f}"
    )


def _spread(spread: Spread) -> str:
    return (
        f"{signed(spread.median)} (quartiles {signed(spread.lower)} and {signed(spread.upper)}, range "
        f"{signed(spread.lowest)} to {signed(spread.highest)})"
    )


def _mixup_lines(record: AugmentationRecord) -> Iterator[str]:
    for row in record.mixup:
        yield (
            f"mixup, {row.name}, {row.weight}, m = {row.multiple} n, ridge "
            f"{row.convention}, {row.relative_ridge:g} λ*: {change_text(row.change, 2)}, ridge λ' "
            f"{percent(row.equivalent_change.mean, 2)}, apart {percent(row.off.mean, 2)}; standard errors: "
            f"{row.deviations}"
        )
    for gram in record.grams:
        yield (
            f"mixup, mean ZᵀZ, Beta({gram.concentration:g}, {gram.concentration:g}), m = {gram.multiple} n, "
            f"{'centred' if gram.centred else 'not centred'}: deviation {gram.deviation.mean:.3f} standard errors, "
            f"{gram.without_mean.mean:.3f} without the term of the mean"
        )


def _order_lines(record: AugmentationRecord) -> Iterator[str]:
    for row in record.order:
        yield (
            f"order, {row.name}, ridge {row.convention}, of {row.designs} designs: biases rotation < plain < mixup "
            f"{row.biases}, rotation < plain {row.rotation_below_plain}, plain < mixup {row.plain_below_mixup}, one "
            f"row < plain {row.one_row_below_plain}; variances mixup < plain {row.variance_mixup_below_plain}, mixup < "
            f"rotation {row.variance_mixup_below_rotation}"
        )


def _map_lines(record: AugmentationRecord) -> Iterator[str]:
    for count in map_counts(record):
        yield (
            f"map, ridge {count.convention}: helps in {count.helps} of {count.total}, said to help in "
            f"{count.predicted}, both say the same in {count.agree}"
        )
    keys = dict.fromkeys((cell.convention, cell.projection, cell.noise) for cell in record.map)
    for convention, projection, noise in keys:
        cells = (c for c in record.map if (c.convention, c.projection, c.noise) == (convention, projection, noise))
        changes = ", ".join(f"{cell.relative_ridge:g}: {percent(cell.change.mean, 2)}" for cell in cells)
        yield f"map, ridge {convention}, cos² {projection:g}, σ {noise:g}, change by λn/‖z‖²: {changes}"


def _digit_lines(record: AugmentationRecord) -> Iterator[str]:
    if record.digits is None:
        yield "digits: left out, no folder of MNIST's files was named (setting digits)"
        return
    for row in record.digits.best:
        yield (
            f"digits, {noise_text(row.label_noise)}, ridge {row.convention}, {row.arm}: error "
            f"{percent_of(row.error.mean, 2)} at λ {row.ridge:g}, {points_text(row.minus_plain)} points from plain"
        )
    keys = dict.fromkeys((row.label_noise, row.convention, row.arm) for row in record.digits.rows)
    for key in keys:
        rows = [row for row in record.digits.rows if (row.label_noise, row.convention, row.arm) == key]
        errors = ", ".join(
            f"{r.ridge:g}: {percent_of(r.error.mean, 2)} (squared {signed(r.squared_error.mean, 4)[1:]})" for r in rows
        )
        yield f"digits, {noise_text(key[0])}, ridge {key[1]}, {key[2]}, error by λ: {errors}"
