"""Lines of an untrusted text file: of limited size, in a known encoding, separated by line feeds only.

``str.splitlines`` would also split at NEL (0x85), which occurs inside sentences of MR and SUBJ.
"""

from pathlib import Path

from data_prep.errors import DataError

MAX_FILE_BYTES = 256 * 2**20  # the largest file of these benchmarks, QNLI's training part, has 25 MB
MAX_LINE_CHARACTERS = 20_000  # the longest line, in RTE, has 1,439
_WEB_PAGE_STARTS = ("<!doctype html", "<html")


def read_lines(path: Path, fallback: str | None, remedy: str) -> list[str]:
    """Read the lines of a text file, without their line ends.

    `fallback` is the encoding to try if the file is not UTF-8, `remedy` how to get the file, for error messages.

    Raises:
        DataError: the file is missing, empty, too large, not text, a web page, or in another encoding, or a line is
            too long.
    """
    text = _decode(path, read_bytes(path, remedy, MAX_FILE_BYTES), fallback)
    if text.lstrip()[:16].lower().startswith(_WEB_PAGE_STARTS):
        raise DataError(f"{path}: a web page instead of the file; {remedy}")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise DataError(
                f"{path}: line {number} has {len(line)} characters; at most {MAX_LINE_CHARACTERS} are read: "
                "shorten the line, or check that this is the file you mean"
            )
    return [line.removesuffix("\r") for line in lines]


def read_bytes(path: Path, remedy: str, limit: int) -> bytes:
    """Read a file; raise DataError if it is missing, empty or larger than `limit` bytes, or cannot be read.

    `remedy` says how to get the file, for error messages.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there; {remedy}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if not raw:
        raise DataError(f"{path}: empty; {remedy}")
    if len(raw) > limit:
        raise DataError(f"{path}: larger than {limit} bytes; check that this is the file you mean")
    return raw


def _decode(path: Path, raw: bytes, fallback: str | None) -> str:
    if b"\0" in raw:  # UTF-16 and UTF-32 have them in every line
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(f"{path}: line {line} contains a zero byte, so this is not UTF-8 text; save it as UTF-8")
    for encoding in filter(None, ("utf-8-sig", fallback)):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            failure = error
    problem = f"neither UTF-8 nor {fallback}" if fallback else "not UTF-8"
    line = raw.count(b"\n", 0, failure.start) + 1
    raise DataError(f"{path}: line {line} is {problem} (byte 0x{raw[failure.start]:02x}); save the file as UTF-8")
