"""The radiologists' labels, and what the noisy ones say in their terms."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.labels.adjudicated import CORRESPONDING_FINDINGS, combined_scores, combined_targets, read_adjudicated
from data_prep.labels.table import FINDINGS, read_labels

ROOT = Path(__file__).parents[3]
HEADER = "Image Index,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "google2019.csv"
    path.write_text(f"{HEADER}\na.png,1,YES,YES,NO,NO,test\nb.png,1,NO,NO,YES,,val\n")
    return path


def test_yes_is_present_no_is_absent_and_nothing_is_unknown(table: Path) -> None:
    found = read_adjudicated(table)
    assert list(CORRESPONDING_FINDINGS) == ["Pneumothorax", "Nodule or mass", "Airspace opacity"]
    assert found.targets.tolist() == [[1, 0, 0], [0, -1, 1]]
    assert (found.images.tolist(), found.patients.tolist(), found.sets.tolist()) == (
        ["a.png", "b.png"], ["1", "1"], ["test", "val"],
    )  # fmt: skip


def test_labels_are_joined_by_image_and_unknown_for_the_others(table: Path) -> None:
    assert read_adjudicated(table).targets_of(["b.png", "stranger.png", "a.png"]).tolist() == [
        [0, -1, 1], [-1, -1, -1], [1, 0, 0],
    ]  # fmt: skip


def test_another_value_or_a_missing_column_is_named(table: Path) -> None:
    table.write_text(table.read_text().replace("YES", "MAYBE"))
    with pytest.raises(DataError, match="column 'Pneumothorax' contains 'MAYBE'; adjudicated labels are YES or NO"):
        read_adjudicated(table)
    table.write_text(table.read_text().replace("Set Id", "Set"))
    with pytest.raises(DataError, match="no column 'Set Id'"):
        read_adjudicated(table)


def test_a_union_is_present_with_any_part_and_absent_only_if_all_parts_are_known() -> None:
    nodule, mass = FINDINGS.index("Nodule"), FINDINGS.index("Mass")
    targets = np.zeros((5, len(FINDINGS)), dtype=np.int8)
    targets[0, nodule] = 1
    targets[1, mass], targets[1, nodule] = 1, -1
    targets[2, mass] = -1
    targets[3, FINDINGS.index("Hernia")] = 1
    assert combined_targets(targets, FINDINGS)[:, 1].tolist() == [1, 1, -1, 0, 0]
    scores = np.random.default_rng(0).random((5, len(FINDINGS)))
    assert (combined_scores(scores, FINDINGS)[:, 1] == np.maximum(scores[:, nodule], scores[:, mass])).all()


def test_labels_without_a_corresponding_finding_are_refused() -> None:
    with pytest.raises(DataError, match="need the label 'Mass', which the data do not have"):
        combined_targets(np.zeros((2, 2), dtype=np.int8), ["Pneumothorax", "Nodule"])


def test_the_published_table_has_its_published_counts(shared_data: Path) -> None:
    nih = shared_data / "nih"
    found = read_adjudicated(nih / "google2019_nih-chest-xray-labels.csv.gz")
    assert (found.targets == 1).sum(axis=0).tolist() == [238, 605, 2166]
    assert [(found.sets == name).sum() for name in ("val", "test")] == [2414, 1962]
    noisy = read_labels(nih / "Data_Entry_2017_v2020.csv.gz")
    patient_of = dict(zip(noisy.images.tolist(), noisy.patients.tolist(), strict=True))
    assert [patient_of[image] for image in found.images.tolist()] == found.patients.tolist()


def test_real_predictions_score_better_against_the_radiologists(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "adjudicated.json"
    command = [sys.executable, "benchmarks/adjudicated.py", "--json", out]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "935 of 22,433 predicted images are adjudicated" in shown
    auc = json.loads(out.read_text())["findings"]["Airspace opacity"]["auc"]
    assert auc["noisy"]["hi"] < auc["adjudicated"]["lo"]
    assert auc["adjudicated"]["value"] == pytest.approx(0.840, abs=0.001)
