"""Errors of the machine in one line, whatever they were wrapped in; nothing that may be a patient's name in it."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from flows.error_lines import MAX_LINE, error_line
from models.errors import SettingError
from tasks.runtime.home import home

OF_FILES = [
    number
    for number in errno.errorcode
    if not issubclass(type(OSError(number, "", "x")), ConnectionError | TimeoutError)
]
TEXTS = st.text(max_size=2000) | st.text(st.characters(categories=["Cc", "Zs", "Cf", "Cs"]), max_size=50)


@given(st.sampled_from(OF_FILES), st.sampled_from(["results.json", "a.npz", "config.yaml"]))
def test_any_error_about_a_file_of_ours_names_it_and_its_reason(number: int, name: str) -> None:
    line = error_line(OSError(number, os.strerror(number), f"/some/where/{name}"))
    assert line is not None
    assert "/some/where" in line
    assert number in (errno.ENOSPC, errno.EDQUOT) or (name in line and os.strerror(number) in line)


@given(st.sampled_from(OF_FILES), st.sampled_from(["Doe^Jane.dcm", "MRN4711", "MRN4711/IM1", "MRN4711/scan.DCM"]))
def test_no_name_of_the_data_is_in_a_line(number: int, name: str) -> None:
    line = error_line(OSError(number, os.strerror(number), f"/data/{name}"))
    assert line is not None
    assert number in (errno.ENOSPC, errno.EDQUOT) or not {"Doe", "MRN4711", "IM1"} & set(line.replace("/", " ").split())


@given(st.sampled_from([DataError, SettingError]), TEXTS)
def test_any_message_is_one_short_printable_line(kind: type[Exception], text: str) -> None:
    line = error_line(kind(text))
    assert line is not None
    assert line == "" or line.isprintable()
    assert len(line) <= MAX_LINE


def wrapped(error: Exception, how: list[str]) -> Exception:
    """Wrap an error as libraries do: raised from it, or while it was handled, several times."""
    for way in how:
        outer = RuntimeError("something else failed")
        if way == "from":
            outer.__cause__ = error
        else:
            outer.__context__ = error
        error = outer
    return error


@given(st.lists(st.sampled_from(["from", "while"]), max_size=5), st.sampled_from(["file", "SQLite", "no name"]))
def test_a_full_disk_is_found_in_whatever_it_is_wrapped(how: list[str], kind: str) -> None:
    error: Exception = OSError(
        errno.ENOSPC, "No space left on device", "/home/u/runs/results.json" if kind == "file" else None
    )
    if kind == "SQLite":
        error = sqlite3.OperationalError("database or disk is full")
    line = str(error_line(wrapped(error, how)))
    assert "the disk is full at " in line
    assert kind != "file" or "/home/u/runs" in line


def test_the_full_disk_is_the_one_without_free_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full = home().root

    class Usage:
        def __init__(self, folder: Path) -> None:
            self.free = 0 if folder == full else 1 << 40

    monkeypatch.setattr("shutil.disk_usage", Usage)
    line = str(error_line(sqlite3.OperationalError("database or disk is full")))
    assert str(full) in line
    assert str(Path.cwd()) not in line.replace(str(full), "")


def test_an_error_that_was_handled_is_not_blamed() -> None:
    bug = KeyError("a bug")
    bug.__context__, bug.__suppress_context__ = OSError(errno.ENOSPC, "No space left on device"), True
    assert error_line(bug) is None
