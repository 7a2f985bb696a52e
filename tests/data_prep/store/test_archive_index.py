"""Archives share pixels through the pool: what another table names is decoded once, and read again only if it must."""

import io
import os
import random
import shutil
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.table import read_labels
from data_prep.sources.folder import FolderSource
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool, remove_unused
from data_prep.store.store import Store
from tests.data_prep.conftest import NIH_HEADER, write_nih_table
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset
from tests.data_prep.hostile_tar import member, write_tar
from tests.data_prep.store.test_from_archives import NAMES, described, pictures
from tests.data_prep.store.test_from_source import DECODER_THAT_CRASHES, crashing
from tests.data_prep.store.test_pool import assert_same_content, flip

SECRET, SIZE = b"0123456789abcdef", 8
TABLE = {name: row % 2 for row, name in enumerate(NAMES)}


@dataclass
class Hospital:
    """Three archives, the tables of their images, and a pool.

    Attributes:
        public: the patients are numbered as in ChestX-ray14.
        fetched: names of the archives that were read since the last build.
        expected: names of those that were announced.
        pool: of the last build.
    """

    folder: Path
    public: bool = True
    files: dict[str, Path] = field(default_factory=dict)
    fetched: set[str] = field(default_factory=set)
    expected: set[str] = field(default_factory=set)
    pool: PixelPool = field(default_factory=PixelPool)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for part in range(3):
            members = [member(f"images/{name}", content) for name, content in list(pictures().items())[part::3]]
            self.write(f"images_{part + 1:03d}.tar.gz", members)

    def write(self, name: str, members: list[object]) -> None:
        self.files[name] = write_tar(self.folder / name, members)  # type: ignore[arg-type]

    def source(self, table: dict[str, int]) -> ArchiveSource:
        if self.public:
            rows = [f"{name},{'Mass' if label else 'No Finding'},0,{int(name[:8])},50,F,PA,9,9,1,1"
                    for name, label in table.items()]  # fmt: skip
            text = "\n".join([NIH_HEADER, *rows])
        else:
            text = "\n".join(["image,patient,Mass", *(f"{name},p{name[:8]},{label}" for name, label in table.items())])
        (self.folder / "table.csv").write_text(text + "\n")
        archives = tuple(described(file) for file in self.files.values())
        access = ArchiveFiles(self.fetch, expect=lambda archives: self.expected.update(each.name for each in archives))
        source = ArchiveSource.of(read_labels(self.folder / "table.csv"), archives, {}, access)
        return replace(source, allow_missing=True)

    def fetch(self, archive: RemoteFile) -> Path:
        self.fetched.add(archive.name)
        return self.files[archive.name]

    def build(self, path: Path, table: dict[str, int], pool: Path | None) -> Store:
        self.fetched, self.expected = set(), set()
        self.pool = PixelPool(pool, shard_images=5)
        options = {"key": SECRET, "unreadable_limit": 0.5, "pool": self.pool}
        return build_from_archives(self.source(table), path, SIZE, **options)  # type: ignore[arg-type]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "hospital")


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_any_other_table_gives_the_store_of_a_first_build_and_decodes_nothing_twice(
    tmp_path: Path, public: bool
) -> None:
    rng, hospital = random.Random(0), Hospital(tmp_path / "hospital", public)
    contents = pictures() | {NAMES[4]: pictures()[NAMES[1]], NAMES[7]: b"no picture"}
    hospital.write("images_002.tar.gz", [member(f"x/{name}", contents[name]) for name in NAMES[1::3]])
    table: dict[str, int] = {}
    seen = set[bytes]()
    for step in range(5):
        for name in rng.sample(NAMES, 20):  # another label, a row more or a row less
            table[name] = 1 - table.get(name, 0)
            if rng.random() < 0.3:
                del table[name]
        store = hospital.build(tmp_path / f"store {step}", table, tmp_path / "pool")
        new = {contents[name] for name in table} - seen
        assert (hospital.pool.decoded, hospital.pool.reused) == (len(new), store.manifest["items"] - len(new))
        seen |= new
        whole = hospital.build(tmp_path / f"whole {step}", table, None)
        assert_same_content(store, whole)
        assert store.manifest["archives"] == whole.manifest["archives"]
    assert len(seen) > 30


def test_an_edited_or_shorter_table_reads_no_archive_and_shares_every_shard(hospital: Hospital, tmp_path: Path) -> None:
    first = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
    assert hospital.fetched == hospital.expected == set(hospital.files)
    tables = {"edited": {name: 1 - label for name, label in TABLE.items()}, "shorter": dict(list(TABLE.items())[3:])}
    wholes = {name: hospital.build(tmp_path / f"whole {name}", table, None) for name, table in tables.items()}
    sources = {name: hospital.source(table) for name, table in tables.items()}
    hospital.fetched, hospital.expected = set(), set()
    for file in hospital.files.values():
        file.unlink()
    for name, source in sources.items():
        pool = PixelPool(tmp_path / "pool", shard_images=5)
        store = build_from_archives(source, tmp_path / name, SIZE, key=SECRET, pool=pool)
        assert_same_content(store, wholes[name])
        assert (pool.decoded, pool.reused) == (0, len(tables[name]))
        assert {file.stat().st_ino for file in store.path.glob("pixels*")} <= {
            file.stat().st_ino for file in first.path.glob("pixels*")
        }
    assert not hospital.fetched | hospital.expected


def test_a_longer_table_reads_only_the_archives_that_hold_the_new_rows(hospital: Hospital, tmp_path: Path) -> None:
    hospital.build(tmp_path / "first", dict(list(TABLE.items())[6:]), tmp_path / "pool")
    longer = dict(list(TABLE.items())[5:])  # the sixth image is in the third archive
    store = hospital.build(tmp_path / "second", longer, tmp_path / "pool")
    assert (hospital.pool.decoded, hospital.pool.reused) == (1, 30)
    assert hospital.fetched == hospital.expected == {"images_003.tar.gz"}
    assert_same_content(store, hospital.build(tmp_path / "whole", longer, None))


def test_a_new_store_needs_no_table_of_rows_so_that_older_versions_read_it(hospital: Hospital, tmp_path: Path) -> None:
    first = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
    edited = hospital.build(tmp_path / "second", {**TABLE, NAMES[0]: 1}, tmp_path / "pool")
    assert [store.manifest["schema"] for store in (first, edited)] == ["medmtl/store/1"] * 2


@pytest.mark.parametrize("stranger", ["images/SECRET^NAME.dcm", "SECRET NAME/notes.txt", "SECRET NAME"])
def test_the_pool_names_no_file_of_private_images_nor_of_an_archive_with_other_files(
    tmp_path: Path, stranger: str
) -> None:
    content = dicom_bytes(dicom_dataset(np.zeros((20, 20), np.uint16), BitsStored=12, PatientID="SECRET"))
    for public in (True, False):
        hospital = Hospital(tmp_path / f"public {public}", public)
        hospital.write(
            "images_001.tar.gz", [member(stranger, content), member(f"SECRET/{NAMES[0]}", pictures()[NAMES[0]])]
        )
        pool = tmp_path / f"pool {public}"
        hospital.build(tmp_path / f"first {public}", TABLE, pool)
        files = {file.relative_to(pool).as_posix(): file.read_bytes() for file in pool.rglob("*") if file.is_file()}
        assert not [name for name, found in files.items() if b"SECRET" in found or "SECRET" in name]
        assert any(NAMES[1].encode() in found for found in files.values()) == public
        hospital.build(tmp_path / f"second {public}", {**TABLE, NAMES[0]: 1}, pool)
        assert hospital.fetched == ({"images_001.tar.gz"} if public else set(hospital.files))
        assert hospital.pool.decoded == 0


def test_archives_without_a_sum_that_have_one_size_and_time_are_told_apart(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 20), dtype=np.uint8)
    names, archives = [NAMES[0], NAMES[6]], list[RemoteFile]()
    for name, each in zip(names, pixels, strict=True):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            content = cv2.imencode(".png", each)[1].tobytes()
            info, _ = member(name, content)
            archive.addfile(info, io.BytesIO(content))
        os.utime(tmp_path / f"{name}.tar", (1e9, 1e9))
        archives.append(RemoteFile(f"{name}.tar", "", None, None))
    local = {each.name: tmp_path / each.name for each in archives}
    assert len({path.stat().st_size for path in local.values()}) == 1
    for labels in ("Mass", "Hernia"):
        write_nih_table(tmp_path / "table.csv", names)
        table = (tmp_path / "table.csv").read_text().replace("Mass", labels)
        (tmp_path / "table.csv").write_text(table)
        source = ArchiveSource.of(
            read_labels(tmp_path / "table.csv"), tuple(archives), local, ArchiveFiles(lambda each: local[each.name])
        )
        pool = PixelPool(tmp_path / "pool")
        store = build_from_archives(source, tmp_path / labels, 20, key=SECRET, pool=pool)
        assert store.images.tolist() == names
        assert (store.pixels[:] == pixels).all()


def test_a_folder_of_the_same_images_and_the_archives_share_pixels(hospital: Hospital, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for name, content in list(pictures().items())[:20]:
        (unpacked / name).write_bytes(content)
    hospital.source(dict(list(TABLE.items())[:20]))
    shutil.copy(hospital.folder / "table.csv", unpacked)
    build_store(FolderSource.open(unpacked), tmp_path / "folder", SIZE, key=SECRET, pool=PixelPool(tmp_path / "pool"))
    store = hospital.build(tmp_path / "store", TABLE, tmp_path / "pool")
    assert (hospital.pool.decoded, hospital.pool.reused) == (16, 20)
    assert_same_content(store, hospital.build(tmp_path / "whole", TABLE, None))


@pytest.mark.parametrize("damaged", ["*00001.npy", "*00001.json", "*-index.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_what_is_damaged_in_the_pool_is_read_and_decoded_again(
    hospital: Hospital, tmp_path: Path, damaged: str, damage: object
) -> None:
    first = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
    shutil.rmtree(first.path)
    damage(sorted(tmp_path.glob(f"pool/*/{damaged}"))[0])  # type: ignore[operator]
    store = hospital.build(tmp_path / "second", {**TABLE, NAMES[0]: 1}, tmp_path / "pool")
    assert hospital.pool.decoded == (0 if "index" in damaged else 5)
    assert len(hospital.fetched) == 1
    assert_same_content(store, hospital.build(tmp_path / "whole", {**TABLE, NAMES[0]: 1}, None))
    hospital.build(tmp_path / "third", TABLE, tmp_path / "pool")
    assert not hospital.fetched


def test_an_image_whose_decoding_was_stopped_is_tried_again(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = crashing(pictures()[NAMES[1]])
    hospital.write("images_002.tar.gz", [member(f"images/{NAMES[1]}", image)])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DECODER_THAT_CRASHES)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "site"))
        patch.syspath_prepend(tmp_path / "site")
        first = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
        assert [entry.image for entry in first.quarantine] == [NAMES[1]]
    second = hospital.build(tmp_path / "second", {**TABLE, NAMES[0]: 1}, tmp_path / "pool")
    assert not second.quarantine
    assert hospital.fetched == {"images_002.tar.gz"}
    assert hospital.pool.decoded == 1


def test_pixels_that_no_store_uses_go_with_the_index_of_their_archive(hospital: Hospital, tmp_path: Path) -> None:
    first = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
    assert remove_unused(tmp_path / "pool", print) == []
    assert len(list(tmp_path.glob("pool/*/*-index.json"))) == 3
    shutil.rmtree(first.path)
    assert len(remove_unused(tmp_path / "pool", print)) == 9
    left = {file.name for file in tmp_path.glob("pool/*/*")}
    assert left == {"lock"}
    again = hospital.build(tmp_path / "first", TABLE, tmp_path / "pool")
    assert (hospital.pool.decoded, again.fingerprint) == (36, first.fingerprint)


@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_a_build_that_failed_goes_on_with_the_archives_that_are_not_done(tmp_path: Path, public: bool) -> None:
    hospital = Hospital(tmp_path / "hospital", public)
    source, file = hospital.source(TABLE), hospital.files["images_001.tar.gz"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    pool = PixelPool(tmp_path / "pool", shard_images=5)
    with pytest.raises(DataError, match="damaged"):
        build_from_archives(source, tmp_path / "store", SIZE, key=SECRET, pool=pool)
    file.write_bytes(whole)
    hospital.fetched = set()
    build_from_archives(source, tmp_path / "store", SIZE, key=SECRET, pool=pool)
    assert hospital.fetched == {"images_001.tar.gz"}
    assert not list(tmp_path.glob("store*/**/*-index.json"))
    assert len(list(tmp_path.glob("pool/*/*-index.json"))) == (3 if public else 0)
