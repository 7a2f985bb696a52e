"""Runs that fail, each in its own way, on data full of identity: none of it is said, or left in any file."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from prefect.logging.handlers import APILogWorker
from pydicom.dataset import Dataset

from data_prep.store import shards
from data_prep.store.store import Store
from flows.cli import BAD_INPUT, INTERRUPTED, OK, exit_code
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset
from tests.data_prep.test_canaries import CANARIES, DATE, WORD, found_in, plant

pytestmark = pytest.mark.slow

PATIENTS = 30
SETTINGS = {
    "data": {"size": 32},
    "split": {"name": "random", "shares": [0.4, 0.2, 0.4]},
    "training": {"epochs": 1},
}
Rows = list[dict[str, str]]


def file_name(number: int) -> str:
    return f"{WORD}^Jane_MRN{number}_{DATE}.dcm"


def image(number: int, change: Callable[[Dataset], object] = lambda dataset: None) -> bytes:
    random = np.random.default_rng(number)
    coarse = random.integers(0, 4096, (5, 5)).astype(np.float32)
    stored = np.clip(cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC), 0, 4095).astype(np.uint16)
    dataset = dicom_dataset(stored, BitsStored=12)
    plant(dataset, number)
    change(dataset)
    return dicom_bytes(dataset)


def row(number: int) -> dict[str, str]:
    findings = np.random.default_rng(number).integers(0, 2, 2)
    who = {"image": file_name(number), "patient": f"{WORD}{number:06d}", "name": f"{WORD}^Jane", "birth": DATE}
    return who | {"Mass": str(findings[0]), "Effusion": str(findings[1]), "comment": f"{WORD} says so"}


def write_rows(folder: Path, rows: Rows, name: str = "labels.csv") -> None:
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images named after their patients, with their table; nothing is wrong with them."""
    folder = tmp_path_factory.mktemp("hospital")
    for number in range(PATIENTS):
        (folder / file_name(number)).write_bytes(image(number))
    write_rows(folder, [row(number) for number in range(PATIENTS)])
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of everything that the runs of this module leave: their home, outputs and what they said."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def data(hospital: Path, tmp_path: Path) -> Path:
    """A copy of the hospital, to be spoilt."""
    return Path(shutil.copytree(hospital, tmp_path / "data"))


Says = Callable[..., str]


@pytest.fixture
def says(
    server: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Says:
    """Run a command on the data, which must end with a code; looks for identity everywhere, and gives what was said."""
    monkeypatch.setenv("PREFECT_API_URL", server)
    monkeypatch.setenv("MEDMTL_HOME", str(work / "home"))
    monkeypatch.chdir(work)

    def run(*command: str, code: int = BAD_INPUT, **settings: object) -> str:
        (work / "settings.yaml").write_text(
            yaml.safe_dump({name: of for name, of in (SETTINGS | settings).items() if of})
        )
        flags = ["--config", "settings.yaml", "--data", str(tmp_path / "data"), "--out", tmp_path.name]
        capfd.readouterr()
        ended = exit_code([command[0], *flags, *command[1:]])
        said = "".join(capfd.readouterr())
        assert ended == code, said
        assert "Traceback" not in said
        must_be_anonymous(said, work)
        return said.splitlines()[-1]

    return run


def must_be_anonymous(said: str, work: Path) -> None:
    APILogWorker.drain_all(timeout=30)
    assert not [line for line in said.splitlines() if any(canary in line for canary in CANARIES)]
    assert not found_in(work)
    for server in work.parent.glob("prefect*"):
        assert not found_in(server)


def test_the_search_finds_a_word_that_a_failing_run_says(says: Says, data: Path, work: Path) -> None:
    assert "planted" in says("train", "--label-column", "planted")
    assert found_in(work, "planted")
    assert any(found_in(server, "planted") for server in work.parent.glob("prefect*"))


def test_images_that_cannot_be_read(says: Says, data: Path) -> None:
    for number in range(0, PATIENTS, 2):
        (data / file_name(number)).write_bytes(image(number)[: 3000 + 100 * number])
    assert "cannot be read, the limit is" in says("train")


def test_files_that_are_no_images(says: Says, data: Path) -> None:
    for number in range(0, PATIENTS, 2):
        (data / file_name(number)).write_bytes(f"{WORD}^Jane is ill".encode() * number)
    assert "cannot be read, the limit is" in says("train")


def test_images_of_other_parts_of_the_body(says: Says, data: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.BodyPartExamined = f"{WORD}LEG"
        dataset.StudyDescription = f"left leg of {WORD}^Jane"

    for number in range(PATIENTS):
        (data / file_name(number)).write_bytes(image(number, change))
    assert "not of the chest: leg" in says("train")


def test_values_of_a_type_that_is_not_theirs(says: Says, data: Path) -> None:
    def change(dataset: Dataset) -> None:
        for keyword in ("BitsStored", "WindowWidth", "RescaleSlope", "PhotometricInterpretation"):
            dataset.add_new(keyword, "LO", f"{WORD}^Jane MRN4711")

    for number in range(PATIENTS):
        (data / file_name(number)).write_bytes(image(number, change))
    assert "cannot be read, the limit is" in says("train")


def test_a_table_without_a_row_for_any_image(says: Says, data: Path) -> None:
    write_rows(data, [row(number) | {"image": f"other{file_name(number)}"} for number in range(PATIENTS)])
    assert "has a row in the label table" in says("train")


def test_a_table_with_rows_that_have_no_image_and_images_without_a_row(says: Says, data: Path) -> None:
    for number in range(5):
        (data / file_name(number)).rename(data / f"new{file_name(number)}")
    assert "the limit is 1%" in says("train")


def test_an_image_that_is_named_twice(says: Says, data: Path) -> None:
    write_rows(data, [row(number) for number in (*range(PATIENTS), 3)])
    assert "row 4 and row 31 are of the same image" in says("train")


def test_a_cell_that_is_no_label(says: Says, data: Path) -> None:
    write_rows(data, [row(number) | {"Mass": f"{WORD} may have one"} for number in range(PATIENTS)])
    assert "column 'Mass' contains" in says("train", "--label-column", "Mass")


def test_a_table_without_labels(says: Says, data: Path) -> None:
    write_rows(data, [row(number) | {"Mass": WORD, "Effusion": DATE} for number in range(PATIENTS)])
    assert "nor one that is plainly a label" in says("train")


def test_a_table_without_patients(says: Says, data: Path) -> None:
    rows = [row(number) for number in range(PATIENTS)]
    write_rows(data, [{name: cell for name, cell in row.items() if name != "patient"} for row in rows])
    assert "no column 'Patient ID'" in says("train")


@pytest.mark.parametrize(
    ("spoilt", "named"),
    [
        pytest.param(
            lambda text: text.replace(f"{WORD}^Jane,", f'{WORD}^Jane,"', 1), "not a CSV table", id="an open quote"
        ),
        pytest.param(
            lambda text: text.replace(f"{WORD}^Jane,", f"{WORD}^Jane,{WORD},", 1), "has 8 cells", id="a long row"
        ),
        pytest.param(
            lambda text: text.replace(f"{WORD}^Jane,", f"{WORD}^Jané\udcff,", 1),
            "not UTF-8",
            id="bytes that are no text",
        ),
        pytest.param(
            lambda text: text.replace(f"{WORD}^Jane,", f"{WORD}\0^Jane,", 1), "not a text file", id="a zero byte"
        ),
        pytest.param(lambda text: text.replace(f"{WORD}000003", "", 1), "is empty in column", id="no patient in a row"),
        pytest.param(lambda text: text.partition("\n")[2], "names in its first line is known", id="no header"),
        pytest.param(
            lambda text: text.replace(f"{WORD}^Jane_MRN3_", f"../{WORD}/", 1),
            "have no row",
            id="a path out of the folder",
        ),
    ],
)
def test_a_table_that_is_damaged(says: Says, data: Path, spoilt: Callable[[str], str], named: str) -> None:
    table = data / "labels.csv"
    table.write_bytes(spoilt(table.read_text()).encode("utf-8", "surrogateescape"))
    assert named in says("train")


def test_several_tables(says: Says, data: Path) -> None:
    shutil.copy(data / "labels.csv", data / "more.csv")
    assert "several label tables" in says("train")


def test_a_disk_that_fills_while_images_are_decoded(says: Says, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{WORD}^Jane.dcm")

    monkeypatch.setattr(shards, "sync", full)
    assert "No space left" in says("train")


def test_a_store_that_was_damaged_and_then_a_model_that_knows_the_patients(says: Says, data: Path, work: Path) -> None:
    says("train", code=OK)
    must_hold_no_image(work, Store.open(next((work / "home" / "stores").glob("*[0-9a-f]"))))
    assert "patients the model was trained on" in says(
        "evaluate", "--force", training=None, split={"name": "random", "seed": 5, "shares": [0.4, 0.2, 0.4]}
    )
    pixels = next((work / "home" / "stores").glob("*/pixels-00000.npy"))
    pixels.write_bytes(pixels.read_bytes()[:-1] + b"\1")
    assert "is not what was written" in says("train", "--force")
    shutil.rmtree(pixels.parent)


def must_hold_no_image(work: Path, store: Store) -> None:
    """No line of an image's pixels, as bytes or as numbers in text, is in what MLflow keeps, nor any picture."""
    kept = [file.read_bytes() for file in (work / "home" / "mlflow-artifacts").rglob("*") if file.is_file()]
    assert any(content.startswith(b"<!doctype html>") for content in kept)
    assert not any(b"data:image/png" in content or content.startswith(b"\x89PNG") for content in kept)
    lines = [line for pixels in store.pixels[:] for line in pixels[8:24:4] if len(set(line.tolist())) > 8]
    assert lines
    for line in lines:
        for form in (line.tobytes(), str(line.tolist())[1:-1].encode()):
            assert not any(form in content for content in kept)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_while_it_trains(data: Path, work: Path, stop: signal.Signals) -> None:
    """In a process of its own, with a Prefect server of its own, whose database lies in the home."""
    (work / "long.yaml").write_text(yaml.safe_dump(SETTINGS | {"training": {"epochs": 4000}}))
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"MEDMTL_HOME": str(work / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "flows.cli", "train", "--config", "long.yaml", "--data", str(data), "--force"]
    with subprocess.Popen(
        [*command, "--out", "ended"], cwd=work, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "arms planned" in line:
                process.send_signal(stop)
        ended = process.wait(60)
    assert ended == (INTERRUPTED if stop == signal.SIGTERM else -signal.SIGKILL), said
    assert (work / "home" / "prefect").is_dir()
    must_be_anonymous(said, work)
