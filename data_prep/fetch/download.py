"""Files from a server: resumed by byte range, verified before they get their name, fetched once.

A file grows as ``NAME.part``; ``NAME.part.json`` says which version of it the server was sending (RFC 9110: the
validator, ETag or Last-Modified). A later attempt, of this process or the next, asks for the rest of that version
only (Range with If-Range). What arrives gets its name after its length and MD5 sum were checked, so a file that has
its name is right.
"""

import contextlib
import email.utils
import hashlib
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self

import filelock
import httpx
from pydantic import Field

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.settings import Settings

MAX_UNSIZED = 256 * 2**20  # bytes of a file whose length nobody has registered; ours are lists and tables
SPARE_DISK = 64 * 2**20  # bytes to leave free

_RETRIED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_PAGE_STARTS = (b"<!doctype html", b"<html")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")

Progress = Callable[[int, int], None]
Check = Callable[[Path], None]


class DownloadSettings(Settings):
    """How hard a server may be asked, and how patient we are with it."""

    concurrency: int = Field(2, ge=1, le=16, description="files fetched at the same time")
    rate_limit: float | None = Field(None, gt=0, description="bytes per second of all files together; none: no limit")
    stall_seconds: float = Field(60, gt=0, description="seconds without a byte after which a connection is given up")
    attempts: int = Field(8, ge=1, description="failures in a row, without a new byte, before a file is given up")
    first_wait: float = Field(1, ge=0, description="seconds before the first repetition; each later wait is doubled")
    longest_wait: float = Field(120, ge=0, description="seconds: no wait is longer, not even one the server asks for")


class _TryAgain(Exception):
    """The attempt failed in a way that may pass. wait: seconds the server asked for."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class _WrongContent(Exception):
    """What arrived is not the file: forget it all, and try once more from the start."""


class Downloader:
    """Fetches files into one folder; may be used by several threads and processes at once.

    As a context manager it stops its downloads when the context is left; what has arrived is kept.
    """

    def __init__(self, folder: Path, settings: DownloadSettings = DownloadSettings()) -> None:  # noqa: B008  frozen
        """Prepare to fetch into `folder`, which is made when needed."""
        self.folder, self.settings = folder, settings
        self._stopped = threading.Event()
        self._places = threading.BoundedSemaphore(settings.concurrency)
        self._limiter = _Limiter(settings.rate_limit)
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(settings.stall_seconds),
            headers={"User-Agent": "medmtl", "Accept-Encoding": "identity"},  # a range is of the bytes as they are
        )

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is under way."""
        self._stopped.set()
        self._client.close()

    def fetch(
        self, file: RemoteFile, progress: Progress = lambda done, total: None, check: Check = lambda path: None
    ) -> Path:
        """Return the path of `file`, fetched unless it is there already.

        progress: called with (bytes there, bytes in all; 0 if nobody knows). check: raises DataError where the
        content cannot be right; for files without a published sum.

        Another thread or process that fetches the same file is waited for, and its file taken.

        Raises DataError naming file and remedy: refused by the server, unreachable after all attempts, other
        content than was published (after a second, clean download), no room on the disk.
        """
        target = self.folder / file.name
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / f".{file.name}.lock"), self._places:
            if target.exists():
                _check_there(target, file)
            else:
                with _disk_errors(target):
                    _Download(self, file, progress, check).run()
            size = target.stat().st_size
            progress(size, size)
        return target

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise DataError("download stopped; it goes on where it was when the command is run again")


class _Download:
    """One file on its way. offset: bytes that have arrived, the length of the .part file."""

    def __init__(self, owner: Downloader, file: RemoteFile, progress: Progress, check: Check) -> None:
        self._owner, self._file, self._progress, self._check = owner, file, progress, check
        self._target = owner.folder / file.name
        self._part = self._target.with_name(file.name + ".part")
        self._state = self._target.with_name(file.name + ".part.json")
        if not file.url.startswith(("http://", "https://")):
            raise DataError(f"{file.name}: no address to fetch it from ({file.url!r}); take it with --from DIR")

    def run(self) -> None:
        """Fetch, verify, give the file its name."""
        for last_try in (False, True):
            try:
                total = self._fetch_all()
                self._verify(total)
                break
            except _WrongContent as error:
                self._discard()
                if last_try:
                    raise DataError(
                        f"{self._file.name}: the server at {_host(self._file.url)} sends something else than the "
                        f"published file, twice: {error}; try later, or take the file with --from DIR"
                    ) from error
        with self._part.open("rb") as stream:
            os.fsync(stream.fileno())
        self._part.replace(self._target)
        self._state.unlink(missing_ok=True)

    def _fetch_all(self) -> int | None:
        """Attempt until the whole file has arrived; return its length as the server gave it, if it did."""
        settings = self._owner.settings
        offset, _ = self._resumable()
        if self._file.bytes is not None and offset == self._file.bytes:  # killed between the last byte and the name
            return offset
        failures, furthest = 0, offset
        while True:
            try:
                return self._attempt()
            except (_TryAgain, httpx.TransportError) as error:
                if self._offset() > furthest:  # not merely "got bytes": a server may start over for ever
                    failures, furthest = 0, self._offset()
                failures += 1
                reason = str(error) or type(error).__name__
                if failures >= settings.attempts:
                    raise DataError(
                        f"{self._file.name}: not fetched from {_host(self._file.url)} after {failures} attempts "
                        f"({reason}); {self._offset()} bytes are kept: run the command again to go on"
                    ) from error
                backoff = settings.first_wait * 2 ** (failures - 1) * random.SystemRandom().uniform(0.5, 1)
                asked = error.wait if isinstance(error, _TryAgain) else 0
                self._owner._wait(min(max(backoff, asked), settings.longest_wait))

    def _attempt(self) -> int | None:
        offset, validator = self._resumable()
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        with self._owner._client.stream("GET", self._file.url, headers=headers) as response:
            start, total = self._answer(response, offset, validator)
            check_space(self._part, (total or self._file.bytes or 0) - start)
            with self._part.open("r+b" if start else "wb", buffering=0) as stream:
                stream.seek(start)
                if not start:
                    _write_state(self._state, self._file.url, _validator(response.headers))
                self._receive(response, stream, start, total)
        if total is not None and self._offset() < total:
            raise _TryAgain(f"the connection ended at byte {self._offset()} of {total}")
        return total

    def _answer(self, response: httpx.Response, offset: int, validator: str | None) -> tuple[int, int | None]:
        """Return (first byte of the body, length of the file or None); raise for an answer that is not the file."""
        status = response.status_code
        if status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _TryAgain(f"the server answered {_status(status)}", _retry_after(response.headers))
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            self._discard()
            raise _TryAgain(f"the server has no byte {offset}: starting over")
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DataError(
                f"{self._file.name}: {_host(self._file.url)} answered {_status(status)}; "
                "check the address in the manifest, or take the file with --from DIR"
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _WrongContent("a web page instead of the file")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _WrongContent(f"the file in another encoding ({response.headers['Content-Encoding']})")
        if status == HTTPStatus.OK:
            length = response.headers.get("Content-Length", "")
            return 0, self._checked_total(int(length) if length.isdigit() else None)
        return offset, self._checked_range(response.headers, offset, validator)

    def _checked_range(self, headers: Mapping[str, str], offset: int, validator: str | None) -> int | None:
        """Return the file's length after making sure that the body begins at `offset` of the same version."""
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        sent = _validator(headers)
        if not match or match[1] is None or int(match[1]) != offset or (validator and sent and sent != validator):
            self._discard()
            raise _TryAgain("the server sent another part or version than was asked for: starting over")
        return self._checked_total(None if match[3] == "*" else int(match[3]))

    def _checked_total(self, total: int | None) -> int | None:
        expected = self._file.bytes
        if total is not None and expected is not None and total != expected:
            raise _WrongContent(f"{total} bytes instead of {expected}")
        if total is not None and expected is None and total > MAX_UNSIZED:
            raise _WrongContent(f"{total} bytes where at most {MAX_UNSIZED} are expected")
        return total

    def _receive(self, response: httpx.Response, stream: BinaryIO, start: int, total: int | None) -> None:
        """Write each piece (64 KiB at most) as it comes: a cut or a kill loses nothing that was written."""
        limit = total or self._file.bytes or MAX_UNSIZED
        offset = start
        for piece in response.iter_raw():
            if offset == 0 and piece.lstrip()[:16].lower().startswith(_PAGE_STARTS):
                raise _WrongContent("a web page instead of the file")
            offset += len(piece)
            if offset > limit:
                raise _WrongContent(f"more than {limit} bytes")
            stream.write(piece)
            self._progress(offset, total or self._file.bytes or 0)
            self._owner._wait(self._owner._limiter.pause(len(piece)))

    def _verify(self, total: int | None) -> None:
        size, expected = self._offset(), self._file.bytes if self._file.bytes is not None else total
        if expected is not None and size != expected:
            raise _WrongContent(f"{size} bytes instead of {expected}")
        if self._file.md5:
            with self._part.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 != self._file.md5:
                raise _WrongContent(f"MD5 sum {md5} instead of {self._file.md5}")
        try:
            self._check(self._part)
        except DataError as error:
            raise _WrongContent(str(error)) from error

    def _resumable(self) -> tuple[int, str | None]:
        """Return (offset, validator); offset 0 where nothing says that the rest would belong to what is there."""
        validator = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state["url"] == self._file.url:
                validator = state["validator"]
        if validator is None and self._file.md5 is None:
            return 0, None
        return self._offset(), validator

    def _offset(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)


class _Limiter:
    """Shares a number of bytes per second between threads."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def pause(self, count: int) -> float:
        """Return how many seconds to wait after `count` bytes."""
        if self._rate is None:
            return 0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now


def _check_there(target: Path, file: RemoteFile) -> None:
    size = target.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise DataError(f"{target}: {size} bytes, the published file has {file.bytes}; remove it and run again")


def check_space(path: Path, missing: int) -> None:
    """Raise DataError unless the disk of `path` has room for `missing` more bytes."""
    free = shutil.disk_usage(path.parent).free
    if missing + SPARE_DISK > free:
        raise DataError(
            f"{path}: {missing} bytes are still to come and {free} are free; make room, name another folder "
            "(MEDMTL_HOME), or let archives go once they are decoded (--discard-archives)"
        )


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); mend it and run again") from error


def _write_state(path: Path, url: str, validator: str | None) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
    unfinished.replace(path)


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what If-Range may name: a strong ETag, else the time of change (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds the server asks to wait: given as a number or as a date."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0


def _status(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{status} {HTTPStatus(status).phrase}"
    return str(status)


def _host(url: str) -> str:
    return httpx.URL(url).host
