"""Summary over seeds of the theory of data augmentation: the records of each of its statements."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.theory.augmented_ridge import CONVENTIONS
from models.theory.digit_ridge import ARMS
from tasks.theory.augmentation_checks import check_augmentation
from tasks.theory.augmentation_computations import DIGITS
from tasks.theory.augmentation_records import (
    AugmentationRecord,
    ClosedFormRecord,
    CompositionRecord,
    Deviations,
    DigitBestRecord,
    DigitErrorRecord,
    DigitsRecord,
    GramRecord,
    HelpCellRecord,
    LeadingOrderRecord,
    MixupRecord,
    OrderRecord,
    ReflectionRecord,
    SimulationRecord,
)
from tasks.theory.augmentation_text import AUGMENTATION_QUESTION, answer_augmentation
from tasks.theory.digits import Digits
from tasks.theory.estimate import Estimate, Spread

Row = Mapping[str, Any]
BySeed = Sequence[Any]

CASE = ("dimensions", "samples", "ridge", "noise", "convention")


def summarise_augmentation(computed: Mapping[str, BySeed], digits: Digits | None) -> AugmentationRecord:
    """Summarise what `tasks.theory.parts.compute` returned for the computations of data augmentation.

    `digits` are those of the computation on digits, if there was one.
    """
    orders, mixups = computed["leading order"], computed["mixup"]
    fields: dict[str, Any] = {
        "closed_form": _closed_form(computed["closed form"]),
        "simulation": tuple(_simulation(rows) for rows in _same_rows(computed["simulation"])),
        "leading_order": tuple(_leading_order(rows) for rows in _same_rows(seed["rows"] for seed in orders)),
        "limit": tuple(seed["limit"] for seed in orders),
        "composition": tuple(
            _composition(rows) for rows in _same_rows(seed["rows"] for seed in computed["composition"])
        ),
        "reflection": _reflection([seed["reflection"] for seed in computed["composition"]]),
        "mixup": tuple(_mixup(rows) for rows in _same_rows(seed["rows"] for seed in mixups)),
        "grams": tuple(_gram(rows) for rows in _same_rows(seed["grams"] for seed in mixups)),
        "order": tuple(_order(rows) for rows in _same_rows(computed["order of effects"])),
        "map": tuple(_map_cell(rows) for rows in _same_rows(computed["help and harm"])),
        "digits": _digits(computed[DIGITS], digits) if digits else None,
    }
    unanswered = AugmentationRecord(question=AUGMENTATION_QUESTION, answer=(), checks=(), **fields)
    return unanswered.model_copy(
        update={"answer": answer_augmentation(unanswered), "checks": check_augmentation(unanswered)}
    )


def _same_rows(seeds: Iterable[Sequence[Row]]) -> list[tuple[Row, ...]]:
    """Return for each row the seeds' versions of it: the seeds have the same rows in the same order."""
    return list(zip(*seeds, strict=True))


def _shared(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _estimate(rows: Sequence[Row], name: str) -> Estimate:
    return Estimate.over([row[name] for row in rows])


def _closed_form(seeds: BySeed) -> tuple[ClosedFormRecord, ...]:
    return tuple(
        ClosedFormRecord(
            convention=convention,
            cases=sum(seed["cases"] for seed in seeds),
            largest_difference=max(seed[convention] for seed in seeds),
            rises=sum(seed[f"{convention} rises"] for seed in seeds),
        )
        for convention in CONVENTIONS
    )


def _simulation(rows: Sequence[Row]) -> SimulationRecord:
    values = {name: tuple(row[name] for row in rows) for name in ("closed", "simulated", "standard_error")}
    deviations = Deviations.over([row["deviation"] for row in rows])
    return SimulationRecord(**_shared(rows[0], *CASE), **values, deviations=deviations)


def _leading_order(rows: Sequence[Row]) -> LeadingOrderRecord:
    spreads = {name: Spread.over([row[name] for row in rows]) for name in ("kept", "rescaled", "small")}
    return LeadingOrderRecord(**_shared(rows[0], "relative_ridge"), **spreads)


def _composition(rows: Sequence[Row]) -> CompositionRecord:
    largest = {name: max(abs(row[name]) for row in rows) for name in ("off", "large_off")}
    return CompositionRecord(**_shared(rows[0], "transforms"), **largest, fall=_estimate(rows, "fall"))


def _reflection(rows: Sequence[Row]) -> ReflectionRecord:
    return ReflectionRecord(
        first=_estimate(rows, "first"),
        second=max(abs(row["second"] / row["first"]) for row in rows),
        length=max(row["length"] for row in rows),
        rotation_second=_estimate(rows, "rotation_second"),
    )


def _mixup(rows: Sequence[Row]) -> MixupRecord:
    setting = ("dimensions", "samples", "noise", "concentration", "multiple", "relative_ridge", "convention")
    return MixupRecord(
        **_shared(rows[0], *setting, "equivalent_ridge"),
        change=_estimate(rows, "change"),
        off=_estimate(rows, "off"),
        equivalent_change=Estimate.over([row["equivalent"] / row["plain"] - 1 for row in rows]),
        deviations=Deviations.over([row["deviation"] for row in rows]),
    )


def _gram(rows: Sequence[Row]) -> GramRecord:
    estimates = {name: _estimate(rows, name) for name in ("deviation", "without_mean")}
    return GramRecord(**_shared(rows[0], "concentration", "centred", "multiple"), **estimates)


def _order(rows: Sequence[Row]) -> OrderRecord:
    counts = (
        "designs",
        "biases",
        "rotation_below_plain",
        "plain_below_mixup",
        "one_row_below_plain",
        "variance_mixup_below_plain",
        "variance_mixup_below_rotation",
    )
    means = [f"{part}_{of}" for part in ("bias", "variance") for of in ("plain", "rotation", "mixup")]
    return OrderRecord(
        **_shared(rows[0], *CASE),
        **{name: sum(row[name] for row in rows) for name in counts},
        **{name: sum(row[name] for row in rows) / len(rows) for name in means},
        fewest_biases=min(row["biases"] / row["designs"] for row in rows),
    )


def _map_cell(rows: Sequence[Row]) -> HelpCellRecord:
    return HelpCellRecord(
        **_shared(rows[0], "relative_ridge", "noise", "projection", "convention"),
        change=_estimate(rows, "change"),
        helps=sum(row["helps"] for row in rows),
        predicted=sum(row["predicted"] for row in rows),
        agree=sum(row["helps"] == row["predicted"] for row in rows),
    )


def _digits(seeds: BySeed, digits: Digits) -> DigitsRecord:
    columns = _same_rows(seeds)
    rows = tuple(
        DigitErrorRecord(
            **_shared(same[0], "arm", "convention", "ridge", "label_noise"),
            error=_estimate(same, "error"),
            squared_error=_estimate(same, "squared_error"),
        )
        for same in columns
    )
    return DigitsRecord(
        files=digits.files,
        fingerprint=digits.fingerprint,
        count=len(digits.labels),
        rows=rows,
        best=tuple(_best_ridges(columns)),
    )


def _best_ridges(columns: Sequence[Sequence[Row]]) -> Iterable[DigitBestRecord]:
    """Yield each arm at the ridge with the lowest mean error; `columns` hold the seeds' versions of each row."""
    conditions = dict.fromkeys((same[0]["convention"], same[0]["label_noise"]) for same in columns)
    for convention, label_noise in conditions:
        best = {}
        for arm in ARMS:
            of_arm = [
                same
                for same in columns
                if (same[0]["arm"], same[0]["convention"], same[0]["label_noise"]) == (arm, convention, label_noise)
            ]
            best[arm] = min(of_arm, key=lambda same: sum(row["error"] for row in same))
        for same in best.values():
            pairs = zip(same, best[ARMS[0]], strict=True)
            yield DigitBestRecord(
                **_shared(same[0], "arm", "convention", "label_noise", "ridge"),
                error=_estimate(same, "error"),
                minus_plain=Estimate.over([row["error"] - plain["error"] for row, plain in pairs]),
            )
