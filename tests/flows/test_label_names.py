"""Labels of any name go through a whole training: scored, logged and shown each under its own name."""

import csv
import json
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from flows.cli import OK, exit_code
from tasks.arms import mlflow_runs
from tasks.runtime.escaping import escape_key

pytestmark = pytest.mark.slow

LABELS = (
    "step", "mean", "auc", "epoch", "seconds", "loss", "a//b", "../x", "A,B", "A;B", "(left)", "[left]", "[red]", "$x$",
    "_{", "%s", "{0}", "<b>", "</script>", "'; DROP", "`x`", "Lésion", "Nodule/Mass", "Nodule", "🩻", "m" * 100,
)  # fmt: skip
CONFIG = """
data: {size: 32}
split: {name: random, shares: [0.5, 0.2, 0.3]}
training: {epochs: 2}
noise: {kind: random, rate: 0.2, labels: ["step", "a//b", "$x$"]}
"""


def test_a_training_with_labels_that_clash_or_that_others_refuse(medmtl_home: Path, tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "images"
    folder.mkdir()
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["image", "patient", *LABELS])
        for number in range(80):
            cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 256, (40, 40), dtype=np.uint8))
            rows.writerow([f"{number}.png", f"p{number}", *random.integers(0, 2, len(LABELS))])
    (tmp_path / "settings.yaml").write_text(CONFIG)
    columns = [word for label in LABELS for word in ("--label-column", label)]
    assert exit_code(["train", "--config", "settings.yaml", "--data", "images", *columns, "--out", "out"]) == OK

    (arm,) = json.loads(Path("out/results.json").read_text())["arms"]
    assert sorted(arm["labels"]) == sorted(LABELS)
    assert [row["step"] for row in arm["weights"]] == sorted({row["step"] for row in arm["weights"]})
    assert all(set(row["labels"]) == set(LABELS) for row in arm["weights"])
    assert set(arm["condition"]["summary"]) == {"step", "a//b", "$x$"}

    client, run_id = MlflowClient(), arm["mlflow_run_id"]
    metrics = client.get_run(run_id).data.metrics
    for label in LABELS:
        assert metrics[escape_key(f"test_auc/{label}")] == arm["labels"][label]["score"]["value"]
        for group in ("train_loss", "val_auc", "weight"):
            history = client.get_metric_history(run_id, escape_key(f"{group}/{label}"))
            assert [point.step for point in history] == [1, 2]
    for group in ("train_loss", "val_auc", "weight", "test_auc"):
        assert len([name for name in metrics if name.startswith(f"{group}/")]) == len(LABELS)
    facts = mlflow.artifacts.load_dict(f"runs:/{run_id}/medmtl.json")
    assert sorted(facts["labels"]) == sorted(LABELS)
    assert {run.info.status for run in client.search_runs([mlflow_runs.connect()])} == {"FINISHED"}
