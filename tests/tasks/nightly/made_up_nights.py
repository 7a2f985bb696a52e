"""Results of nights that never were."""

from datetime import date, timedelta
from typing import Any

from tasks.images.gate import ConditionRecord, Verdict
from tasks.images.promotion import EvaluationRecord, ModelRecord
from tasks.nightly.drift import DriftRecord, DriftTestRecord
from tasks.nightly.records import ArrivalsRecord, ChallengerRecord, ChampionRecord, NightDataRecord, NightResults
from tasks.records.data import SplitRecord
from tasks.records.scores import MeanRecord, ScoreRecord

FIRST = date(2026, 11, 1)
SCORE = ScoreRecord(value=0.7, lo=0.6, hi=0.8)
MEAN = MeanRecord(value=0.7, lo=0.6, hi=0.8, labels=("Mass",))


def night(number: int, outcome: str = "refused", **changes: Any) -> NightResults:
    """The night of a number, from 1: its challenger became that version if it was promoted or waits."""
    version = str(number) if outcome in ("promoted", "waiting") else None
    evaluation = None if outcome == "unchanged" else evaluated(outcome, version)
    fields = {
        "config": {"seed": 0, "night": str(FIRST + timedelta(number - 1))},
        "version": "0",
        "git": None,
        "environment": {},
        "series": "chest",
        "night": FIRST + timedelta(number - 1),
        "outcome": outcome,
        "summary": f"Summary of night {number}.",
        "data": NightDataRecord(
            name="images",
            fingerprint=f"sha256:{number}",
            labels=("Mass",),
            same_pixels=(("a.png", "b.png"),),
            split=SplitRecord(name="hashed", fingerprint="sha256:s", same_pixels=1),
        ),
        "arrivals": arrivals(40 + number),
        "drift": None,
        "champion": None if number == 1 else ChampionRecord(version="1", mean=MEAN, patients=30),
        "challenger": ChallengerRecord(run_id=f"run{number}", hash=f"hash{number}", start="anew", reused=False),
        "evaluation": evaluation,
        "champion_after": "1",
        "seconds": 61.0,
    }
    return NightResults(**(fields | changes))


def evaluated(outcome: str, version: str | None) -> EvaluationRecord:
    challenger = ModelRecord(
        version=version, run_id="run", role="challenger", scores={"val": {"Mass": SCORE}}, mean={"val": MEAN}
    )
    holds = outcome != "refused"
    condition = ConditionRecord(name="labels that count", found="1 of 1", wanted="at least 1", holds=holds)
    verdict = Verdict(decision=outcome, reason=f"{outcome}: for a reason", conditions=(condition,))
    return EvaluationRecord(data="sha256:d", split="sha256:s", models=(challenger,), verdict=verdict)


def arrivals(new: int) -> ArrivalsRecord:
    parts = {"train": 5, "val": 3, "test": 2}
    return ArrivalsRecord(
        images=600, patients=200, new_images=new, new_quarantined=0, by_part=parts, new_by_part=parts, decoded=new
    )


def drifted(number: int) -> DriftRecord:
    test = DriftTestRecord(
        group="grey",
        name="mean grey level",
        method="Kolmogorov-Smirnov",
        reference={"median": 120.0},
        night={"median": 40.0},
        unit="grey levels",
        n_reference=200,
        n_night=30,
        counted="patients",
        p=1e-9,
        adjusted=1e-8,
        alarm=True,
    )
    return DriftRecord(
        night=FIRST + timedelta(number - 1),
        reference_until=FIRST,
        level=0.01,
        reference_patients=200,
        night_patients=30,
        night_images=40,
        returning_images=0,
        tests=(test, test.model_copy(update={"name": "contrast", "alarm": False, "adjusted": 0.5})),
    )
