"""Deployed runs on the servers that a hospital has: PostgreSQL, MLflow with served artifacts, Prefect, a worker."""

import json
import re
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from mlflow.tracking import MlflowClient

from tests.stack.browser import Browser
from tests.stack.stack import Stack
from tests.stack.tiny import arms, check_arms, training

pytestmark = pytest.mark.slow


class Trained(NamedTuple):
    stack: Stack
    runs: tuple[str, str]  # two runs of the deployment `train/train`, of two methods
    out: Path
    since_ms: int  # when they were asked for


@pytest.fixture(scope="module")
def trained(deployed: Stack, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out, since = tmp_path_factory.mktemp("out"), int(time.time() * 1000)
    first = deployed.submit("train/train", training(out / "uniform", "trained"))
    second = deployed.submit("train/train", training(out / "svd", "trained", method={"kind": "svd"}))
    for run in (first, second):
        assert deployed.wait_for(run)["state_type"] == "COMPLETED", deployed.what_was_said(run)
    return Trained(deployed, (first, second), out, since)


def test_a_deployed_training_ends_completed_with_every_metric_in_postgresql(trained: Trained) -> None:
    check_arms(trained.stack, trained.since_ms)
    assert len(arms(trained.stack, trained.since_ms)) == 2
    version = MlflowClient(trained.stack.mlflow.url).get_model_version_by_alias("trained", "challenger")
    assert version.status == "READY"
    for method in ("uniform", "svd"):
        assert (trained.out / method / "report.html").exists()


def test_the_form_of_a_deployment_shows_each_setting_with_its_meaning(trained: Trained, browser: Browser) -> None:
    known = trained.stack.prefect.ask("GET", "deployments/name/train/train")
    address = f"{trained.stack.prefect.url}/deployments/deployment/{known['id']}/run"
    browser.open(address, "Settings of a single training", "side of the decoded images, pixels", "the task weighting")
    browser.screenshot("form")
    assert not browser.refused


def test_the_page_of_a_run_shows_its_log_and_its_artifacts(trained: Trained, browser: Browser) -> None:
    pages, run = trained.stack.prefect.url, trained.runs[0]
    browser.open(f"{pages}/runs/flow-run/{run}", "Completed", "Task runs", "Beginning flow run")
    browser.screenshot("run")
    (checks,) = (each for each in trained.stack.artifacts(run) if each["key"] == "checks")
    browser.open(f"{pages}/artifacts/artifact/{checks['id']}", "checks of the store", "no image twice")
    browser.screenshot("artifact")
    assert not browser.refused


def test_mlflow_shows_an_arm_and_compares_two(trained: Trained, browser: Browser) -> None:
    pages, found = (
        trained.stack.mlflow.url,
        {run.info.run_name: run.info for run in arms(trained.stack, trained.since_ms)},
    )
    (experiment,) = {info.experiment_id for info in found.values()}
    svd = next(info for name, info in found.items() if "svd" in name)
    browser.open(f"{pages}/#/experiments/{experiment}/runs/{svd.run_id}", svd.run_name, "test_auc_mean", "best_epoch")
    browser.screenshot("mlflow run")
    both = json.dumps([info.run_id for info in found.values()])
    query = urlencode({"runs": both, "experiments": json.dumps([experiment])})
    browser.open(f"{pages}/#/compare-runs?{query}", "Comparing 2 Runs from 1 Experiment", *found, "method.kind")
    browser.screenshot("mlflow comparison")
    assert not browser.refused


def test_the_lines_of_medmtl_stand_in_the_log_of_the_run_which_is_named_after_its_settings(trained: Trained) -> None:
    run = trained.stack.flow_runs(id={"any_": [trained.runs[1]]})[0]
    assert re.fullmatch(r"train · phantom 32 px · \w+ · svd.* · seed 0 · \d{4}-\d\d-\d\d \d\d:\d\d", run["name"])
    assert "medmtl" in run["tags"]
    assert [tag for tag in run["tags"] if tag.startswith("lease:")]
    lines = trained.stack.log_lines(trained.runs[1])
    for line in ("labels: ", "checks: all ", ": test AUC ", "report: "):
        assert [said for said in lines if line in said and said.count("medmtl") <= 1], line
    assert len([said for said in lines if "checks: all " in said]) == 1


def test_the_run_s_artifact_says_what_the_report_says_and_links_to_it_and_mlflow_links_back(
    trained: Trained, browser: Browser
) -> None:
    pages, run = trained.stack.prefect.url, trained.runs[1]
    artifacts = {each["key"]: each for each in trained.stack.artifacts(run)}
    assert "file:" not in json.dumps(artifacts)
    (link,) = re.findall(r"\[The whole report\]\((.*)\)", artifacts["report"]["data"])
    browser.open(f"{pages}/artifacts/artifact/{artifacts['report']['id']}", "rank the test images", "The whole report")
    browser.screenshot("artifact of the report")
    browser.open(link, "report.html")
    browser.page.frame_locator("iframe").get_by_text("rank the test images").first.wait_for()
    browser.screenshot("report in mlflow")
    (page,) = re.findall(r"\((http.*)\)", artifacts["mlflow-run"]["data"])
    browser.open(page, "Prefect's page of the run")
    back = browser.page.get_by_role("link", name="Prefect's page of the run").first
    assert back.get_attribute("href") == f"{pages}/runs/flow-run/{run}"
