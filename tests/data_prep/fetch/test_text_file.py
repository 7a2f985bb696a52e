"""Text files from outside: cut at line feeds only, decoded as what they are, refused in one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.fetch import text_file
from data_prep.fetch.text_file import read_lines


def read(folder: Path, raw: bytes, fallback: str | None = None) -> list[str]:
    path = folder / "file.txt"
    path.write_bytes(raw)
    return read_lines(path, fallback, "get it by hand")


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\x0b", "\x1c"])
def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path, separator: str) -> None:
    assert read(tmp_path, f"one{separator}two\nthree\r\n".encode()) == [f"one{separator}two", "three"]


@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0\ufeff<")), min_size=1).filter(any)
)
def test_lines_that_were_written_are_read_back(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("lines")
    assert read(folder, "".join(line + "\n" for line in lines).encode()) == lines


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff1 one\n".encode()) == ["1 one"]


def test_utf_8_is_taken_for_what_it_is_before_the_fallback(tmp_path: Path) -> None:
    assert read(tmp_path, "1 café\n".encode(), "cp1252") == ["1 café"]
    assert read(tmp_path, "1 café …\n".encode("cp1252"), "cp1252") == ["1 café …"]


@pytest.mark.parametrize(
    ("raw", "fallback", "message"),
    [
        (b"1 good\n1 caf\xe9\n", None, r"line 2 is not UTF-8 \(byte 0xe9\); save the file as UTF-8"),
        (b"1 good\n1 caf\x81\n", "cp1252", r"line 2 is neither UTF-8 nor cp1252 \(byte 0x81\)"),
        ("1 good\n".encode("utf-16"), "cp1252", "line 1 contains a zero byte"),
        (b"", None, "empty; get it by hand"),
        (b" <!DOCTYPE html><html>404", None, "a web page instead of the file; get it by hand"),
        (b"1 good\n1 " + b"x" * 20_000, None, "line 2 has 20002 characters; at most 20000 are read"),
    ],
)
def test_what_is_no_such_text_is_refused_by_file_line_and_value(
    tmp_path: Path, raw: bytes, fallback: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=rf"file.txt: {message}") as caught:
        read(tmp_path, raw, fallback)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_large_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"none.txt: not there; get it by hand"):
        read_lines(tmp_path / "none.txt", None, "get it by hand")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_lines(tmp_path, None, "get it by hand")
    monkeypatch.setattr(text_file, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read(tmp_path, b"1 eleven by\n")
