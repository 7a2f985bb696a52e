"""After `medmtl clean`, every registered model, report and unfinished arm still works."""

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter

from flows.cli import BAD_INPUT, INTERRUPTED, OK, exit_code
from tasks.arms.base import ResumableEpochs

pytestmark = pytest.mark.slow


def test_models_reports_and_unfinished_arms_work_after_a_clean(
    medmtl_home: Path, small: list[str], small_train: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["train", *small_train, "--out", "trained"]) == OK
    save = ResumableEpochs.save

    def save_and_stop(self: ResumableEpochs, epoch: int, *arguments: object) -> None:
        save(self, epoch, *arguments)  # type: ignore[arg-type]
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEpochs, "save", save_and_stop)
        assert exit_code(["study", *small, "--out", "study"]) == INTERRUPTED
    unfinished = sorted(path.name for path in (medmtl_home / "arms").iterdir() if path.is_dir())
    assert unfinished
    pixels = np.zeros((1, 1, 32, 32), dtype=np.uint8)
    predicted = mlflow.pyfunc.load_model("models:/medmtl/1").predict(pixels)
    report = Path("trained/report.html").read_bytes()

    assert exit_code(["clean", "--keep", "1", "--older-than", "0"]) == OK
    assert "MB were freed" in capfd.readouterr().out
    np.testing.assert_array_equal(mlflow.pyfunc.load_model("models:/medmtl/1").predict(pixels), predicted)
    assert Path("trained/report.html").read_bytes() == report
    assert exit_code(["study", *small, "--out", "study"]) == OK
    said = capfd.readouterr().err
    assert "reused, nothing decoded" in said
    assert len(re.findall("goes on after epoch [12] of 3", said)) == len(unfinished)
    assert {arm["status"] for arm in json.loads(Path("study/results.json").read_text())["arms"]} == {"finished"}

    with get_client(sync_client=True) as client:
        ours = FlowRunFilter.model_validate({"tags": {"all_": ["medmtl"]}})
        assert exit_code(["clean", "--keep", "1", "--older-than", "0"]) == OK
        names = [client.read_flow(run.flow_id).name for run in client.read_flow_runs(flow_run_filter=ours)]
        assert len(names) == len(set(names))
    capfd.readouterr()
    assert exit_code(["clean", "--keep", "1", "--older-than", "0"]) == OK
    counts = [line.split()[-3:] for line in capfd.readouterr().out.splitlines()]
    assert counts
    assert exit_code(["clean", "--keep", "0"]) == BAD_INPUT
    assert capfd.readouterr().err == "medmtl: keep: input should be greater than or equal to 1; got 0\n"
