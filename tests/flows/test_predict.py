"""`medmtl predict`: the numbers of the training path, a reason for each refusal, exit codes, no name but the user's."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from data_prep.labels.patients import PUBLIC_KEY
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.store import Store
from flows.cli import BAD_INPUT, INTERRUPTED, OK, exit_code
from models.evaluation.operating_points import operating_points
from tasks.images import exported_program
from tasks.images.exported_program import Program, load_program
from tasks.prediction.records import PredictionRecord
from tests.data_prep.test_canaries import CANARIES, WORD
from tests.flows.test_canaries import file_name, image

pytestmark = pytest.mark.slow

SPLIT = SplitSettings(shares=(0.5, 0.2, 0.3))
TRAINING = """
data: {size: 32, phantom: {patients: 60, size: 64}}
split: {shares: [0.5, 0.2, 0.3]}
training: {epochs: 1}
"""


@pytest.fixture(scope="module")
def home(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a small model, medmtl/1, which is the champion."""
    folder = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", str(folder / "home"))
        patch.setenv("PREFECT_API_URL", server)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it to where it was connected last
        patch.chdir(folder)
        Path("train.yaml").write_text(TRAINING)
        assert exit_code(["train", "--config", "train.yaml", "--out", "trained"]) == OK
        assert exit_code(["promote", "--version", "1"]) == OK
        yield folder / "home"


@pytest.fixture(autouse=True)
def _in_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_HOME", str(home))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)  # it needs no server
    monkeypatch.chdir(tmp_path)


def rows(folder: str = "out") -> list[dict[str, str]]:
    with Path(folder, "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def told(folder: str = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "predictions.json").read_text())
    for each in found["files"]:
        PredictionRecord.model_validate(each)
    return found


def numbers(row: dict[str, str]) -> np.ndarray:
    return np.array(list(row.values())[4:], np.float32)


def program() -> Program:
    return load_program("models:/medmtl/1")


def expected(pixels: np.ndarray) -> np.ndarray:
    """The training path: the pixels of a store through the same program, in batches of the same images."""
    return program().predict(pixels[:, None])


def test_a_file_of_the_training_data_has_the_probabilities_of_its_stored_pixels(home: Path) -> None:
    (images,) = (path for path in (home / "phantoms").iterdir() if path.is_dir())
    (store_folder,) = (path for path in (home / "stores").iterdir() if path.is_dir())
    store = Store.open(store_folder)
    assert exit_code(["predict", str(images), "--out", "out"]) == OK
    found = {Path(row["file"]).name: row for row in rows()}
    assert list(found) == sorted(store.images.tolist())
    order = [store.images.tolist().index(name) for name in found]
    assert np.array_equal(np.stack([numbers(row) for row in found.values()]), expected(store.pixels[order]))
    of_training = set(store.patients[make_split(SPLIT, store.images, store.patients, store.same_pixels).train].tolist())
    for name, row in found.items():
        patient = store.patients[store.images.tolist().index(name)]
        assert row["status"] == ("trained_on" if patient in of_training else "predicted")
        assert row["reason"] == ("" if row["status"] == "predicted" else row["reason"])
    validation = make_split(SPLIT, store.images, store.patients, store.same_pixels).val
    points = operating_points(store.targets[validation], expected(store.pixels[validation]), store.labels)
    found_points = told()["model"]["operating_points"]
    assert found_points.keys() == points.keys() != set()
    for label, point in found_points.items():
        assert point == pytest.approx(vars(points[label]), abs=1e-6)
    for each in told()["files"]:
        reached = {label for label in points if each["probabilities"][label] >= found_points[label]["threshold"]}
        assert set(each["positive"]) == reached
    counts = told()["counts"]
    assert counts["trained_on"] + counts["predicted"] == counts["files"] == len(store.images)
    assert counts["others"] == sum(path.is_file() for path in images.rglob("*")) - len(store.images)


def test_216_radiographs_and_dicom_have_the_probabilities_of_the_training_path(
    home: Path, shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    originals, dicom = shared_data / "nih" / "images_1024", shared_data / "dicom"
    source = FolderSource.open(originals, shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz", allow_missing=True)
    store = build_store(source, tmp_path / "store", 32, key=PUBLIC_KEY, workers=2)
    assert exit_code(["predict", str(originals), str(dicom), "--out", "out"]) == OK
    found = rows()
    assert len(found) == 216 + 9
    assert [Path(row["file"]).name for row in found[:216]] == store.images.tolist()
    assert np.array_equal(np.stack([numbers(row) for row in found[:216]]), expected(store.pixels[:]))
    refused = {Path(row["file"]).name: row["reason"] for row in found if row["status"] == "refused"}
    assert refused.keys() == {path.name for path in dicom.iterdir()} - {"RG1_J2KI.dcm"}
    assert all(refused.values())
    assert refused["RG3_J2KR.dcm"] == "not of the chest: extremity"
    said = capfd.readouterr().err
    assert "217 of 225 files predicted, 8 refused" in said
    assert "refused, 2: not a radiograph: CT Image Storage" in said


def test_where_some_are_refused_the_code_is_0_and_where_all_are_2(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good, bad = next((home / "phantoms").rglob("*.png")), tmp_path / "cut.png"
    bad.write_bytes(good.read_bytes()[:-40])
    assert exit_code(["predict", str(good), "cut.png", "nowhere.png", "--out", "out"]) == OK
    assert [(row["file"], row["status"], row["reason"]) for row in rows()[1:]] == [
        ("cut.png", "refused", f"truncated: the PNG file ends after {bad.stat().st_size} bytes, before its last chunk"),
        ("nowhere.png", "refused", "cannot be read (No such file or directory)"),
    ]
    assert "refused, 1: truncated: the PNG file ends after N bytes, before its last chunk" in capfd.readouterr().err
    assert exit_code(["predict", "cut.png", "nowhere.png", "--out", "none"]) == BAD_INPUT
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("medmtl: all 2 files were refused (truncated: ")
    assert last.endswith("/none/predictions.csv has the reason of each")
    assert [row["status"] for row in rows("none")] == ["refused", "refused"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "no file is named: name files or folders of images"),
        (("empty",), "no image found among 0 files"),
        (("x.png", "--model", "medmtl"), "a model is named as NAME@ALIAS or NAME/VERSION"),
        (("x.png", "--model", "nobody@champion"), "MLflow has no registered model 'nobody'"),
        (("x.png", "--model", "medmtl@champio"), "no version of medmtl is its champio; did you mean champion?"),
        (("x.png", "--model", "medmtl/7"), "medmtl has no version '7'"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_the_remedy(
    arguments: tuple[str, ...], line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert exit_code(["predict", *arguments, "--out", "out"]) == BAD_INPUT
    assert line in capfd.readouterr().err.splitlines()[-1]
    assert not Path("out", "predictions.csv").exists()


def test_predictions_of_other_files_are_replaced_only_with_force(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = sorted((home / "phantoms").rglob("*.png"))[:2]
    assert exit_code(["predict", str(one), "--out", "out"]) == OK
    assert exit_code(["predict", str(two), "--out", "out"]) == BAD_INPUT
    assert "already holds another run" in capfd.readouterr().err
    assert exit_code(["predict", str(two), "--out", "out", "--force"]) == OK
    assert exit_code(["predict", "--config", "out/config.yaml", "--out", "out"]) == OK
    assert [row["file"] for row in rows()] == [str(two)]


def test_a_stopped_run_leaves_the_predictions_of_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = next((home / "phantoms").rglob("*.png"))
    assert exit_code(["predict", str(good), "--out", "out"]) == OK
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def stop(program: Program, pixels: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(exported_program.Program, "predict", stop)
    assert exit_code(["predict", str(good), "--out", "out"]) == INTERRUPTED
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_files_of_any_name_keep_it(home: Path, tmp_path: Path) -> None:
    good = next((home / "phantoms").rglob("*.png"))
    names = [b"a,b.png", b'"q".png', b"line\nend.png", b"\xff\xfe.png", b"=1+1.png", "Röntgen.png".encode()]
    (tmp_path / "odd").mkdir()
    for name in names:
        shutil.copy(good, os.path.join(b"odd", name))  # noqa: PTH118 - bytes
    assert exit_code(["predict", "odd", "--out", "out", "--page"]) == OK
    wanted = {f"odd/{os.fsdecode(name)}" for name in names}
    assert {row["file"] for row in rows()} == {each["file"] for each in told()["files"]} == wanted
    assert len({row["Mass"] for row in rows()}) == 1


def test_no_identity_is_in_what_is_written_beyond_the_names_that_the_user_gave(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "inbox" / f"{WORD}^Jane"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / file_name(number)).write_bytes(image(number))
    (folder / file_name(6)).write_bytes(image(6)[:-900])
    assert exit_code(["predict", "inbox", "--out", "out", "--page"]) == OK
    said = "".join(capfd.readouterr())
    assert "6 of 7 files predicted, 1 refused" in said
    written = {path.name: path.read_text() for path in Path("out").iterdir()}
    for each in told()["files"]:
        for name in ("predictions.csv", "predictions.json"):
            written[name] = written[name].replace(each["file"], "").replace(json.dumps(each["file"])[1:-1], "")
    for text in (said, *written.values()):
        assert not [line for line in text.splitlines() if any(canary in line for canary in CANARIES)]
    assert {"predictions.csv", "predictions.json", "config.yaml", "report.html"} == written.keys()


def test_an_alias_of_the_users_own_is_found(home: Path) -> None:
    MlflowClient().set_registered_model_alias("medmtl", "ward-7", "1")
    good = next((home / "phantoms").rglob("*.png"))
    assert exit_code(["predict", str(good), "--model", "medmtl@ward-7", "--out", "out"]) == OK
    model = told()["model"]
    assert (model["name"], model["version"], len(model["labels"])) == ("medmtl", "1", 14)
    assert rows()[0]["model"] == "medmtl/1"
