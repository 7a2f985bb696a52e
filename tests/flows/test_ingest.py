"""What an ingest says: which columns are labels, what was left out, which pictures are of several patients."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from flows.cli import BAD_INPUT, OK, exit_code
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset

pytestmark = pytest.mark.slow

COLUMNS = "image,patient,Mass,Edema,Age,Remark,fold,Empty"


def pictures(count: int) -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8)
    return [cv2.resize(each, (48, 48), interpolation=cv2.INTER_CUBIC) for each in coarse]


@pytest.fixture
def folder(tmp_path: Path, medmtl_home: Path) -> Path:
    """120 images of 40 patients; 7.png has no row, a row has no image, and 3.png shows what 60.png shows."""
    made = tmp_path / "images"
    made.mkdir()
    rows = [COLUMNS]
    shown = pictures(120)
    shown[60] = shown[3]
    for number, picture in enumerate(shown):
        cv2.imwrite(str(made / f"{number}.png"), picture)
        if number != 7:
            edema = ("Yes", "No", "")[number % 3]
            rows.append(f"{number}.png,p{number // 3},{number % 2},{edema},{20 + number},text {number},{number % 2},")
    rows.append("lost.png,p99,1,Yes,50,more,0,")
    (made / "labels.csv").write_text("\n".join(rows) + "\n")
    return made


def ingest(folder: Path, *flags: str, code: int = OK) -> None:
    assert exit_code(["ingest", "--data", str(folder), "--size", "32", "--out", "out", "--force", *flags]) == code


def test_every_column_row_image_and_picture_is_accounted_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ingest(folder)
    said, page = capfd.readouterr().err, Path("out/report.html").read_text()
    data = json.loads(Path("out/results.json").read_text())["data"]
    assert data["labels"] == ["Mass", "Edema"]
    assert data["ignored_columns"].keys() == {"Age", "Remark", "fold", "Empty"}
    assert (data["unmatched_images"], data["rows_without_image"]) == (["7.png"], 1)
    assert data["same_pixels"] == [["3.png", "60.png"]]
    for told in ("Mass, Edema", "Age", "Remark", "fold", "Empty", "7.png", "lost.png", "3.png"):
        assert told in said, told
        assert all(word in page for word in told.split(", ")), told


def test_the_user_says_which_columns_are_labels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ingest(folder, "--label-column", "fold", "--label-column", "Mass")
    data = json.loads(Path("out/results.json").read_text())
    assert data["data"]["labels"] == ["Mass", "fold"]
    assert data["config"]["data"]["labels"]["columns"] == ["fold", "Mass"]
    ingest(folder, "--label-column", "Mas", code=BAD_INPUT)
    assert "did you mean Mass?" in capfd.readouterr().err.splitlines()[-1]


def test_a_config_of_before_names_the_table_alone(folder: Path) -> None:
    table = (folder / "labels.csv").rename(folder.parent / "elsewhere.csv")
    Path("old.yaml").write_text(yaml.safe_dump({"data": {"labels": str(table)}}))
    ingest(folder, "--config", "old.yaml")
    assert json.loads(Path("out/results.json").read_text())["config"]["data"]["labels"]["table"] == str(table)


def test_much_that_is_missing_stops_the_ingest_unless_it_is_allowed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(50, 60):
        (folder / f"{number}.png").unlink()
    ingest(folder, code=BAD_INPUT)
    line = capfd.readouterr().err.splitlines()[-1]
    assert "11 of 120 rows have no image" in line
    assert "--allow-missing" in line
    ingest(folder, "--allow-missing")
    assert json.loads(Path("out/results.json").read_text())["data"]["rows_without_image"] == 11


def test_a_user_vouches_for_files_that_do_not_say_what_they_show(
    tmp_path: Path, medmtl_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "dicom"
    made.mkdir()
    rows = ["image,patient,Mass"]
    for number, picture in enumerate(pictures(30)):
        dataset = dicom_dataset(picture.astype(np.uint16) * 16, Modality=None, BodyPartExamined=None)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.pop("SOPClassUID").value
        (made / f"{number}.dcm").write_bytes(dicom_bytes(dataset))
        rows.append(f"{number},p{number // 2},{number % 2}")
    (made / "labels.csv").write_text("\n".join(rows) + "\n")
    ingest(made, code=BAD_INPUT)
    assert "--chest-radiographs" in capfd.readouterr().err.splitlines()[-1]
    ingest(made, "--chest-radiographs")
    assert json.loads(Path("out/results.json").read_text())["data"]["images"] == 30
