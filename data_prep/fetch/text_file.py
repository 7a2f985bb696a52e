"""Lines of a text file that comes from outside: of bounded size, in a known encoding, ending in a line feed only.

``str.splitlines`` would also cut at NEL (0x85), which stands inside sentences of MR and SUBJ.
"""

from pathlib import Path

from data_prep.errors import DataError

MAX_FILE_BYTES = 256 * 2**20  # the largest file of these benchmarks, QNLI's training part, has 25 MB
MAX_LINE_CHARACTERS = 20_000  # the longest line, of RTE, has 1,439
_PAGE_STARTS = ("<!doctype html", "<html")


def read_lines(path: Path, fallback: str | None, remedy: str) -> list[str]:
    """Return the lines of the file at `path` without their ends.

    fallback: the encoding to read where the file is not UTF-8, if there is one. remedy: how to get the file.

    Raises DataError for a file that is missing, too large, no text, a web page, in another encoding, or that has a
    line too long.
    """
    text = _decode(path, read_bytes(path, remedy, MAX_FILE_BYTES), fallback)
    if text.lstrip()[:16].lower().startswith(_PAGE_STARTS):
        raise DataError(f"{path}: a web page instead of the file; {remedy}")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise DataError(
                f"{path}: line {number} has {len(line)} characters; at most {MAX_LINE_CHARACTERS} are read: "
                "cut the line, or see whether this is the file you mean"
            )
    return [line.removesuffix("\r") for line in lines]


def read_bytes(path: Path, remedy: str, limit: int) -> bytes:
    """Return the content of the file at `path`; DataError where it is missing, empty or larger than `limit`."""
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
        raise DataError(f"{path}: larger than {limit} bytes; see whether this is the file you mean")
    return raw


def _decode(path: Path, raw: bytes, fallback: str | None) -> str:
    if b"\0" in raw:  # UTF-16 and UTF-32 have them in every line
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(f"{path}: line {line} holds a zero byte, so this is no UTF-8 text; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong, known = error, "UTF-8"
    if fallback is not None:
        try:
            return raw.decode(fallback)
        except UnicodeDecodeError as error:
            wrong, known = error, f"{known} nor {fallback}"
    line = raw.count(b"\n", 0, wrong.start) + 1
    raise DataError(f"{path}: line {line} is not {known} (byte 0x{raw[wrong.start]:02x}); save the file as UTF-8")
