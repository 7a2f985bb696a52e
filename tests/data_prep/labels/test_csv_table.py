"""CSV text in every dress, and tables that are made to take memory or time."""

import contextlib
import csv
import gzip
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels import csv_table
from data_prep.labels.adjudicated import read_adjudicated
from data_prep.labels.csv_table import read_csv, read_header
from data_prep.labels.table import read_labels
from data_prep.sources.chestxray14 import read_manifest

READERS = (read_csv, read_header, read_labels, read_adjudicated, read_manifest)
CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(' ,;"\n\t'), max_size=9)
PLAIN = st.from_regex(r"[a-zäñ][a-zäñ0-9 ]{0,8}[a-z]", fullmatch=True)


@given(
    st.lists(PLAIN, min_size=2, max_size=6, unique=True).flatmap(
        lambda header: st.tuples(
            st.just(header),
            st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), min_size=1, max_size=6),
        )
    ),
    st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_programs_write_is_read_back_whatever_the_dress(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[str]]], delimiter: str, end: str,
    encoding: str, quote_all: bool, sep_line: bool, packed: bool,
) -> None:  # fmt: skip
    header, rows = table
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([header, *rows])
    content = (f"sep={delimiter}{end}" if sep_line else "") + text.getvalue()
    raw = content.encode(encoding)
    path = tmp_path_factory.mktemp("csv") / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    expected = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    assert read_header(path) == [" ".join(name.split()) for name in header]
    if expected:
        assert read_csv(path).rows == expected
    else:
        with pytest.raises(DataError, match="has no rows"):
            read_csv(path)


HEADER = "image,patient,Mass,Edema\n"
PIECES = st.sampled_from(
    [HEADER, "Image Index,Finding Labels,Patient ID\n", "name,url,bytes,md5\n", "a.png,1,1,0\n", "b.png,2,0,1\n", '"',
     '""', ",", ";", "\t", "\r", "\n", "\0", "x" * 5000, "9" * 5000, "-1", "²", "\u202e", "\x1b[31m", "|", "|" * 99,
     "'", "sep=;\n", "#", "a_1.tar.gz,,,\n", "YES", "\ufeff", "é", "Labels", "nan", ",,,,\n", "\x85", "\u2028"]
)  # fmt: skip


@given(
    st.lists(PIECES | st.text(max_size=4), max_size=30).map("".join),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1"]),
    st.integers(0, 3), st.sampled_from(["t.csv", "t.csv.gz", "t.CSV.GZ"]),
)  # fmt: skip
def test_a_table_of_any_bytes_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, cut: int, name: str
) -> None:
    raw = text.encode(encoding, errors="replace")
    raw = gzip.compress(raw) if name.lower().endswith("gz") and cut < 3 else raw
    path = tmp_path_factory.mktemp("hostile") / name
    path.write_bytes(raw[: len(raw) - cut])
    for read in READERS:
        with contextlib.suppress(DataError):
            read(path)  # type: ignore[operator]
            continue
        with pytest.raises(DataError) as caught:
            read(path)  # type: ignore[operator]
        assert str(caught.value).isprintable()  # so it is one line


def test_long_cells_long_names_and_control_characters_are_refused_before_an_array_is_made(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{i}.png,{i},{i % 2},0" for i in range(20_000)]
    for row, message in {
        f"{'a' * 131_000}.png,1,1,0": r"row 20001 has 131004 characters in column 'image'; the limit for 20001 rows is",
        f"a.png,{'1' * 1025},1,0": "1025 characters in column 'patient'",
        "a\x1b.png,1,1,0": "row 20001 has a control character in column 'image'",
        f"a.png,1,1,{'0' * 140_000}": "not a CSV table",
    }.items():
        path.write_text(HEADER + "\n".join([*rows, row]))
        with pytest.raises(DataError, match=message):
            read_labels(path)


def test_names_that_would_fill_the_memory_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "".join(f"{i:0100d}.png,{i},1,0\n" for i in range(100)))
    read_labels(path)
    monkeypatch.setattr(csv_table, "MAX_ARRAY_BYTES", 4 * 100 * 99)
    with pytest.raises(DataError, match="the limit for 100 rows is 99: shorten it"):
        read_labels(path)


def test_cells_and_columns_are_counted_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "a.png,1,1,0\n" * 300)
    monkeypatch.setattr(csv_table, "MAX_CELLS", 1000)
    with pytest.raises(DataError, match=r"about 1205 cells, the limit is 1000"):
        read_csv(path)
    path.write_text(",".join(f"c{i}" for i in range(5000)) + "\n")
    with pytest.raises(DataError, match="5000 columns, the limit is 4096"):
        read_header(path)


BOMBS = """
import resource, sys
from pathlib import Path
from data_prep.errors import DataError
from data_prep.labels.table import read_labels
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, len(read_labels(path).images))
    except DataError as error:
        print(error)
"""


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    """In a process that may take 2 GiB of addresses: less than each of them asks for, and enough for the limits."""
    rows = b"".join(b"%d,1,1,0\n" % i for i in range(40_000))
    bombs = {
        "gzip.csv.gz": gzip.compress(b"a,b\n" * 2**24),
        "cells.csv": HEADER.encode() + b"," * (2**25 + 1),
        "lines.csv": HEADER.encode() + b"\n" * (2**25 + 1),
        "cell.csv": HEADER.encode() + b'"' + b"x" * 2**25,
        "name.csv": HEADER.encode() + b"x" * 130_000 + b",1,1,0\n" + rows,
        "columns.csv": b"a," * 2**24,
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    ended = subprocess.run([sys.executable, "-c", BOMBS, tmp_path], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    for name, line in zip(sorted(bombs), ended.stdout.splitlines(), strict=True):
        assert line.startswith(f"{tmp_path / name}: ")


def test_a_small_gzip_file_does_not_become_a_large_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    rows = HEADER.encode() + b"".join(b"%d.png,%d,1,0\n" % (i, i) for i in range(100_000))
    path.write_bytes(gzip.compress(rows))
    assert len(read_csv(path).rows) == 100_000
    path.write_bytes(gzip.compress(rows + b"\n" * 2**26))
    with pytest.raises(DataError, match=r"bytes decompress to more than \d+, the limit"):
        read_csv(path)


def test_a_reader_of_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    for read in READERS:
        with pytest.raises(DataError, match="it is a pipe, not a regular file"):
            read(tmp_path / "t.csv")  # type: ignore[operator]
