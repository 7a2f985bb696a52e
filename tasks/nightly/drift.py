"""Drift of a night: which images are compared with those of the reference period, and the record of the tests.

A patient counts once, by an image of the night on which he or she first came. Later images differ from first ones
(they are of the sick), so that images of returning patients are compared with nothing; their number is recorded.

Shapes: n images of the store, k labels of the champion.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.store.store import Store
from models.evaluation.auc import holm
from models.evaluation.drift import (
    Compared,
    compare_count,
    compare_shares,
    compare_values,
    images_together,
    one_image_per_patient,
)
from tasks.records.base import Count, Record, Share
from tasks.runtime.progress import LOGGER
from tasks.runtime.settings import Settings

MOST_PATIENTS = 5000
"""Most patients of the reference that are compared: for a night of hundreds more bring nothing but time."""

_CHUNK = 256  # images
_READ = "read"
_GREY_LEVELS = {"mean grey level": "grey levels", "contrast": "grey levels", "skewness of grey levels": ""}
"""Name -> unit. Contrast is the standard deviation of an image's grey levels; an inverted image has the opposite
skewness, also where its mean and its contrast are usual ones."""

Group = Literal["count", "quarantine", "view", "resolution", "grey", "prevalence", "score"]


class DriftSettings(Settings):
    """When a night's new images count as drifted from those of the reference period."""

    level: float = Field(
        0.01,
        gt=0,
        le=0.2,
        description="chance that a night without drift alarms, over all its tests together (Holm); 0.01: about four "
        "false alarms a year",
    )
    fewest_patients: int = Field(
        10, ge=2, le=1_000_000, description="patients that a test needs in the night and in the reference period"
    )


class DriftTestRecord(Record):
    """A quantity of the night compared with the reference period; where it was not tested, `reason` says why."""

    group: Group
    name: str = Field(description="of the quantity, the same every night")
    unit: str = ""
    method: str
    reference: dict[str, float] = Field(description="median, or the share of each category; images: its interval too")
    night: dict[str, float]
    n_reference: Count
    n_night: Count
    counted: str = Field("patients", description="what `n_reference` and `n_night` count")
    p: Share | None = Field(None, description="not adjusted")
    adjusted: Share | None = Field(None, description="by Holm's method, over all tests of the night")
    reason: str | None = None
    alarm: bool

    @property
    def sentence(self) -> str:
        """One sentence on the night: what was compared, and what was found."""
        if self.adjusted is None:
            return f"{self.name}: not tested ({self.reason})"
        numbers = f"{self._shown(self.reference)} in the reference period, {self._shown(self.night)} tonight"
        verdict = "drift" if self.alarm else "no sign of drift"
        return f"{self.name}: {numbers}; {verdict} (p = {self.adjusted:.2g} after Holm's correction)"

    def _shown(self, values: dict[str, float]) -> str:
        if set(values) <= {"median", "lo", "hi", "images"}:
            return f"{next(iter(values.values()), float('nan')):.3g} {self.unit}".strip()
        if "present" in values:
            return f"{values['present']:.1%}"
        return ", ".join(f"{name} {share:.1%}" for name, share in sorted(values.items(), key=lambda each: -each[1]))


class DriftRecord(Record):
    """A night's new images compared with those of the reference period."""

    night: date
    reference_until: date = Field(description="the last night of the reference period")
    level: float
    reference_patients: Count = Field(description="who first came in the reference period")
    night_patients: Count = Field(description="who first came on this night")
    night_images: Count = Field(description="all that came, with those set aside")
    returning_images: Count = Field(description="of patients who had come before; they are compared with nothing")
    tests: tuple[DriftTestRecord, ...]

    @property
    def alarms(self) -> tuple[DriftTestRecord, ...]:
        """The tests that found drift, the smallest p-value first."""
        return tuple(sorted((test for test in self.tests if test.alarm), key=lambda test: test.p or 0.0))

    @property
    def summary(self) -> str:
        """One sentence: whether there is drift, and in what."""
        made = sum(test.p is not None for test in self.tests)
        if self.alarms:
            return f"drift in {len(self.alarms)} of {made} tests: {', '.join(test.name for test in self.alarms)}"
        if not made:
            return f"drift was not tested: {self.night_patients} new patients, {self.reference_patients} before"
        left = f", {len(self.tests) - made} could not be made" if made < len(self.tests) else ""
        return f"no drift in {made} tests{left}"


class _Test(NamedTuple):
    group: Group
    name: str
    compared: Compared
    unit: str = ""
    counted: str = "patients"


def check_drift(
    store: Store,
    arrivals: Mapping[str, date],
    night: date,
    reference_until: date,
    scores: tuple[tuple[str, ...], np.ndarray] | None,
    settings: DriftSettings,
    nights: Sequence[date] = (),
) -> DriftRecord:
    """Compare the images that came on a night with those of the reference period.

    Args:
        store: of all images up to the night; later ones are ignored.
        arrivals: name of an image, also of one set aside -> the night on which it first came. The images of the first
            of these nights are a backlog: they are in the reference, but not the number of images of a night.
        night: that is checked.
        reference_until: the last night of the reference period, before `night`.
        scores: labels of the champion, and its probabilities (n, k), NaN for patients on whom it was trained; None
            if there is no champion.
        settings: of the tests.
        nights: on which the pipeline ran; those on which images came need not be among them.

    Raises:
        ValueError: the reference period does not end before the night.
    """
    if reference_until >= night:
        raise ValueError(f"the reference period ends on {reference_until}, not before the night, {night}")
    sides = _Sides(store, arrivals, night, reference_until, settings.fewest_patients)
    found = [
        _Test("count", "images", _compare_count(arrivals, night, nights), counted="nights"),
        _Test("quarantine", "files", sides.compare_files(), counted="files"),
        _Test("view", "view", sides.compare_shares(np.where(store.views == "", "not stated", store.views))),
        *_compare_sizes(store, sides),
        *_compare_grey_levels(store, sides),
        *_compare_prevalences(store, sides),
        *_compare_scores(scores, sides),
    ]
    record = DriftRecord(
        night=night,
        reference_until=reference_until,
        level=settings.level,
        reference_patients=sides.patients[0],
        night_patients=sides.patients[1],
        night_images=sum(day == night for day in arrivals.values()),
        returning_images=sides.returning,
        tests=_corrected(found, settings.level),
    )
    _log(record)
    return record


class _Sides:
    """The images of the reference and of the night, in this order, and their comparison.

    Attributes:
        rows: of the store, one image of each patient who first came in the reference, or on the night.
        patients: number of these patients, with those who were not drawn.
        returning: images of the night of patients who had come before.
    """

    def __init__(
        self, store: Store, arrivals: Mapping[str, date], night: date, reference_until: date, fewest: int
    ) -> None:
        self._arrivals, self._night, self._until, self._fewest = arrivals, night, reference_until, fewest
        self._quarantine = store.quarantine
        came = np.array([arrivals.get(name, date.max).toordinal() for name in store.images.tolist()], dtype=np.int64)
        patients = np.unique(store.patients, return_inverse=True)[1]
        first = np.full(len(came), date.max.toordinal())
        np.minimum.at(first, patients, came)
        first = first[patients]  # the night on which each image's patient first came
        self.returning = int((self._split(came)[1] & (first < came)).sum())
        self.patients, self.rows, self._visits = [], [], []
        for of in self._split(came):
            rows = np.flatnonzero(of & (came == first))
            drawn = one_image_per_patient(patients[rows], store.images[rows], MOST_PATIENTS)
            self.patients.append(len(np.unique(patients[rows])))
            self.rows.append(rows[drawn])
            self._visits.append(np.c_[patients, came][of])

    def _split(self, days: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which days (ordinals) belong to the reference, and which are the night."""
        return days <= self._until.toordinal(), days == self._night.toordinal()

    def compare_values(self, values: NDArray) -> Compared:
        """Compare values (n,), by row of the store, NaN where unknown."""
        return compare_values(values[self.rows[0]], values[self.rows[1]], self._fewest)

    def compare_shares(self, categories: NDArray) -> Compared:
        """Compare categories (n,), by row of the store, "" where unknown."""
        counts = [Counter(name for name in categories[rows].tolist() if name) for rows in self.rows]
        return compare_shares(counts[0], counts[1], self._fewest)

    def compare_files(self) -> Compared:
        """Compare how many files could be read, and for which reasons others were set aside.

        Whose a file is that cannot be read is not known. So all files count, those of returning patients too, as if
        as many of them were of one patient as of those that can be read.
        """
        days = [self._arrivals.get(entry.image, date.max).toordinal() for entry in self._quarantine]
        reasons = np.array([re.sub(r"\d[\d.,]*", "…", entry.reason) for entry in self._quarantine], dtype=object)
        counts = [Counter(reasons[of].tolist()) for of in self._split(np.array(days, dtype=np.int64))]
        for count, visits in zip(counts, self._visits, strict=True):
            count[_READ] = len(visits)
        alike = [images_together(visits) for visits in self._visits]
        return compare_shares(counts[0], counts[1], self._fewest, (alike[0], alike[1]))


def _compare_count(arrivals: Mapping[str, date], night: date, nights: Sequence[date]) -> Compared:
    """Compare the number of images of the night with those of all earlier nights but the first."""
    images = Counter(arrivals.values())
    earlier = sorted({day for day in (*images, *nights) if day < night})[1:]
    return compare_count([images[day] for day in earlier], images[night])


def _compare_sizes(store: Store, sides: _Sides) -> Iterator[_Test]:
    """Compare height and width of the original images."""
    for axis, name in enumerate(("height", "width")):
        values = np.full(len(store.images), np.nan) if store.sizes is None else store.sizes[:, axis].astype(np.float64)
        yield _Test("resolution", name, sides.compare_values(values), "px")


def _compare_grey_levels(store: Store, sides: _Sides) -> Iterator[_Test]:
    """Compare what describes the grey levels of an image; only images that are compared are read."""
    described = np.full((len(store.images), len(_GREY_LEVELS)), np.nan)
    for rows in sides.rows:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            described[chunk] = _describe(store.pixels[chunk])
    for (name, unit), values in zip(_GREY_LEVELS.items(), described.T, strict=True):
        yield _Test("grey", name, sides.compare_values(values), unit)


def _describe(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return mean, standard deviation and skewness of each image: (b, ...) uint8 -> (b, 3); 0 if it is of one grey."""
    grey = pixels.reshape(len(pixels), -1).astype(np.float32)
    mean, deviation = grey.mean(axis=1), grey.std(axis=1)
    grey = (grey - mean[:, np.newaxis]) / np.maximum(deviation, 1e-6)[:, np.newaxis]
    skewness = (grey * grey * grey).mean(axis=1)  # a power is ten times slower
    return np.stack([mean, deviation, skewness], axis=1)


def _compare_prevalences(store: Store, sides: _Sides) -> Iterator[_Test]:
    """Compare the share of images with each finding, among those where it is known."""
    for label, targets in zip(store.labels, store.targets.T, strict=True):
        known = np.select([targets == 1, targets == 0], ["present", "absent"], "")
        yield _Test("prevalence", f"prevalence of {label}", sides.compare_shares(known))


def _compare_scores(scores: tuple[tuple[str, ...], np.ndarray] | None, sides: _Sides) -> Iterator[_Test]:
    """Compare the champion's probabilities of each of its labels."""
    for label, values in zip(scores[0], scores[1].T, strict=True) if scores else ():
        yield _Test("score", f"score of {label}", sides.compare_values(values))


def _corrected(tests: Sequence[_Test], level: float) -> tuple[DriftTestRecord, ...]:
    """Make the records, with the p-values of all tests that could be made corrected together."""
    adjusted = holm([test.compared.p_value for test in tests])
    return tuple(
        DriftTestRecord(
            group=test.group,
            name=test.name,
            unit=test.unit,
            method=test.compared.method,
            reference=test.compared.reference,
            night=test.compared.night,
            n_reference=test.compared.n_reference,
            n_night=test.compared.n_night,
            counted=test.counted,
            p=test.compared.p_value,
            adjusted=p_value,
            reason=test.compared.reason,
            alarm=p_value is not None and p_value < level,
        )
        for test, p_value in zip(tests, adjusted, strict=True)
    )


def _log(record: DriftRecord) -> None:
    """Log what was found, and what was left out or could not be tested."""
    LOGGER.info("drift: %s", record.summary)
    for test in record.alarms:
        LOGGER.info("drift: %s", test.sentence)
    for patients, of in ((record.reference_patients, "the reference"), (record.night_patients, "the night")):
        if patients > MOST_PATIENTS:
            LOGGER.info("drift: %s of %s patients of %s were drawn", f"{MOST_PATIENTS:,}", f"{patients:,}", of)
    if record.returning_images:
        LOGGER.info("drift: %s image(s) of returning patients are compared with nothing", record.returning_images)
    if untested := [test.sentence for test in record.tests if test.reason]:
        LOGGER.info("drift: %s", "; ".join(untested))
