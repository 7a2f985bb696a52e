"""Predictions scored against the data's labels and against adjudicated ones, joined by image."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.labels.adjudicated import CORRESPONDING_FINDINGS
from data_prep.labels.table import FINDINGS
from data_prep.store.store import Store
from models.evaluation.auc import auc_per_label
from tasks.images.adjudication import MEAN, score_adjudicated
from tasks.records.arms import ArmRecord
from tests.tasks.fake_study import fake_study

N = 120
RNG = np.random.default_rng(5)
TARGETS = (RNG.random((N, len(FINDINGS))) < 0.3).astype(np.int8)
SCORES = RNG.random((N, len(FINDINGS))).astype(np.float32)
STORE = cast(
    Store,
    SimpleNamespace(
        images=np.array([f"{i:08d}_000.png" for i in range(N)]),
        patients=np.array([str(i // 2) for i in range(N)]),
        labels=FINDINGS,
        targets=TARGETS,
    ),
)


def arm() -> ArmRecord:
    return fake_study(seeds=(0,)).arms[0]


def write_table(path: Path, rows: range, truth: np.ndarray) -> Path:
    header = "Image Index,Patient ID,Set Id," + ",".join(CORRESPONDING_FINDINGS)
    lines = [f"{STORE.images[i]},{i // 2},test," + ",".join("YES" if cell else "NO" for cell in truth[i]) for i in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_only_images_of_the_table_count_and_each_truth_gives_its_own_auc(tmp_path: Path) -> None:
    truth = RNG.random((N, 3)) < 0.5
    known = range(10, 90)
    rows = np.arange(0, 80)  # the test part: 10 to 79 are in both
    found = score_adjudicated(write_table(tmp_path / "t.csv", known, truth), STORE, rows, [arm()], [SCORES[rows]])
    assert (found.images, found.patients) == (70, 35)
    both = np.arange(10, 80)
    for j, (finding, labels) in enumerate(CORRESPONDING_FINDINGS.items()):
        columns = [FINDINGS.index(label) for label in labels]
        score = SCORES[both][:, columns].max(axis=1)[:, None]
        (row,) = [each for each in found.scores if each.finding == finding]
        noisy = TARGETS[both][:, columns].max(axis=1)[:, None]
        assert row.adjudicated.value == pytest.approx(auc_per_label(truth[both, j : j + 1].astype(np.int8), score)[0])
        assert row.noisy.value == pytest.approx(auc_per_label(noisy, score)[0])
        assert found.positives[finding] == (noisy.sum(), truth[both, j].sum())
    (mean,) = [each for each in found.scores if each.finding == MEAN]
    values = [each.adjudicated.value for each in found.scores if each.finding != MEAN]
    assert mean.adjudicated.value == pytest.approx(np.mean([value for value in values if value is not None]))


def test_a_table_of_other_images_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", range(100, 110), np.zeros((N, 3), bool))
    with pytest.raises(DataError, match="none of the 50 test images has a complete row among the table's 10 images"):
        score_adjudicated(table, STORE, np.arange(50), [arm()], [SCORES[:50]])
