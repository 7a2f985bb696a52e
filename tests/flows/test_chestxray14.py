"""The whole road on real files: archives in NIH's layout, a store, a report, a trained and registered model."""

import csv
import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import mlflow
import pytest

from flows.cli import OK, exit_code

pytestmark = pytest.mark.slow

PARTS = 4


@pytest.fixture
def archives(shared_data: Path, tmp_path: Path) -> Path:
    """The originals in four archives, with the label table and a manifest of all of it."""
    folder = tmp_path / "nih"
    folder.mkdir()
    images = sorted((shared_data / "nih" / "images_1024").rglob("*.png"))
    for part in range(PARTS):
        with tarfile.open(folder / f"images_{part + 1:02d}.tar.gz", "w:gz", compresslevel=1) as archive:
            for image in images[part::PARTS]:
                archive.add(image, f"images/{image.name}")
    table = (shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz").read_bytes()
    (folder / "Data_Entry_2017_v2020.csv").write_bytes(gzip.decompress(table))
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "url", "bytes", "md5"])
        for path in sorted(folder.glob("*.tar.gz")):
            data = path.read_bytes()
            rows.writerow([path.name.replace("_0", "_00"), "", len(data), hashlib.md5(data).hexdigest()])
        rows.writerow(["Data_Entry_2017_v2020.csv", "", "", ""])
    return folder


def test_from_archives_to_a_registered_model(
    medmtl_home: Path, archives: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "chestxray14", "--from", str(archives), "--manifest", str(archives / "manifest.csv")]
    data.append("--allow-missing")  # the table has the rows of all images of NIH
    assert exit_code(["ingest", *data, "--size", "64", "--out", "ingested"]) == OK
    ingested = json.loads(Path("ingested/results.json").read_text())
    assert ingested["data"]["images"] == 216
    assert {check["result"] for check in ingested["data"]["checks"]} == {"ok"}
    assert Path("ingested/report.html").read_text().startswith("<!doctype html>")

    assert exit_code(["train", *data, "--size", "64", "--epochs", "2", "--out", "trained"]) == OK
    assert "reused, nothing decoded" in capfd.readouterr().err
    trained = json.loads(Path("trained/results.json").read_text())
    assert trained["data"]["fingerprint"] == ingested["data"]["fingerprint"]
    assert sum(trained["data"]["n"].values()) == 216
    assert [arm["status"] for arm in trained["arms"]] == ["finished"]
    assert mlflow.pyfunc.load_model("models:/medmtl/1") is not None

    edited = archives / "edited.csv"
    table = archives / "Data_Entry_2017_v2020.csv"
    edited.write_text(table.read_text().replace("Mass", "Nodule"))
    for archive in archives.glob("*.gz"):
        archive.unlink()
    capfd.readouterr()
    assert exit_code(["ingest", *data, "--size", "64", "--labels", str(edited), "--out", "edited"]) == OK
    assert "0 new images decoded, 216 reused" in capfd.readouterr().err
