"""Identity planted in every attribute of DICOM files, and looked for in everything that is left behind."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from data_prep.decoding.body_part import VOUCH
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.store import Store
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset

WORD, DATE, ROOT_UID = "CNRY", "17041123", "1.2.826.0.77"
CANARIES = (WORD, DATE, ROOT_UID)
SECRET = b"0123456789abcdef0123456789abcdef"
# What an image must say to be read at all; the rest of PS3.6 is planted, which holds all of PS3.15, table E.1-1.
SPARED = {
    "SpecificCharacterSet", "SOPClassUID", "Modality", "PresentationIntentType", "BodyPartExamined", "ViewPosition",
    "PhotometricInterpretation", "BurnedInAnnotation", "VOILUTFunction",
}  # fmt: skip
TEXTS = {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"}


def canary(vr: str, number: int) -> str | None:
    """A value of `vr` that nothing but this test writes."""
    if vr in TEXTS:
        return f"{WORD}{number:06d}"
    return {"PN": f"{WORD}{number:06d}^Jane", "DA": DATE, "DT": f"{DATE}101112", "UI": f"{ROOT_UID}.{number}"}.get(vr)


def plant(dataset: Dataset, number: int) -> int:
    """Write a canary into every attribute of the dictionary that can hold one; return how many."""
    planted = 0
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        value = canary(vr, number)
        if value is None or keyword in SPARED or not 0x0008 <= tag >> 16 <= 0x4010:
            continue
        dataset.add_new(tag, vr, value)
        planted += 1
    dataset.PatientID = f"{WORD}{number:06d}"
    private = dataset.private_block(0x0009, f"{WORD} PRIVATE", create=True)
    private.add_new(0x10, "LO", f"{WORD}{number:06d}")
    nested = Dataset()
    nested.PatientName, nested.PatientBirthDate, nested.CodeMeaning = f"{WORD}^Nested", DATE, f"{WORD} nested"
    dataset.OtherPatientIDsSequence = dataset.RequestAttributesSequence = [nested]
    dataset.AnatomicRegionSequence = dataset.ViewCodeSequence = dataset.ProcedureCodeSequence = [nested]
    dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT_UID}.{number}"
    dataset.file_meta.SourceApplicationEntityTitle = dataset.file_meta.SendingApplicationEntityTitle = WORD
    dataset.preamble = WORD.encode().ljust(128, b"\0")
    return planted


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of sixty patients, in files and folders named after them, with their CSV; five that are no good."""
    folder = tmp_path_factory.mktemp("pacs")
    random = np.random.default_rng(0)
    rows = ["image,patient,name,birth,Mass,Effusion,comment"]
    for number in range(60):
        coarse = random.integers(0, 4096, (5, 5)).astype(np.float32)
        stored = np.clip(cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC), 0, 4095).astype(np.uint16)
        dataset = dicom_dataset(stored, BitsStored=12, ViewPosition="LL" if number % 10 == 9 else "PA")
        assert plant(dataset, number) > 1000
        if number == 3:
            dataset.BodyPartExamined = "KNEE"
        if number == 4:
            dataset.SOPClassUID = f"{ROOT_UID}.4"
        if number == 5:
            dataset.BodyPartExamined = f"{WORD}PART"
        data = dicom_bytes(dataset)
        if number == 6:
            data = data[: len(data) // 2]
        if number == 7:
            data = f"{WORD} is no image".encode()
        name = f"{WORD}_Jane_{number}_{DATE}" + ("" if number % 3 == 1 and number != 7 else ".dcm")
        (folder / f"{WORD}_ward").mkdir(exist_ok=True)
        (folder / f"{WORD}_ward" / name).write_bytes(data)
        finding, other = random.integers(0, 2, 2)
        rows.append(f"{name},{WORD}{number:06d},{WORD}^Jane,{DATE},{finding},{other},{WORD}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def found_in(folder: Path, *texts: str) -> list[str]:
    """Every file below `folder`, archive members included, that holds or is named with a canary."""
    found = []
    for file in folder.rglob("*"):
        contents = {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b""}
        if file.is_file() and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as members:
                contents |= {f"{file.name}/{name}": members.read(name) for name in members.namelist()}
        for name, content in contents.items():
            found += [f"{name}: {text}" for text in (*CANARIES, *texts) if holds(content, text) or text in name]
    return found


def holds(content: bytes, text: str) -> bool:
    return any(text.lower().encode(code) in content.lower() for code in ("utf-8", "utf-16-le"))


def digests() -> list[str]:
    """The first patient's number, hashed without a secret: whoever can try all numbers would find it."""
    number = f"{WORD}000000".encode()
    names = ("md5", "sha1", "sha256", "blake2b")
    return [hashlib.new(name, number).hexdigest()[:32] for name in names] + [
        hashlib.blake2b(b"local\0" + number, digest_size=16).hexdigest()
    ]


def test_the_search_itself_finds_what_was_planted(hospital: Path) -> None:
    for text in CANARIES:
        assert any(line.endswith(text) for line in found_in(hospital))


def test_no_canary_gets_into_a_store_or_what_a_killed_build_leaves(hospital: Path, tmp_path: Path) -> None:
    source = FolderSource.open(hospital)
    path = tmp_path / "store"

    def look(done: int, total: int) -> None:
        if done == 40:
            assert (tmp_path / "store.partial").exists()
            assert not found_in(tmp_path, *digests())

    pool = PixelPool(tmp_path / "pool", shard_images=16)
    store = build_store(source, path, 16, key=SECRET, pool=pool, unreadable_limit=0.2, progress=look)
    assert len(store.images) == 55
    assert not found_in(tmp_path, *digests())
    assert sorted(entry.reason for entry in store.quarantine) == [
        "contains no image (Pixel Data)",
        "neither a PNG nor a JPEG file",
        f"not a radiograph: an unknown kind of object; {VOUCH}",
        f"not known to show the chest: neither Body Part Examined nor a description says so; {VOUCH}",
        "not of the chest: knee",
    ]
    assert (store.views == "LATERAL").sum() == 6
    assert store.manifest["patients_in_files"] == {"images": 55, "joined": 0}


def test_an_image_keeps_its_opaque_name_and_a_secret_changes_it(hospital: Path, tmp_path: Path) -> None:
    source = FolderSource.open(hospital)
    stores = [
        build_store(source, tmp_path / name, 16, key=key, unreadable_limit=0.2)
        for name, key in (("a", SECRET), ("b", SECRET), ("c", SECRET[::-1]))
    ]
    assert stores[0].images.tolist() == stores[1].images.tolist()
    assert not set(stores[0].images.tolist()) & set(stores[2].images.tolist())
    assert (stores[0].targets == stores[2].targets).all()


def test_patients_that_the_table_tells_apart_and_the_files_do_not_are_counted(tmp_path: Path) -> None:
    rows = ["image,patient,Mass"]
    for number in range(6):
        stored = np.random.default_rng(number).integers(0, 4096, (20, 20), dtype=np.uint16)
        dataset = dicom_dataset(stored, BitsStored=12, PatientID=f"P{number // 2}")
        (tmp_path / f"{number}.dcm").write_bytes(dicom_bytes(dataset))
        rows.append(f"{number},{0 if number < 2 else number},1")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    store = build_store(FolderSource.open(tmp_path), tmp_path / "store", 16, key=SECRET)
    assert store.manifest["patients_in_files"] == {"images": 6, "joined": 4}


TRAIN = """
data: {size: 32, unreadable_limit: 0.2}
split: {name: random, shares: [0.4, 0.2, 0.4]}
training: {epochs: 1}
"""


@pytest.mark.slow
def test_no_canary_gets_into_the_log_mlflow_prefect_or_the_report_of_a_training(hospital: Path, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(TRAIN)
    environment = {**os.environ, "MEDMTL_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "default"}
    data = tmp_path / "data"
    data.symlink_to(hospital, target_is_directory=True)
    command = [sys.executable, "-m", "flows.cli", "train", "--config", "train.yaml"]
    ended = subprocess.run(
        [*command, "--data", str(data), "--out", "out"],
        cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    data.unlink()
    assert ended.returncode == 0, ended.stderr.decode()
    (tmp_path / "log").write_bytes(ended.stdout + ended.stderr)
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "home" / "mlflow.db").is_file()
    store = Store.open(next((tmp_path / "home" / "stores").glob("*[0-9a-f]")))
    assert len(store.images) == 55
    assert not found_in(tmp_path, *digests())
