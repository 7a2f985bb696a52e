"""Ten nights of a folder that grows, run by a worker on real servers."""

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tasks.nightly.records import NightResults
from tests.stack.browser import Browser
from tests.stack.growing_folder import GrowingFolder
from tests.stack.stack import Stack, wait_until
from tests.stack.tiny import check_steps, unfinished_runs

pytestmark = pytest.mark.slow

FIRST = date(2026, 11, 2)
NAME = "ten_nights"
WITHOUT_TABLE, BETTER, DRIFT = 4, 6, 9  # numbers of the nights on which something happens; the first is 1
FIRST_IMAGES, MORE_IMAGES = 600, 40


def parameters(folder: Path, out: Path, night: int) -> dict[str, Any]:
    """Parameters of `nightly/nightly`: on the night BETTER someone has the network trained for as long as it needs."""
    epochs = {1: 2, BETTER: 12}.get(night, 1)
    settings = {
        "data": {"source": str(folder), "size": 32},
        "split": {"shares": [0.5, 0.4, 0.1]},
        "training": {"epochs": epochs, "batch_size": 32},
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
        self.before = stores(stack)  # of other tests on the same servers
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


def stores(stack: Stack) -> set[Path]:
    return set((stack.home / "stores").glob("*/manifest.json"))


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


def mlflow_nights(stack: Stack) -> dict[str, Run]:
    """MLflow's runs of this series, by the date of the night."""
    client = MlflowClient(stack.mlflow.url)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`medmtl.series` = '{NAME}'", max_results=1000)
    return {run.data.tags["medmtl.night"]: run for run in found if run.info.status == "FINISHED"}


def test_each_night_is_a_run_in_mlflow_whose_arm_has_every_metric_once(nights: Nights) -> None:
    found = mlflow_nights(nights.stack)
    assert sorted(found) == [nights.results(night).night.isoformat() for night in FINISHED]
    client = MlflowClient(nights.stack.mlflow.url)
    for results in map(nights.results, FINISHED):
        assert results.challenger
        arm = client.get_run(results.challenger.run_id)
        assert arm.data.tags["mlflow.parentRunId"] == found[results.night.isoformat()].info.run_id
        if (epochs := int(arm.data.params["training.epochs"])) > 1:
            check_steps(nights.stack, arm, epochs)
    names = [run.info.run_name for run in found.values()]
    assert len(set(names)) == len(names)
    assert all("hospital 32 px" in name and "uniform" in name for name in names), names


def test_the_lines_of_a_night_stand_in_the_log_of_its_run_which_is_named_after_its_settings(nights: Nights) -> None:
    run = nights.stack.flow_run(nights.runs[-1])
    what, when = f"nightly · hospital 32 px · conv4 · uniform · {NAME}", r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(f"{what} · {when}", run["name"])
    assert "medmtl" in run["tags"]
    wait_until(lambda: "report: " in str(nights.stack.log_lines(nights.runs[-1])), "the last lines of the log", 30)
    lines = nights.stack.log_lines(nights.runs[-1])
    for line in ("labels: ", "checks: all ", "new images", "drift: ", ": test AUC ", "refused: ", "report: "):
        assert [said for said in lines if line in said], line
    assert len([said for said in lines if "checks: all " in said]) == 1


def test_the_pages_of_prefect_and_mlflow_show_the_nights(nights: Nights, browser: Browser) -> None:
    stack, pages = nights.stack, nights.stack.prefect.url
    known = stack.prefect.ask("GET", "deployments/name/nightly/nightly")
    form = f"{pages}/deployments/deployment/{known['id']}/run"
    browser.open(form, "Settings of the nightly pipeline", "side of the decoded images, pixels")
    browser.screenshot("form")

    run = nights.runs[BETTER - 1]
    artifacts = {each["key"]: each for each in stack.artifacts(run)}
    assert "file:" not in json.dumps(artifacts)
    browser.open(f"{pages}/artifacts/artifact/{artifacts['report']['id']}", "labels that count", "The whole report")
    browser.screenshot("artifact of a night")
    (link,) = re.findall(r"\[The whole report\]\((.*)\)", artifacts["report"]["data"])
    browser.open(link, "report.html")
    browser.page.frame_locator("iframe").get_by_text("A new champion: version 2").first.wait_for()
    browser.screenshot("report of a night in mlflow")
    (page,) = re.findall(r"\((http.*)\)", artifacts["mlflow-run"]["data"])
    browser.open(page, "Prefect's page of the run")
    back = browser.page.get_by_role("link", name="Prefect's page of the run").first
    assert back.get_attribute("href") == f"{pages}/runs/flow-run/{run}"

    found = mlflow_nights(stack)
    two = [found[nights.results(night).night.isoformat()].info for night in (BETTER, DRIFT)]
    query = {"runs": json.dumps([each.run_id for each in two]), "experiments": json.dumps([two[0].experiment_id])}
    browser.open(
        f"{stack.mlflow.url}/#/compare-runs?{urlencode(query)}",
        "Comparing 2 Runs from 1 Experiment",
        *(each.run_name for each in two),
        "champion_auc_first_night",
    )
    browser.screenshot("two nights in mlflow")
    assert not browser.refused


def test_a_deployment_predicts_the_folder_with_the_champion(nights: Nights, tmp_path: Path) -> None:
    stack, folder = nights.stack, nights.folder
    settings = {"files": [str(folder.here)], "model": f"{NAME}@champion"}
    run = stack.submit("predict/predict", {"out": str(tmp_path / "out"), "settings": settings})
    assert stack.wait_for(run)["state_type"] == "COMPLETED", stack.what_was_said(run)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (found["model"]["name"], found["model"]["version"]) == (NAME, "2")
    assert found["counts"]["files"] == len(folder.arrived)
    until_then = sum(nights.arrived[:BETTER])
    statuses = {Path(each["file"]).name: each["status"] for each in found["files"]}
    old, new = folder.arrived[:until_then], folder.arrived[until_then:]
    newcomers = {row["Patient ID"] for row in new} - {row["Patient ID"] for row in old}
    assert {statuses[row["Image Index"]] for row in new if row["Patient ID"] in newcomers} == {"predicted"}
    assert {statuses[row["Image Index"]] for row in old} == {"predicted", "trained_on"}
    # the process of a run sends its last lines when it ends, after the run's state
    wanted = f"{len(folder.arrived)} of {len(folder.arrived)} files predicted, 0 refused"
    wait_until(lambda: any(wanted in line for line in stack.log_lines(run)), "the run's last lines", 30)


def test_clean_bounds_the_growth_and_every_version_and_page_still_works(nights: Nights) -> None:
    stack, kept = nights.stack, 2
    folders = (stack.home / "stores", stack.home / "pixels", stack.mlflow.artifacts)
    pages = {page: page.read_bytes() for page in nights.out.rglob("*.html")}
    before = sum(map(size_of, folders))
    print(stack.run_command("flows.cli", "clean", "--keep", str(kept), "--older-than", "0"))
    after = sum(map(size_of, folders))
    print(f"ten nights: {before / 1e6:.1f} MB, after clean {after / 1e6:.1f} MB")
    assert after < before
    assert len(stores(stack) - nights.before) <= kept
    left = {date.fromisoformat(night) for night in mlflow_nights(stack)}
    newest = {nights.results(night).night for night in FINISHED[-kept:]}
    assert left == newest | {nights.results(night).night for night in (1, BETTER)}, "nights of registered versions stay"
    stack.run_command("flows.cli", "clean", "--keep", str(kept), "--older-than", "0")
    assert sum(map(size_of, folders)) == after, "a second one finds nothing more"

    mlflow.set_tracking_uri(stack.mlflow.url)
    for version in ("1", "2"):
        model = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
        assert np.isfinite(model.predict(np.zeros((2, 1, 32, 32), np.uint8)).to_numpy()).all()
    assert {page: page.read_bytes() for page in nights.out.rglob("*.html")} == pages


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder, shared ones once."""
    files = {(state.st_ino, state.st_size) for file in folder.rglob("*") if (state := file.lstat()) and file.is_file()}
    return sum(size for _, size in files)
