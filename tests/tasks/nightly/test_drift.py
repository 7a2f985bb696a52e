"""Drift of a night: planted drift is found; clustered images, returning patients and chance raise no alarm."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep.phantom.dataset import PhantomSettings, write_phantom
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.store import Quarantined, Store
from models.evaluation.auc import holm
from tasks.nightly.drift import DriftRecord, DriftSettings, check_drift

LABELS = ("Mass", "Nodule", "Hernia")
BACKLOG = date(2026, 1, 1)
UNTIL, NIGHT = BACKLOG + timedelta(days=20), BACKLOG + timedelta(days=21)
USUAL = DriftSettings()
Change = Callable[[NDArray], NDArray]
SECRET = "Müller"  # in the name of every image and patient


ARRAYS = ("images", "patients", "pixels", "views", "targets", "sizes", "scores", "days")


@dataclass(frozen=True)
class Made:
    """What `check_drift` reads of a store, and what else it takes."""

    images: NDArray
    patients: NDArray
    pixels: NDArray
    views: NDArray
    targets: NDArray
    sizes: NDArray | None
    scores: NDArray
    days: NDArray  # on which each image came
    labels: tuple[str, ...] = LABELS
    quarantine: tuple[Quarantined, ...] = ()
    others: dict[str, date] = field(default_factory=dict)  # images that came and are not among the images

    def check(self, settings: DriftSettings = USUAL, **more: Any) -> DriftRecord:
        arrivals = dict(zip(self.images.tolist(), self.days.tolist(), strict=True)) | self.others
        return check_drift(cast(Store, self), arrivals, NIGHT, UNTIL, (self.labels, self.scores), settings, **more)

    def set_aside(self, number: int, day: date, reason: str) -> "Made":
        entries = [Quarantined(f"{SECRET} {day} {len(self.others) + i}", reason) for i in range(number)]
        others = self.others | {entry.image: day for entry in entries}
        return replace(self, quarantine=(*self.quarantine, *entries), others=others)

    def change(self, name: str, change: Change) -> "Made":
        """Change one array, of the images of the night."""
        values, rows = np.array(getattr(self, name)), self.days == NIGHT
        values[rows] = change(values[rows])
        return replace(self, **{name: values})

    def take(self, rows: NDArray) -> "Made":
        return replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    def join(self, other: "Made") -> "Made":
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS})


def make(rng: np.random.Generator, before: int = 300, tonight: int = 80, most_images: int = 3) -> Made:
    """Make patients of 1 to `most_images` images that are alike, and earlier nights of about as many images as tonight.

    Args:
        rng: of all draws.
        before: patients of the reference; `tonight` of them came on its last night, the others with the backlog.
        tonight: patients of the night.
        most_images: of one patient.
    """
    p = before + tonight
    of = np.repeat(np.arange(p), rng.integers(1, most_images + 1, size=p))  # patient of each image
    grey = rng.normal([120, 40], [15, 6], size=(p, 2))[of] + rng.normal(0, 2, size=(len(of), 2))
    tone = -rng.gamma(2, 0.5, size=(len(of), 64))  # skewed to the left, as radiographs are
    tone = (tone - tone.mean(axis=1, keepdims=True)) / tone.std(axis=1, keepdims=True)
    present = rng.random((p, len(LABELS))) < [0.3, 0.2, 0.05]
    devices = np.array([(2500, 2048), (3000, 2500), (1024, 1024)], dtype=np.int32)
    numbers = [rng.integers(1, most_images + 1, size=tonight).sum() for _ in range(19)]
    return Made(
        images=np.array([f"{SECRET}_{patient:04d}_{row:05d}.png" for row, patient in enumerate(of)]),
        patients=np.array([f"{SECRET} {patient:04d}" for patient in of]),
        pixels=np.clip(grey[:, :1] + grey[:, 1:] * tone, 0, 255).astype(np.uint8).reshape(-1, 8, 8),
        views=rng.choice(["PA", "AP", "", "LATERAL"], p=[0.5, 0.4, 0.1, 0], size=p)[of],
        targets=present.astype(np.int8)[of],
        sizes=devices[rng.choice(3, p=[0.6, 0.3, 0.1], size=p)][of],
        scores=np.clip(0.3 * present + rng.beta(2, 6, size=present.shape), 0, 1)[of],
        days=np.array([BACKLOG] * (before - tonight) + [UNTIL] * tonight + [NIGHT] * tonight)[of],
        others={
            f"{day} {i}": BACKLOG + timedelta(day + 1) for day, number in enumerate(numbers) for i in range(number)
        },
    )


@lru_cache
def made(seed: int = 4) -> Made:
    return make(np.random.default_rng(seed))


def groups(record: DriftRecord) -> set[str]:
    return {test.group for test in record.alarms}


def half(change: Change) -> Change:
    """Change every second row."""

    def changed(rows: NDArray) -> NDArray:
        rows[::2] = change(rows[::2])
        return rows

    return changed


def p_values(record: DriftRecord, *left_out: str) -> dict[str, float | None]:
    return {test.name: test.p for test in record.tests if test.group not in left_out}


# --- No drift ---


def clustered(rng: np.random.Generator) -> Made:
    """Make patients of up to twelve images; of one in thirty no image can be read."""
    night = make(rng, before=150, tonight=30, most_images=12)
    keys = np.unique(night.patients)
    lost = np.isin(night.patients, keys[rng.random(len(keys)) < 1 / 30])
    remaining = night.take(~lost)
    for day in night.days[lost].tolist():
        remaining = remaining.set_aside(1, day, "damaged: the PNG file cannot be decoded")
    return remaining


def test_nights_without_drift_seldom_alarm_though_patients_have_up_to_twelve_images() -> None:
    alarms = sum(bool(clustered(np.random.default_rng([8, i])).check().alarms) for i in range(50))
    assert alarms <= 2


@pytest.mark.slow
def test_of_200_nights_resampled_from_a_phantom_at_most_5_percent_alarm(tmp_path: Path) -> None:
    settings = PhantomSettings(patients=250, size=64, seed=2)
    write_phantom(settings, tmp_path / "phantom", workers=2, progress=lambda done, total: None)
    store = build_store(FolderSource.open(tmp_path / "phantom"), tmp_path / "store", 32, key=b"")
    patients, alarms = np.unique(store.patients), 0
    for i in range(200):
        rng = np.random.default_rng([9, i])
        tonight = set(rng.choice(patients, 40, replace=False).tolist())
        liking = dict(zip(patients.tolist(), rng.normal(size=len(patients)), strict=True))  # of the champion
        scores = 2 * store.targets + np.array([liking[key] for key in store.patients.tolist()])[:, None]
        arrivals = {
            image: NIGHT if patient in tonight else UNTIL
            for image, patient in zip(store.images.tolist(), store.patients.tolist(), strict=True)
        }
        record = check_drift(store, arrivals, NIGHT, UNTIL, (store.labels, scores), DriftSettings())
        assert sum(test.p is not None for test in record.tests) >= 30
        alarms += bool(record.alarms)
    print(f"{alarms} of 200 nights alarm")
    assert alarms <= 10


def test_returning_patients_are_compared_with_nothing_and_counted() -> None:
    night = made()
    again = night.take(night.days != NIGHT)
    again = replace(
        again,
        images=np.char.add("again ", again.images),
        pixels=255 - again.pixels,
        views=np.full(len(again.images), "AP"),
        targets=1 - again.targets,
        days=np.full(len(again.images), NIGHT),
    )
    record, alone = night.join(again).check(), night.check()
    assert p_values(record, "count") == p_values(alone, "count")
    assert record.returning_images == len(again.images)
    assert record.night_images == alone.night_images + len(again.images)
    assert (record.reference_patients, record.night_patients) == (300, 80)


def test_images_that_come_later_change_nothing() -> None:
    later = made(5)
    later = replace(
        later,
        images=np.char.add("later ", later.images),
        patients=np.char.add("later ", later.patients),
        pixels=255 - later.pixels,
        days=np.full(len(later.days), NIGHT + timedelta(1)),
    )
    assert made().join(later).check() == made().check()


def test_a_patient_counts_by_an_image_of_the_first_night() -> None:
    night = made()
    first = night.take(night.days == BACKLOG)
    follow_ups = replace(
        first,
        images=np.char.add("follow-up ", first.images),
        pixels=255 - first.pixels,
        days=np.full(len(first.days), UNTIL),
    )
    assert p_values(night.join(follow_ups).check(), "count") == p_values(night.check(), "count")


# --- Planted drift ---

PLANTED: dict[str, tuple[str, Callable[[Made], Made]]] = {
    "darker": ("grey", lambda m: m.change("pixels", lambda x: (0.7 * x).astype(np.uint8))),
    "half of them brighter": ("grey", lambda m: m.change("pixels", half(lambda x: np.minimum(x, 200) + 55))),
    "inverted": ("grey", lambda m: m.change("pixels", lambda x: 255 - x)),
    "half of them inverted": ("grey", lambda m: m.change("pixels", half(lambda x: 255 - x))),
    "less contrast": ("grey", lambda m: m.change("pixels", lambda x: 60 + x // 2)),
    "of one grey": ("grey", lambda m: m.change("pixels", lambda x: 0 * x + 120)),
    "of one view": ("view", lambda m: m.change("views", lambda x: np.full_like(x, "AP"))),
    "of a view that never came": ("view", lambda m: m.change("views", half(lambda x: np.full_like(x, "LATERAL")))),
    "without a view": ("view", lambda m: m.change("views", half(lambda x: np.full_like(x, "")))),
    "of half the resolution": ("resolution", lambda m: m.change("sizes", lambda x: x // 2)),
    "half of a new device": ("resolution", lambda m: m.change("sizes", half(lambda x: 0 * x + 2800))),
    "turned": ("resolution", lambda m: m.change("sizes", lambda x: x[:, ::-1])),
    "sicker": ("prevalence", lambda m: m.change("targets", lambda x: x | (rows_of(x) % 2 == 0))),
    "with a finding three times as often": (
        "prevalence",
        lambda m: m.change("targets", lambda x: np.where(rows_of(x) % 100 < 60, [0, 1, 0], 0)),
    ),
    "healthy": ("prevalence", lambda m: m.change("targets", lambda x: 0 * x)),
    "with higher scores": ("score", lambda m: m.change("scores", lambda x: x**0.5)),
    "with equal scores": ("score", lambda m: m.change("scores", lambda x: 0 * x + np.median(x, axis=0))),
    "with scores of 0 and 1": ("score", lambda m: m.change("scores", lambda x: x > np.median(x, axis=0))),
    "unreadable": ("quarantine", lambda m: m.set_aside(40, NIGHT, "truncated")),
    "unreadable for many reasons": ("quarantine", lambda m: set_aside_each(m, 40)),
    "unreadable for another reason": (
        "quarantine",
        lambda m: m.set_aside(100, BACKLOG, "truncated").set_aside(40, NIGHT, "not of the chest"),
    ),
    "three times as many": ("count", lambda m: m.set_aside(2 * int((m.days == NIGHT).sum()), NIGHT, "truncated")),
}


def rows_of(targets: NDArray) -> NDArray:
    return np.arange(len(targets))[:, None]


def set_aside_each(night: Made, number: int) -> Made:
    for i in range(number):
        night = night.set_aside(1, NIGHT, f"a kind of object named {chr(97 + i // 26)}{chr(97 + i % 26)}")
    return night


def test_nothing_is_found_before_it_is_planted() -> None:
    record = made().check()
    assert not record.alarms
    assert record.summary == "no drift in 13 tests, 1 could not be made"
    assert record.tests[0].n_reference == 20, "nights, without that of the backlog"


@pytest.mark.parametrize("name", PLANTED)
def test_new_images_that_differ_are_found(name: str) -> None:
    group, plant = PLANTED[name]
    record = plant(made()).check()
    assert group in groups(record)
    assert groups(record) - {group} <= {"quarantine"}, "nothing else drifts, but that more come as they are unreadable"
    assert record.summary.startswith(f"drift in {len(record.alarms)} of ")


def test_a_night_without_images_is_found_and_a_quiet_one_among_quiet_ones_is_not() -> None:
    night = made()
    quiet = replace(night.take(night.days != NIGHT), others=night.others)
    record = quiet.check()
    assert groups(record) == {"count"}
    assert record.summary == "drift in 1 of 1 tests: images"
    nights = [BACKLOG + timedelta(day) for day in range(-9, 21)]
    assert not quiet.check(nights=nights).alarms
    assert groups(quiet.check(nights=nights[10:])) == {"count"}


# --- The record ---


def test_all_tests_that_were_made_are_corrected_together() -> None:
    record = made().set_aside(20, NIGHT, "truncated").change("pixels", lambda x: x - x // 8).check()
    assert [test.adjusted for test in record.tests] == holm([test.p for test in record.tests])
    for test in record.tests:
        assert test.alarm == (test.adjusted is not None and test.adjusted < 0.01)
        assert (test.p is None) == (test.reason is not None) == ("not tested" in test.sentence)
    assert 0 < len(record.alarms) < 14


def test_with_few_new_patients_only_images_and_files_are_compared() -> None:
    rng = np.random.default_rng(6)
    record = make(rng, tonight=9).check()
    assert {test.group for test in record.tests if test.p is not None} <= {"count", "quarantine"}
    reasons = {test.reason for test in record.tests if test.group not in ("count", "quarantine")}
    assert reasons == {"known of 9 in the night, at least 10 are needed"}
    assert make(rng, tonight=9).check(DriftSettings(fewest_patients=5)).tests[2].p is not None
    few = replace(make(rng, before=8, tonight=4), others={}).check()
    assert few.summary == "drift was not tested: 4 new patients, 8 before"


def test_what_is_unknown_is_left_out() -> None:
    night = made()
    trained_on = night.days == BACKLOG
    unknown = replace(
        night,
        sizes=None,
        scores=np.where(trained_on[:, None], np.nan, night.scores),
        targets=np.where(trained_on[:, None], -1, night.targets).astype(np.int8),
    )
    tests = {test.name: test for test in unknown.check().tests}
    assert tests["height"].reason == "known of 0 in the night, at least 10 are needed"
    assert (tests["score of Mass"].n_reference, tests["score of Mass"].n_night) == (80, 80)
    assert (tests["prevalence of Mass"].n_reference, tests["prevalence of Mass"].n_night) == (80, 80)
    days = dict(zip(night.images.tolist(), night.days.tolist(), strict=True))
    without = check_drift(cast(Store, night), days, NIGHT, UNTIL, None, DriftSettings())
    assert "score" not in {test.group for test in without.tests}


def test_the_record_and_the_log_name_no_image_and_no_patient(caplog: pytest.LogCaptureFixture) -> None:
    night = made().set_aside(40, NIGHT, "file of 1234 bytes").change("pixels", lambda x: 255 - x)
    returning = night.take(night.days == UNTIL)
    night = night.join(
        replace(returning, days=np.full(len(returning.days), NIGHT), images=np.char.add("x", returning.images))
    )
    with caplog.at_level(logging.INFO, logger="medmtl"):
        record = night.check()
    text = record.model_dump_json() + record.summary + caplog.text + "".join(test.sentence for test in record.tests)
    assert SECRET not in text
    assert "1234" not in text
    assert DriftRecord.model_validate_json(record.model_dump_json()) == record
    assert f"drift: {record.summary}" in caplog.text
    assert "image(s) of returning patients are compared with nothing" in caplog.text
    assert "mean grey level: 119 grey levels in the reference period, " in caplog.text


def test_patients_of_a_large_reference_are_drawn_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.nightly.drift.MOST_PATIENTS", 200)
    with caplog.at_level(logging.INFO, logger="medmtl"):
        record = made().check()
    assert (record.reference_patients, record.tests[2].n_reference) == (300, 200)
    assert "200 of 300 patients of the reference were drawn" in caplog.text


def test_the_reference_period_ends_before_the_night() -> None:
    with pytest.raises(ValueError, match="the reference period ends on 2026-01-22, not before the night, 2026-01-22"):
        check_drift(cast(Store, made()), {}, NIGHT, NIGHT, None, DriftSettings())
