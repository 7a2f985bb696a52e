"""From archives to a store: the same store after any accident, and every member accounted for."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.table import read_labels
from data_prep.sources.archives import NO_ROW, Member
from data_prep.sources.folder import FolderSource
from data_prep.store import from_archives
from data_prep.store.archive_index import shards_prefix
from data_prep.store.archive_process import Reading
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.store import Store
from tests.data_prep.conftest import write_nih_table
from tests.data_prep.hostile_tar import hostile_members, member, write_tar
from tests.data_prep.store.test_from_source import DECODER_THAT_CRASHES, crashing

NAMES = [f"{patient:08d}_{index:03d}.png" for patient in range(1, 7) for index in range(6)]
ENTRIES = dict[str, bytes]


def pictures(side: int = 24) -> ENTRIES:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (len(NAMES), side, side), dtype=np.uint8)
    return {name: cv2.imencode(".png", picture)[1].tobytes() for name, picture in zip(NAMES, noise, strict=True)}


def described(path: Path, sum_known: bool = True) -> RemoteFile:
    digest = md5(path.read_bytes()).hexdigest() if sum_known else None
    return RemoteFile(path.name, "", path.stat().st_size, digest)


class Archives:
    """Three archives of twelve images in NIH's layout, and their table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_nih_table(folder / "table.csv", NAMES)
        self.files = [
            write_tar(
                folder / f"images_{part + 1:03d}.tar.gz",
                [member(f"images/{name}", content) for name, content in list(pictures().items())[part::3]],
            )
            for part in range(3)
        ]

    def source(self, sums_known: bool = True, files: ArchiveFiles | None = None) -> ArchiveSource:
        table = read_labels(self.folder / "table.csv")
        archives = tuple(described(file, sums_known) for file in self.files)
        local = {file.name: file for file in self.files}
        source = ArchiveSource.of(table, archives, local, files or ArchiveFiles(self.fetch))
        return replace(source, allow_missing=True)

    def fetch(self, archive: RemoteFile) -> Path:
        return self.folder / archive.name

    def build(self, path: Path, **options: object) -> Store:
        settings = {"key": b"", "pool": PixelPool(shard_images=5), **options}
        return build_from_archives(self.source(), path, 10, **settings)  # type: ignore[arg-type]


def test_more_than_one_percent_without_a_counterpart_stops_the_build_and_what_was_decoded_is_kept(
    archives: Archives, tmp_path: Path
) -> None:
    rows = (archives.folder / "table.csv").read_text().splitlines()
    (archives.folder / "table.csv").write_text("\n".join([*rows[:-2], rows[-1].replace("png", "jpeg")]) + "\n")
    strict = replace(archives.source(), allow_missing=False)
    said = r"2 of 36 images have no row in the label table \('images/.*png'\).*1 of 35 rows have no image \(row 35 "
    for _ in range(2):
        with pytest.raises(DataError, match=said + r".*limit is 1%.*--allow-missing"):
            build_from_archives(strict, tmp_path / "store", 10, key=b"", pool=PixelPool(shard_images=5))
    some = replace(strict, archives=strict.archives[:1], complete=False)
    assert len(build_from_archives(some, tmp_path / "some", 10, key=b"").images) == 12
    store = build_from_archives(archives.source(), tmp_path / "store", 10, key=b"", pool=PixelPool(shard_images=5))
    assert (store.manifest["images_without_row"], store.manifest["rows_without_image"]) == (2, 1)
    assert len(store.manifest["unmatched_images"]) == 2
    assert store.manifest["unmatched_rows"][0].startswith("row 35 ")


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    folder = tmp_path / "archives"
    folder.mkdir()
    return Archives(folder)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*")}


def test_the_store_holds_what_a_folder_of_the_same_images_gives(archives: Archives, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    for file in archives.files:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    reference = build_store(FolderSource.open(folder, archives.folder / "table.csv"), tmp_path / "folder", 10, key=b"")
    store = archives.build(tmp_path / "store")
    order = [reference.images.tolist().index(name) for name in store.images.tolist()]
    assert sorted(order) == list(range(36))
    for name in ("images", "patients", "targets", "views"):
        assert np.array_equal(getattr(store, name), getattr(reference, name)[order]), name
    assert np.array_equal(store.pixels[:], reference.pixels[np.array(order)])
    assert store.manifest["archives"][0] == {
        "name": "images_001.tar.gz", "images": 12, "members": 12, "folders": 0,
    }  # fmt: skip
    assert (store.manifest["items"], store.manifest["images_without_row"]) == (36, 0)


def test_the_store_is_the_same_byte_for_byte_whatever_the_workers(archives: Archives, tmp_path: Path) -> None:
    archives.build(tmp_path / "one")
    archives.build(tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_a_second_build_reads_no_archive(archives: Archives, tmp_path: Path) -> None:
    source, first = archives.source(), archives.build(tmp_path / "store")
    for file in archives.files:
        file.unlink()
    again = build_from_archives(source, tmp_path / "store", 10, key=b"", pool=PixelPool(shard_images=5))
    assert again.fingerprint == first.fingerprint


def test_of_hostile_archives_every_member_is_accounted_for_and_nothing_gets_out(
    archives: Archives, tmp_path: Path
) -> None:
    image = pictures()[NAMES[0]]
    write_tar(archives.files[1], hostile_members(image, NAMES[1::3]))
    before = {path for path in tmp_path.rglob("*") if archives.folder not in path.parents}
    store = archives.build(tmp_path / "store", unreadable_limit=0.1)
    record = store.manifest["archives"][1]
    in_archive = [entry for entry in store.quarantine]
    assert record["members"] == record["images"] + record["folders"] + len(in_archive) == 21
    assert record["images"] == 3
    assert in_archive[0] == (NAMES[7], "neither a PNG nor a JPEG file")
    assert store.manifest["items"] - len(store.images) == 1
    assert store.manifest["images_without_row"] == sum(reason == NO_ROW for _, reason in in_archive) == 3
    new = {path for path in tmp_path.rglob("*") if archives.folder not in path.parents} - before
    assert all(path == store.path or store.path in path.parents or path.name == "store.lock" for path in new)


def test_an_image_of_two_archives_counts_where_it_comes_first(archives: Archives, tmp_path: Path) -> None:
    images = pictures()
    repeated = [NAMES[0], NAMES[3], NAMES[2]]  # the first two are in part 1, the third is part 3's own
    write_tar(archives.files[2], [member(f"images/{name}", images[name]) for name in repeated])
    store = archives.build(tmp_path / "store", workers=3)
    assert store.images.tolist() == [*NAMES[0::3], *NAMES[1::3], NAMES[2]]
    assert [entry for entry in store.quarantine] == [
        (NAMES[0], "it is in images_001.tar.gz already"), (NAMES[3], "it is in images_001.tar.gz already"),
    ]  # fmt: skip
    assert store.manifest["items"] == 25


def test_too_many_unreadable_images_stop_the_build_but_other_members_do_not_count(
    archives: Archives, tmp_path: Path
) -> None:
    strangers = [member(f"images/9999{index:04d}_000.png", b"") for index in range(20)]
    write_tar(archives.files[0], [*strangers, *[member(name, pictures()[name]) for name in NAMES[0::3]]])
    assert len(archives.build(tmp_path / "strangers").images) == 36
    write_tar(archives.files[0], [member(name, b"") for name in NAMES[0:6:3]])
    with pytest.raises(DataError, match=r"2 of 26 images cannot be read, the limit is 5% \(00000001_000.png: empty"):
        archives.build(tmp_path / "bad")


@pytest.mark.parametrize("damage", ["other bytes", "cut", "no archive"])
def test_a_damaged_archive_is_named_after_the_others_are_done(archives: Archives, tmp_path: Path, damage: str) -> None:
    source = archives.source()
    whole = archives.files[0].read_bytes()
    if damage == "other bytes":  # a good archive, but not the published one
        write_tar(archives.files[0], [member(NAMES[0], pictures()[NAMES[0]])])
    else:
        archives.files[0].write_bytes(whole[:-20] if damage == "cut" else b"<html>")
    calls = []
    build = {"key": b"", "pool": PixelPool(shard_images=5), "progress": lambda done, total: calls.append((done, total))}
    with pytest.raises(
        DataError, match=r"images_001.tar.gz: (MD5 sum|damaged).*fetch it again.*what was decoded is kept"
    ):
        build_from_archives(source, tmp_path / "store", 10, **build)  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()
    archives.files[0].write_bytes(whole)
    for file in archives.files[1:]:
        file.unlink()  # they are done, and not read again
    mended = build_from_archives(source, tmp_path / "store", 10, **build)  # type: ignore[arg-type]
    assert len(mended.images) == 36
    total = sum(archive.bytes or 0 for archive in source.archives)
    assert calls[-1] == (total, total)


def test_an_archive_without_a_sum_must_be_at_hand(archives: Archives, tmp_path: Path) -> None:
    source = archives.source(sums_known=False)
    store = build_from_archives(source, tmp_path / "store", 10, key=b"")
    assert len(store.images) == 36
    with pytest.raises(DataError, match="gives no MD5 sum, so the file must be in the folder given with --from"):
        ArchiveSource.of(source.table, (replace(source.archives[0], md5=None),), {}, source.files)


def test_archives_are_discarded_once_their_shards_were_checked(archives: Archives, tmp_path: Path) -> None:
    path = tmp_path / "store"
    seen: list[tuple[str, bool]] = []

    def discard(archive: RemoteFile) -> None:
        prefix = shards_prefix(archive.name, archive.md5 or "")
        done = sorted((tmp_path / "store.partial" / "records").glob(f"*/{prefix}*.npy"))
        seen.append((archive.name, sum(len(np.load(file)) for file in done) == 12))
        (archives.folder / archive.name).unlink()

    source = archives.source(files=ArchiveFiles(archives.fetch, discard))
    build_from_archives(source, path, 10, key=b"", pool=PixelPool(shard_images=5))
    assert sorted(seen) == [(file.name, True) for file in archives.files]


def test_while_one_archive_is_fetched_another_is_decoded(archives: Archives, tmp_path: Path) -> None:
    done = threading.Event()

    def fetch(archive: RemoteFile) -> Path:
        if archive.name == "images_001.tar.gz":
            assert done.wait(30)
        return archives.fetch(archive)

    def discard(archive: RemoteFile) -> None:
        if archive.name == "images_002.tar.gz":
            done.set()

    build_from_archives(archives.source(files=ArchiveFiles(fetch, discard)), tmp_path / "store", 10, key=b"")
    assert done.is_set()


def test_a_crash_of_the_decoder_costs_one_image(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures()
    for name in (NAMES[1], NAMES[19]):
        images[name] = crashing(images[name])
    write_tar(archives.files[1], [member(f"images/{name}", images[name]) for name in NAMES[1::3]])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DECODER_THAT_CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    pool = PixelPool(shard_images=5)
    store = archives.build(tmp_path / "store", unreadable_limit=0.1, pool=pool)
    crashed = "the decoder crashed (SIGSEGV)"
    assert [tuple(entry) for entry in store.quarantine] == [(NAMES[1], crashed), (NAMES[19], crashed)]
    assert len(store.images) == 34
    assert pool.decoded == 36, "nothing was decoded twice"


def test_a_process_that_falls_silent_is_ended(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    stalling = DECODER_THAT_CRASHES.replace("os.kill(os.getpid(), signal.SIGSEGV)", "__import__('time').sleep(60)")
    (tmp_path / "site" / "sitecustomize.py").write_text(stalling)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr(from_archives, "_SILENCE_SECONDS", 3)
    runs: list[set[str]] = []
    run = from_archives._Builder._run_process

    def watch(self: from_archives._Builder, part: int, archive: RemoteFile, file: Path, suspects: set[str]) -> object:
        runs.append(set(suspects))
        return (
            Reading([Member(NAMES[0], "no such content")], {}) if suspects else run(self, part, archive, file, suspects)
        )

    monkeypatch.setattr(from_archives._Builder, "_run_process", watch)
    image = pictures()[NAMES[0]]
    write_tar(archives.files[0], [member(f"images/{NAMES[0]}", crashing(image))])
    with pytest.raises(DataError, match=r"images_001.tar.gz: its shards are not what was written"):
        archives.build(tmp_path / "store")
    assert {NAMES[0]} in runs


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.labels.table import read_labels
from data_prep.fetch.remote_file import RemoteFile
from data_prep.store.pool import PixelPool
from hashlib import md5

def main():
    folder, size, shard = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    files = tuple(RemoteFile(file.name, "", file.stat().st_size, md5(file.read_bytes()).hexdigest())
                  for file in sorted(folder.glob("*.tar.gz")))
    access = ArchiveFiles(lambda archive: folder / archive.name)
    source = replace(ArchiveSource.of(read_labels(next(folder.glob("*.csv*"))), files, {}, access), complete=False)
    print("ready", flush=True)
    build_from_archives(source, Path(sys.argv[2]), size, key=b"", workers=2, pool=PixelPool(shard_images=shard))

if __name__ == "__main__":
    main()
"""


def build_and_kill(
    script: Path, folder: Path, path: Path, size: int, shard: int, after: float | None
) -> tuple[bool, float]:
    """Run a build, and kill it `after` seconds of building; whether it had not ended by then, and its seconds."""
    command = [sys.executable, script, folder, path, str(size), str(shard)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    begun = time.monotonic()
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0, time.monotonic() - begun


def kill_at_random(tmp_path: Path, folder: Path, size: int, shard: int, times: int) -> None:
    script = tmp_path / "build.py"
    script.write_text(KILLED)
    whole = tmp_path / "whole"
    _, seconds = build_and_kill(script, folder, whole, size, shard, None)
    expected = content(whole)
    rng = random.Random(0)
    kills = 0
    while kills < times:
        path = tmp_path / "store"
        while not path.exists():
            after = rng.uniform(0, seconds) if kills < times else None
            kills += build_and_kill(script, folder, path, size, shard, after)[0]
        build_and_kill(script, folder, path, size, shard, None)  # what a kill left after the rename is tidied
        assert content(path) == expected
        assert {left.name for left in tmp_path.iterdir() if left.name.startswith("store")} <= {"store", "store.lock"}
        shutil.rmtree(path)
    print(f"{kills} kills of builds of {seconds:.1f} s; every store the same")


def test_a_build_killed_anywhere_ends_in_the_same_store(archives: Archives, tmp_path: Path) -> None:
    kill_at_random(tmp_path, archives.folder, 10, 2, times=4)


@pytest.mark.long
def test_thirty_kills_of_an_ingest_of_real_archives_end_in_the_same_store(shared_data: Path, tmp_path: Path) -> None:
    nih = shared_data / "nih"
    folder = tmp_path / "archives"
    folder.mkdir()
    images = sorted((nih / "images_1024").glob("*.png"))
    for part in range(4):
        write_tar(
            folder / f"images_{part + 1:03d}.tar.gz",
            [member(f"images/{image.name}", image.read_bytes()) for image in images[part::4]],
        )
    shutil.copy(nih / "Data_Entry_2017_v2020.csv.gz", folder)
    kill_at_random(tmp_path, folder, 256, 10, times=30)
