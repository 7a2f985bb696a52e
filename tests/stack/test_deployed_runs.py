"""Deployed runs on the servers that a hospital has: PostgreSQL, MLflow with served artifacts, Prefect, a worker."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.stack.stack import Stack
from tests.stack.tiny import arms, check_arms, training

pytestmark = pytest.mark.slow


def test_a_deployed_training_ends_completed_with_every_metric_in_postgresql(deployed: Stack, tmp_path: Path) -> None:
    run = deployed.submit("train/train", training(tmp_path / "out", "smoke"))
    assert deployed.wait_for(run)["state_type"] == "COMPLETED", deployed.what_was_said(run)
    check_arms(deployed)
    assert {run.info.status for run in arms(deployed)} == {"FINISHED"}
    version = MlflowClient(deployed.mlflow.url).get_model_version_by_alias("smoke", "challenger")
    assert version.status == "READY"
    assert (tmp_path / "out" / "report.html").exists()
