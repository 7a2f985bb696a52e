"""The steps of a night that are its own: what has arrived, how the champion does, what became of the challenger."""

import time
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import PARTS, SplitSettings
from data_prep.store.store import Store
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split, open_store
from tasks.images.championship import champion_version
from tasks.images.promotion import ChampionScores, EvaluationRecord
from tasks.nightly.arrivals import add_arrivals, arrivals_file
from tasks.nightly.champion_score import score_on_first_night
from tasks.nightly.drift import DriftRecord, DriftSettings, check_drift
from tasks.nightly.records import ArrivalsRecord, ChallengerRecord, ChampionRecord, NightDataRecord, NightResults
from tasks.records.data import CheckRecord, SplitRecord
from tasks.runtime.notify import notify
from tasks.runtime.progress import LOGGER
from tasks.runtime.versions import git_commit, versions


class Judged(NamedTuple):
    """What a night found out of its images and its challenger; nothing on a night without a change."""

    drift: DriftRecord | None = None
    champion: ChampionRecord | None = None
    challenger: ChallengerRecord | None = None
    evaluation: EvaluationRecord | None = None


class Night(NamedTuple):
    """A night: the series that it belongs to, and its date."""

    series: str
    date: date


@task(name="note arrivals", cache_policy=NO_CACHE)
def note_arrivals(night: Night, ref: StoreRef, split: SplitSettings) -> ArrivalsRecord:
    """Note which images are new on this night, and count them.

    Raises:
        DataError: see `add_arrivals` and `open_split`.
    """
    store, parts = open_split(ref, split)
    arrivals = _arrivals(night, store)
    is_new = np.array([arrivals[image] == night.date for image in store.images.tolist()])
    old = set(store.patients[~is_new].tolist())
    by_part = {part: set(store.patients[getattr(parts, part)].tolist()) for part in PARTS}
    record = ArrivalsRecord(
        images=len(store.images),
        patients=len(np.unique(store.patients)),
        new_images=int(is_new.sum()),
        new_quarantined=sum(arrivals[entry.image] == night.date for entry in store.quarantine),
        by_part={part: len(patients) for part, patients in by_part.items()},
        new_by_part={part: len(patients - old) for part, patients in by_part.items()},
        decoded=ref.decoded,
    )
    LOGGER.info("night %s: %d new images, %d in all", night.date, record.new_images, record.images)
    return record


def _arrivals(night: Night, store: Store) -> dict[str, date]:
    names = [*store.images.tolist(), *(entry.image for entry in store.quarantine)]
    return add_arrivals(arrivals_file(night.series), names, night.date)


@task(name="score champion on the first night", cache_policy=NO_CACHE)
def champion_record(
    night: Night, ref: StoreRef, split: SplitSettings, champion: ChampionScores | None
) -> ChampionRecord | None:
    """Score the champion, if there is one, on the validation patients of the series' first night."""
    if champion is None:
        return None
    store, parts = open_split(ref, split)
    record = score_on_first_night(champion, store, parts, _arrivals(night, store))
    if record.mean.value is not None:
        LOGGER.info(
            "champion, version %s: mean AUC %.3f on the first night's patients", record.version, record.mean.value
        )
    return record


@task(name="look for drift", cache_policy=NO_CACHE)
def find_drift(
    night: Night,
    ref: StoreRef,
    reference_until: date | None,
    champion: ChampionScores | None,
    settings: DriftSettings,
    nights: tuple[date, ...],
) -> DriftRecord | None:
    """Compare the new images with those of the reference period; an alarm is also an event in Prefect.

    Args:
        night: that is running.
        ref: the images and labels.
        reference_until: last night of the reference period; None on the first night, which has nothing to compare with.
        champion: its probabilities, if there is a champion.
        settings: of the tests.
        nights: on which the pipeline has run.
    """
    if reference_until is None:
        LOGGER.info("drift: not tested on the first night")
        return None
    store = open_store(ref)
    scores = None if champion is None else (champion.labels, champion.probabilities)
    arrivals = _arrivals(night, store)
    record = check_drift(store, arrivals, night.date, reference_until, scores, settings, nights)
    if record.alarms:
        notify("medmtl.night.drift", night.series, night.date.isoformat(), record.summary)
    return record


def make_results(
    night: Night,
    config: Mapping[str, Any],
    begun: float,
    ref: StoreRef,
    split: SplitSettings,
    checks: tuple[CheckRecord, ...],
    arrivals: ArrivalsRecord,
    judged: Judged,
) -> NightResults:
    """Put together the results of a night that began at `time.monotonic()` = `begun`."""
    store, parts = open_split(ref, split)
    verdict = judged.evaluation.verdict if judged.evaluation else None
    unchanged = "unchanged: the images, the labels and the settings are those of the last night; nothing was trained"
    summary = verdict.reason if verdict else unchanged
    if not verdict:
        LOGGER.info("night %s: %s", night.date, summary)
    return NightResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        series=night.series,
        night=night.date,
        outcome=verdict.decision if verdict else "unchanged",
        summary=f"{summary[0].upper()}{summary[1:]}.",
        data=NightDataRecord.of(ref.name, store, checks, split=SplitRecord.of(parts, store)),
        arrivals=arrivals,
        champion_after=champion_version(night.series),
        seconds=time.monotonic() - begun,
        **judged._asdict(),
    )
