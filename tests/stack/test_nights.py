"""Ten nights of a folder that grows, run by a worker on real servers."""

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.nightly.records import NightResults
from tests.stack.growing_folder import GrowingFolder
from tests.stack.stack import Stack, wait_until
from tests.stack.tiny import unfinished_runs

pytestmark = pytest.mark.slow

FIRST = date(2026, 11, 2)
NAME = "ten_nights"
WITHOUT_TABLE, BETTER, DRIFT = 4, 6, 9  # numbers of the nights on which something happens; the first is 1
FIRST_IMAGES, MORE_IMAGES = 600, 40


def parameters(folder: Path, out: Path, night: int) -> dict[str, Any]:
    """Parameters of `nightly/nightly`: on the night BETTER someone has the network trained for as long as it needs."""
    settings = {
        "data": {"source": str(folder), "size": 32},
        "split": {"shares": [0.5, 0.4, 0.1]},
        "training": {"epochs": 12 if night >= BETTER else 2, "batch_size": 32},
        "promotion": {"least_patients": 5} | ({"rule": "not_worse", "margin": 0.02} if night == BETTER else {}),
        "device": "cpu",
        "model_name": NAME,
        "night": (FIRST + timedelta(night - 1)).isoformat(),
    }
    return {"out": str(out), "settings": settings}


class Nights:
    """Ten nights, and what they left."""

    def __init__(self, stack: Stack, work: Path) -> None:
        self.stack, self.out = stack, work / "series"
        self.folder = GrowingFolder(work)
        self.runs: list[str] = []
        self.arrived: list[int] = []

    def run(self, night: int) -> dict[str, Any]:
        arrived = self.folder.grow(FIRST_IMAGES if night == 1 else MORE_IMAGES, darken=night == DRIFT)
        self.arrived.append(arrived)
        hidden = self.folder.table.with_suffix(".away")
        if night == WITHOUT_TABLE:
            self.folder.table.rename(hidden)
        self.runs.append(self.stack.submit("nightly/nightly", parameters(self.folder.here, self.out, night)))
        found = self.stack.wait_for(self.runs[-1])
        if night == WITHOUT_TABLE:
            hidden.rename(self.folder.table)
        return found

    def results(self, night: int) -> NightResults:
        file = self.out / (FIRST + timedelta(night - 1)).isoformat() / "results.json"
        return NightResults.model_validate_json(file.read_text())


@pytest.fixture(scope="module")
def nights(deployed: Stack, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    deployed.webhook.received.clear()
    ten = Nights(deployed, tmp_path_factory.mktemp("nights"))
    for night in range(1, 11):
        before = (ten.out / "latest").readlink() if night > 1 else None
        found = ten.run(night)
        wanted = "FAILED" if night == WITHOUT_TABLE else "COMPLETED"
        assert found["state_type"] == wanted, deployed.what_was_said(ten.runs[-1])
        if night == WITHOUT_TABLE:
            assert (ten.out / "latest").readlink() == before, "a night without its table leaves last night's pages"
    return ten


FINISHED = [night for night in range(1, 11) if night != WITHOUT_TABLE]


def test_ten_nights(nights: Nights) -> None:
    found = {night: nights.results(night) for night in FINISHED}
    for night, results in found.items():
        print(f"night {night}: {results.summary} {results.drift.summary if results.drift else ''}")

    decoded = [results.arrivals.decoded for results in found.values()]
    assert sum(decoded) == len(nights.folder.arrived), "no file is decoded twice, and none is left out"
    assert found[WITHOUT_TABLE + 1].arrivals.new_images == sum(nights.arrived[WITHOUT_TABLE - 1 : WITHOUT_TABLE + 1])

    promoted = [night for night, results in found.items() if results.outcome == "promoted"]
    assert promoted == [1, BETTER]
    assert {found[night].outcome for night in FINISHED} == {"promoted", "refused"}
    assert [results.champion_after for results in found.values()] == ["1"] * 4 + ["2"] * 5

    scores = {}
    for results in [found[night] for night in FINISHED if night > 1]:
        assert results.champion
        assert results.champion.patients == found[2].champion.patients
        scores.setdefault(results.champion.version, set()).add(results.champion.mean.value)
    assert {version: len(values) for version, values in scores.items()} == {"1": 1, "2": 1}, "the same patients"

    alarms = [night for night, results in found.items() if results.drift and results.drift.alarms]
    assert alarms == [DRIFT]
    blocked = found[DRIFT].evaluation
    assert blocked
    assert [each.holds for each in blocked.verdict.conditions if each.name == "drift alarms"] == [False]
    assert (nights.out / "latest" / "report.html").exists()
    assert (nights.out / "series.html").read_text().count("report.html") == len(FINISHED)
    assert not unfinished_runs(nights.stack)


def test_each_thing_that_a_person_should_know_is_told_once(nights: Nights) -> None:
    wanted = sorted(["model promoted", "model promoted", "run failed", "data have drifted"])

    def told() -> list[str]:
        bodies = [text for text in map(json.dumps, nights.stack.webhook.received) if NAME in text]
        return sorted(re.findall(r"medmtl: ([a-z ]+)", " ".join(bodies)))

    wait_until(lambda: len(told()) >= len(wanted), f"notifications; there are {told()}", 60)
    assert told() == wanted
