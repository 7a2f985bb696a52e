"""From a manifest to a store: downloaded or at hand, in part, and let go."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.store.pool import PixelPool
from data_prep.store.store import Store
from tasks.data.archives import ArchiveSettings, prepare_archive_store
from tasks.data.label_settings import LabelSettings
from tasks.runtime.home import home
from tests.data_prep.conftest import write_nih_table
from tests.data_prep.faulty_server import Fault, serving
from tests.data_prep.hostile_tar import member, write_tar
from tests.data_prep.store.test_from_archives import NAMES, described, pictures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two archives and their table."""
    folder = tmp_path / "data"
    folder.mkdir()
    for part in range(2):
        members = [member(f"images/{name}", content) for name, content in list(pictures().items())[part::2]]
        write_tar(folder / f"images_{part + 1:02d}.tar.gz", members)
    write_nih_table(folder / "table.csv", NAMES)
    return folder


def write_manifest(path: Path, data: Path, url: str = "") -> Path:
    rows = ["name,url,bytes,md5"]
    for part in (1, 2):
        archive = described(data / f"images_{part:02d}.tar.gz")
        rows.append(f"images_{part:03d}.tar.gz,{url},{archive.bytes},{archive.md5}")
    path.write_text("\n".join([*rows, f"table.csv,{url},,"]))
    return path


def prepare(
    settings: ArchiveSettings, labels: Path | None = None, size: int = 8, allow_missing: bool = False
) -> tuple[Store, bool]:
    pool = PixelPool(home().pixels)
    return prepare_archive_store(
        settings, LabelSettings(table=labels), size, 0.05, pool, chest=False, allow_missing=allow_missing
    )


def test_archives_at_hand_are_taken_in_whole_or_in_part(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.csv", data)
    store, reused = prepare(ArchiveSettings(folder=data, manifest=manifest))
    assert (len(store.images), reused) == (36, False)
    assert prepare(ArchiveSettings(folder=data, manifest=manifest))[1]
    part, _ = prepare(ArchiveSettings(folder=data, manifest=manifest, parts="2"))  # type: ignore[arg-type]
    assert part.images.tolist() == NAMES[1::2]
    assert not (home().root / "downloads").exists() or not list((home().root / "downloads").rglob("*.gz"))


def test_what_is_not_at_hand_is_named_with_the_remedy(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.csv", data)
    (data / "images_02.tar.gz").unlink()
    with pytest.raises(DataError, match=r"images_002.tar.gz is not in .*name the parts that are there with --parts"):
        prepare(ArchiveSettings(folder=data, manifest=manifest))


def test_archives_are_downloaded_decoded_and_let_go(data: Path, tmp_path: Path) -> None:
    """Through a server that breaks off now and then; the same store as from the folder."""
    with serving((data / "images_01.tar.gz").read_bytes()) as one, serving((data / "table.csv").read_bytes()) as table:
        manifest = tmp_path / "manifest.csv"
        first = described(data / "images_01.tar.gz")
        manifest.write_text(
            f"name,url,bytes,md5\nimages_001.tar.gz,{one.url},{first.bytes},{first.md5}\ntable.csv,{table.url},,\n"
        )
        one.faults.extend(Fault(cut=2000) for _ in range(2))
        settings = ArchiveSettings(manifest=manifest, discard=True, download={"first_wait": 0})  # type: ignore[arg-type]
        fetched, _ = prepare(settings, allow_missing=True)
        assert [file.name for file in (home().root / "downloads").rglob("*.tar.gz")] == []
        asked = len(one.ranges)
        again, reused = prepare(ArchiveSettings(manifest=manifest, discard=True), allow_missing=True)
        assert reused
        assert len(one.ranges) == asked == 3
        edited = tmp_path / "edited.csv"
        edited.write_text((data / "table.csv").read_text().replace("Hernia", "Nodule"))
        other, reused = prepare(ArchiveSettings(manifest=manifest, discard=True), edited, allow_missing=True)
        assert not reused
        assert "Nodule" in other.labels
        assert len(one.ranges) == asked, "another table decodes nothing, so that nothing is downloaded"
    shutil.rmtree(fetched.path)
    at_hand, _ = prepare(ArchiveSettings(folder=data, manifest=manifest), allow_missing=True)
    assert at_hand.path == fetched.path
    assert at_hand.fingerprint == again.fingerprint


def test_the_real_originals_go_the_whole_road(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "nih" / "images_1024").glob("*.png"))[:12]
    write_tar(tmp_path / "images_1.tar.gz", [member(f"images/{file.name}", file.read_bytes()) for file in files])
    archive = described(tmp_path / "images_1.tar.gz")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"name,url,bytes,md5\nimages_01.tar.gz,,{archive.bytes},{archive.md5}\n")
    table = shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz"
    store, _ = prepare(ArchiveSettings(folder=tmp_path, manifest=manifest), table, 256, allow_missing=True)
    assert store.population == "chestxray14"
    for row, file in enumerate(files):
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2GRAY)
        expected = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
        assert np.abs(store.pixels[row].astype(int) - expected).max() <= 1
