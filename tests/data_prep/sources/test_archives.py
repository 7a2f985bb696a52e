"""Reading archives as a stream: what tarfile reads, and nothing of what it should not."""

import hashlib
import io
import itertools
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.sources import archives
from data_prep.sources.archives import NO_ROW, ArchiveItem, ImageSelection, Member, ReadProgress, open_archive
from tests.data_prep.hostile_tar import BOMB, gzipped, hostile_members, member, tar_header, write_tar

NAMES = [f"0000000{patient}_000.png" for patient in range(1, 9)]


def read(path: Path, md5: bool = False) -> tuple[list[Member], ReadProgress]:
    read_progress = ReadProgress()
    with open_archive(path, read_progress, md5) as members:
        return list(members), read_progress


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=30)
PATHS = st.lists(TEXTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=9).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(PATHS, st.binary(max_size=2000), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_is_read_is_what_tarfile_reads(tmp_path: Path, files: dict[str, bytes], form: int) -> None:
    path = write_tar(tmp_path / "some.tar.gz", [member(name, content) for name, content in files.items()], form)
    with tarfile.open(path) as reference:
        expected = [reference.extractfile(info).read() for info in reference]  # type: ignore[union-attr]
    found, read_progress = read(path, md5=True)
    assert [data for _, data, reason in found if not reason] == [
        content for name, content in zip(files, expected, strict=True) if name[1:2] != ":"
    ]
    assert [name for name, _, _ in found] == list(files)
    assert read_progress.members == len(files)
    assert read_progress.position == path.stat().st_size
    assert read_progress.md5 == hashlib.md5(path.read_bytes()).hexdigest()


def test_of_a_hostile_archive_every_member_is_accounted_for(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "images_1.tar.gz", hostile_members(b"picture", NAMES))
    assert 100 * path.stat().st_size < BOMB
    read_progress = ReadProgress()
    with open_archive(path, read_progress) as members:
        picked = list(ImageSelection(NAMES).select(members))
    good = [found for found in picked if found.data is not None]
    assert good == [
        ArchiveItem(NAMES[0], b"picture"), ArchiveItem(NAMES[1], b"picture"), ArchiveItem(NAMES[2], b"no picture"),
        ArchiveItem(NAMES[3], b"picture"),
    ]  # fmt: skip
    assert [found.reason for found in picked if found.data is None] == [
        "a path that leads outside its folder", "a path that leads outside its folder",
        "an absolute path", "an absolute path",
        "a symbolic link", "a hard link", "a character device", "a block device", "a pipe",
        f"{NAMES[0]} was already read from this archive", f"{NAMES[0]} was already read from this archive", NO_ROW,
        f"not an image ({', '.join(archives.IMAGE_SUFFIXES)})", NO_ROW, NO_ROW,
        f"a member of {BOMB} bytes; the limit is {archives.MAX_BYTES}",
    ]  # fmt: skip
    assert (read_progress.members, read_progress.folders) == (len(picked) + 1, 1)
    assert all(found.image.isprintable() and len(found.image) <= 200 for found in picked)
    assert [file.name for file in tmp_path.iterdir()] == ["images_1.tar.gz"]


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar.gz", [member(name, name.encode() * 50) for name in NAMES]).read_bytes()
    for length in range(0, len(whole), 7):
        path = tmp_path / "cut.tar.gz"
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut.tar.gz: damaged archive: .*; fetch it again"):
            read(path)


def test_an_archive_with_a_flipped_bit_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    original = [member(name, name.encode() * 50) for name in NAMES]
    whole = write_tar(tmp_path / "whole.tar.gz", original).read_bytes()
    expected = [content for _, content in original]
    refused = 0
    for position, bit in itertools.product(range(0, len(whole), 3), (0, 5)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        path = tmp_path / "flipped.tar.gz"
        path.write_bytes(flipped)
        try:
            assert [data for _, data, _ in read(path)[0]] == expected
        except DataError:
            refused += 1
    assert refused > len(whole) / 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no tar at all" * 100, "the checksum of a header is wrong|an invalid number in a header"),
        (tar_header(b"a.png", b"77777777777\0"), "ends in the middle of a member"),
        (tar_header(b"a.png", b"\xff" * 12), "a negative size"),
        (tar_header(b"a.png", b"12345679\0"), "an invalid number in a header"),
        (tar_header(b"a", b"00040000000\0", b"x"), "a header of 8388608 bytes"),
        (tar_header(b"a", b"77777777777\0", b"L"), "a header of 8589934591 bytes"),
        (tar_header(b"a", b"00000000010\0", b"x") + b"99 a=b\n".ljust(512, b"\0"), "an invalid extended header"),
        (tar_header(b"a", b"16\0", b"x") + b"14 size=minus\n".ljust(512, b"\0") + tar_header(b"a", b"0"), "a size of"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = gzipped(tmp_path / "liar.tar.gz", content)
    with pytest.raises(DataError, match=reason):
        read(path)


def test_ten_thousand_nested_headers_are_no_problem(tmp_path: Path) -> None:
    nested = (tar_header(b"long", b"00000000002\0", b"L") + b"b\0".ljust(512, b"\0")) * 10_000
    path = gzipped(tmp_path / "deep.tar.gz", nested + tar_header(b"a.png", b"0\0") + bytes(1024))
    assert read(path)[0] == [Member("b", b"")]


def test_an_archive_that_expands_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_EXPANSION_BYTES", 2**20)
    path = write_tar(tmp_path / "bomb.tar.gz", [member("images/bomb.png", bytes(2**26))])
    with pytest.raises(DataError, match="decompresses to far more than images do"):
        read(path)


def test_a_sparse_file_is_not_expanded(tmp_path: Path) -> None:
    gnu = tar_header(b"old.png", b"0\0", b"S")
    records = b"".join(f"{len(r) + 4} {r}\n".encode() for r in ("GNU.sparse.size=9999999999", "GNU.sparse.major=1"))
    pax = tar_header(b"pax", f"{len(records):o}\0".encode(), b"x") + records.ljust(512, b"\0")
    path = gzipped(tmp_path / "sparse.tar.gz", gnu + pax + tar_header(b"new.png", b"0\0") + bytes(1024))
    assert [(found.path, found.reason) for found in read(path)[0]] == [
        ("old.png", "a sparse file"), ("new.png", "a sparse file")
    ]  # fmt: skip


def test_several_gzip_members_are_one_archive(tmp_path: Path) -> None:
    """As pigz and simple concatenation make them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info, content = member("a.png", b"abc" * 1000)
        tar.addfile(info, io.BytesIO(content))
    whole = stream.getvalue()
    first, second = (gzipped(tmp_path / name, part) for name, part in (("1", whole[:700]), ("2", whole[700:])))
    path = tmp_path / "both.tar.gz"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert read(path)[0] == [Member("a.png", b"abc" * 1000)]


@given(
    st.lists(st.sampled_from(["Ü.png", "a/x.png", "b/x.png", "Doe^Jane", "z.PNG", "w.jpg"]), min_size=1, unique=True),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["", "images/", "./data/set/"]),
)
def test_members_match_rows_as_files_do(rows: list[str], form: str, folder: str) -> None:
    paths = [unicodedata.normalize(form, folder + row.replace(".PNG", ".png")) for row in rows]
    paths = [path if "." in path[-4:] else path + ".dcm" for path in paths]
    picked = ImageSelection(rows).select([Member(path, path.encode()) for path in paths])
    assert [(found.image, found.data) for found in picked] == [
        (row, path.encode()) for row, path in zip(rows, paths, strict=True)
    ]


def test_a_member_that_may_be_two_rows_is_left_out_and_dicom_files_are_not_named() -> None:
    members = [Member("x.png", b"1"), Member("Doe^Jane.dcm", b"2"), Member("notes of Doe.txt", b"3"), Member("y", None)]
    picked = list(ImageSelection(["a/x.png", "b/x.png", "w.jpg"]).select([*members, Member("w.png", b"4")]))
    assert picked == [
        ArchiveItem("x.png", None, "several rows in the label table may mean it"),
        ArchiveItem("member 2", None, NO_ROW),
        ArchiveItem("member 3", None, f"not an image ({', '.join(archives.IMAGE_SUFFIXES)})"),
        ArchiveItem("w.png", None, NO_ROW),  # the .jpg of the table may come yet
    ]


def test_a_pipe_and_a_missing_archive_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images_1.tar.gz")
    with pytest.raises(DataError, match=r"the archive cannot be read .it is a pipe, not a regular file"):
        read(tmp_path / "images_1.tar.gz")
    with pytest.raises(DataError, match=r"the archive cannot be read .No such file"):
        read(tmp_path / "images_2.tar.gz")


def test_a_size_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    record = b"size=" + b"9" * 5000 + b"\n"
    record = f"{len(record) + 5} ".encode() + record
    header = tar_header(b"a", f"{len(record):o}\0".encode(), b"x") + record.ljust(-(-len(record) // 512) * 512, b"\0")
    with pytest.raises(DataError, match="a size of '9999"):
        read(gzipped(tmp_path / "size.tar.gz", header + tar_header(b"a.png", b"0\0")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.integers(1, 4), st.binary(min_size=1, max_size=2000).filter(lambda more: any(more)))
def test_what_follows_the_end_of_an_archive_is_not_lost_in_silence(
    tmp_path: Path, files: int, blocks: int, more: bytes
) -> None:
    content = b"".join(tar_header(f"{number}.png".encode(), b"0") for number in range(files))
    whole = gzipped(tmp_path / "whole.tar.gz", content + bytes(512 * (1 + blocks)))
    with open_archive(whole, ReadProgress()) as members:
        assert len(list(members)) == files
    longer = gzipped(tmp_path / "longer.tar.gz", content + bytes(512 * blocks) + more)
    with pytest.raises(DataError, match="something follows its end"), open_archive(longer, ReadProgress()) as members:
        list(members)
