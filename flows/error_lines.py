"""One-line messages for the errors that a user can correct."""

import errno
import os
import reprlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_prep.errors import DataError, did_you_mean
from models.errors import SettingError
from tasks.runtime.home import home

MAX_LINE = 500
"""Longest message, in characters."""

_FULL_BYTES = 1 << 20  # a disk with less free space is full: databases and file systems keep a little for themselves

_OF_THE_MACHINE = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""Errors of the machine, whatever file they are about."""

_NAMED_SUFFIXES = frozenset({".csv", ".gz", ".html", ".json", ".npz", ".pt", ".safetensors", ".txt", ".yaml", ".zip"})


class _Short(reprlib.Repr):
    """Quotes a value of any size in a few dozen characters."""

    def repr_int(self, x: int, level: int) -> str:
        """Quote a number; Python writes none of thousands of digits."""
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"a number of {x.bit_length()} bits"


_quote = _Short()
_quote.maxstring = _quote.maxother = 80
_quote.maxlevel, _quote.maxdict, _quote.maxlist, _quote.maxtuple = 2, 3, 3, 3


def error_line(error: BaseException) -> str | None:
    """Return a one-line message for an error that the user can correct; None for a bug, which needs a traceback."""
    message = _message(error)
    return None if message is None else _one_line(message)


def _message(error: BaseException) -> str | None:
    if isinstance(error, DataError | SettingError):
        return str(error)
    if isinstance(error, ValidationError):
        return _validation_line(error)
    if any(_is_full(each) for each in _chain(error)):
        return _full_line(error)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _OF_THE_MACHINE):
        return f"{_file(error)}: {error.strerror}; {_remedy(error)}, and run the command again"
    return None


def _one_line(message: str) -> str:
    """Return the message on one line of printable characters; in a long one the middle is left out."""
    words = " ".join(message.split())
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)
    half = (MAX_LINE - 3) // 2
    return printable if len(printable) <= MAX_LINE else f"{printable[:half]} … {printable[-half:]}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from or during, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, None if each.__suppress_context__ else each.__context__]


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return "database or disk is full" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _full_line(error: BaseException) -> str:
    """Name the folder whose disk is full: the one that an error names, or else those without free space."""
    named = [
        Path(os.fsdecode(each.filename)).parent
        for each in _chain(error)
        if isinstance(each, OSError) and _is_full(each) and isinstance(each.filename, str | bytes)
    ]
    written = {"MEDMTL_HOME": home().root, "this folder": Path.cwd(), "the folder for temporary files": _temporary()}
    free = {f"{name}, {folder}": shutil.disk_usage(folder).free for name, folder in written.items()}
    full = [name for name, bytes_free in free.items() if bytes_free < _FULL_BYTES]
    where = str(named[0]) if named else " and ".join(full) or "the disk of --out, or a quota there"
    return f"the disk is full at {where}: free some space and run the command again"


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # it tries to write there
        return Path("/tmp")


def _file(error: OSError) -> str:
    """Name the file of an error, unless its name may be a patient's: that of a file or folder of the data."""
    if not isinstance(error.filename, str | bytes):
        return "the system refused a file or a process"
    path = Path(os.fsdecode(error.filename)).absolute()
    is_ours = any(path.is_relative_to(folder) for folder in (home().root, _temporary()))
    return f"cannot use {path if is_ours or path.suffix.lower() in _NAMED_SUFFIXES else 'a file of the data'}"


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "choose another folder with --out or MEDMTL_HOME, or change its permissions"
    if error.errno in _OF_THE_MACHINE:
        return "see the system's logs and limits (ulimit -a)"
    return "repair the folder"


def _validation_line(error: ValidationError) -> str:
    first, *others = error.errors()
    # a list with a wrong entry counts as empty, and so as too short
    others = [each for each in others if each["type"] != "too_short" or first["loc"][: len(each["loc"])] != each["loc"]]
    where = _one_line(".".join(str(part)[:100] for part in first["loc"]))
    context = first.get("ctx", {})
    if first["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        tag = str(context["tag"])[:100]
        what = f"unknown kind {tag!r}{did_you_mean(tag, known)}"
    elif first["type"] == "extra_forbidden":
        what = "there is no such setting; the command's --help lists them all"
    elif first["type"] == "value_error":
        what = str(context["error"])
    else:
        what = f"{first['msg'][0].lower()}{first['msg'][1:]}; got {_quote.repr(first['input'])}"
    return (f"{where}: " if where else "") + what + (f" (and {len(others)} more)" if others else "")
