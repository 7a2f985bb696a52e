"""HTTP downloads: resumed by byte range, verified before they get their final name, each file downloaded once.

While a file is downloaded it is called ``NAME.part``, and ``NAME.part.json`` records which version of it the server
was sending (the validator of RFC 9110: ETag or Last-Modified). A later attempt, by this process or another, requests
only the rest of that version (Range with If-Range). The file is renamed to ``NAME`` after its length and MD5 sum were
checked, so a file with its final name is complete and correct.
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
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self

import filelock
import httpx
from pydantic import Field

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.json_file import read_json
from data_prep.settings import Settings

MAX_UNSIZED_BYTES = 256 * 2**20  # the largest file whose length is not known in advance; ours are lists and tables
SPARE_DISK_BYTES = 64 * 2**20  # to leave free

_RETRIED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_WEB_PAGE_STARTS = (b"<!doctype html", b"<html")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")

Progress = Callable[[int, int], None]
Check = Callable[[Path], None]


class DownloadSettings(Settings):
    """How downloads treat the server: concurrency, bandwidth, timeouts and repetitions."""

    concurrency: int = Field(2, ge=1, le=16, description="files downloaded at the same time")
    rate_limit: float | None = Field(
        None, gt=0, le=1e12, description="bytes per second, summed over all files; none: no limit"
    )
    stall_seconds: float = Field(
        60, gt=0, le=86_400, description="a connection is closed after this many seconds without a byte"
    )
    attempts: int = Field(
        8, ge=1, le=10_000, description="failed attempts in a row, without a new byte, after which a download fails"
    )
    first_wait: float = Field(
        1, ge=0, le=86_400, description="seconds before the first repetition; doubled for each later one"
    )
    longest_wait: float = Field(
        120, ge=0, le=86_400, description="the longest wait in seconds, even if the server asks for more"
    )


class _RetryableError(Exception):
    """A temporary failure of one attempt; `wait` is the number of seconds the server asked for."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class _WrongContentError(Exception):
    """The server sent something other than the file: delete all of it, and try once more from the start."""


class Downloader:
    """Downloads files into one folder; may be used by several threads and processes at once.

    Leaving its context stops its downloads; the bytes received so far are kept.
    """

    def __init__(self, folder: Path, settings: DownloadSettings = DownloadSettings()) -> None:  # noqa: B008  frozen
        """Prepare to download into `folder`, which is created when needed."""
        self.folder, self.settings = folder, settings
        self._stopped = threading.Event()
        self._slots = threading.BoundedSemaphore(settings.concurrency)
        self._rate_lock, self._free_at = threading.Lock(), 0.0  # for the limit that all threads share
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(settings.stall_seconds),
            # identity: byte ranges would refer to the encoded file
            headers={"User-Agent": "medmtl", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._client.close()

    def fetch(
        self, file: RemoteFile, progress: Progress = lambda done, total: None, check: Check = lambda path: None
    ) -> Path:
        """Return the path of `file` in the folder, complete; download it first if it is not there.

        If another thread or process is downloading the same file, wait for it and use its result. `progress` is
        called with (bytes received, total bytes; 0 if the total is not known). `check` raises DataError if the
        content cannot be right; it is for files without a published MD5 sum.

        Raises:
            DataError: the server refused the request, could not be reached after all attempts, or sent other content
                than was published (also in a second download from the start), or the disk is full. The message
                names the file and the remedy.
        """
        target = self.folder / file.name
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / f".{file.name}.lock"), self._slots:
            if not target.exists():
                try:
                    _Download(self, file, progress, check).run()
                except OSError as error:
                    reason = error.strerror or error
                    raise DataError(f"{target}: cannot be written ({reason}); fix this and run again") from error
            size = target.stat().st_size
            if file.bytes is not None and size != file.bytes:
                raise DataError(f"{target}: {size} bytes, the published file has {file.bytes}; remove it and run again")
            progress(size, size)
        return target

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise DataError("download stopped; run the command again to continue where it stopped")

    def _limit_rate(self, count: int) -> None:
        """Wait after receiving `count` bytes, as long as the limit asks for."""
        pause = 0.0
        if self.settings.rate_limit is not None:
            with self._rate_lock:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + count / self.settings.rate_limit
                pause = self._free_at - now
        self._wait(pause)


class _Download:
    """The download of one file. Its offset is the number of bytes received: the length of the .part file."""

    def __init__(self, downloader: Downloader, file: RemoteFile, progress: Progress, check: Check) -> None:
        self._downloader, self._file, self._progress, self._check = downloader, file, progress, check
        self._target = downloader.folder / file.name
        self._part = self._target.with_name(file.name + ".part")
        self._state_file = self._target.with_name(file.name + ".part.json")
        if not file.url.startswith(("http://", "https://")):
            raise DataError(
                f"{file.name}: no address to download it from ({file.url!r}); give the file's folder with --from DIR"
            )
        self._host = httpx.URL(file.url).host

    def run(self) -> None:
        """Download and verify the file, then give it its final name."""
        for last_try in (False, True):
            try:
                self._verify(self._download_all())
                break
            except _WrongContentError as error:
                self._discard()
                if last_try:
                    raise DataError(
                        f"{self._file.name}: the server at {self._host} sent something other than "
                        f"the published file, twice: {error}; try later, or give the file's folder with --from DIR"
                    ) from error
        with self._part.open("rb") as stream:
            os.fsync(stream.fileno())
        self._part.replace(self._target)
        self._state_file.unlink(missing_ok=True)

    def _download_all(self) -> int | None:
        """Repeat attempts until the whole file has arrived; return its length if the server gave it."""
        settings = self._downloader.settings
        offset, _ = self._resumable()
        if self._file.bytes is not None and offset == self._file.bytes:  # killed after the last byte, before the rename
            return offset
        failures, highest_offset = 0, offset
        while True:
            try:
                return self._attempt()
            except (_RetryableError, httpx.TransportError) as error:
                if self._offset() > highest_offset:  # any new byte is not enough: a server may start over for ever
                    failures, highest_offset = 0, self._offset()
                failures += 1
                reason = str(error) or type(error).__name__
                if failures >= settings.attempts:
                    raise DataError(
                        f"{self._file.name}: not downloaded from {self._host} after {failures} attempts "
                        f"({reason}); {self._offset()} bytes are kept: run the command again to continue"
                    ) from error
                backoff = settings.first_wait * 2 ** (failures - 1) * random.SystemRandom().uniform(0.5, 1)
                requested = error.wait if isinstance(error, _RetryableError) else 0
                self._downloader._wait(min(max(backoff, requested), settings.longest_wait))

    def _attempt(self) -> int | None:
        offset, validator = self._resumable()
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        with self._downloader._client.stream("GET", self._file.url, headers=headers) as response:
            start, total = self._check_response(response, offset, validator)
            check_free_space(self._part, (total or self._file.bytes or 0) - start)
            with self._part.open("r+b" if start else "wb", buffering=0) as stream:
                stream.seek(start)
                if not start:
                    state = {"url": self._file.url, "validator": _validator(response.headers)}
                    unfinished = self._state_file.with_suffix(".json.tmp")
                    unfinished.write_text(json.dumps(state), encoding="utf-8")
                    unfinished.replace(self._state_file)
                self._receive(response, stream, start, total)
        if total is not None and self._offset() < total:
            raise _RetryableError(f"the connection ended at byte {self._offset()} of {total}")
        return total

    def _check_response(self, response: httpx.Response, offset: int, validator: str | None) -> tuple[int, int | None]:
        """Return (offset of the body's first byte, length of the file or None); raise if the body is not the file."""
        status = response.status_code
        if status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _RetryableError(f"the server answered {_status_text(status)}", _retry_after(response.headers))
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            self._discard()
            raise _RetryableError(f"the server has no byte {offset}: restarting from the beginning")
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DataError(
                f"{self._file.name}: {self._host} answered {_status_text(status)}; "
                "check the address in the manifest, or give the file's folder with --from DIR"
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _WrongContentError("a web page instead of the file")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _WrongContentError(f"the file with content encoding ({response.headers['Content-Encoding']})")
        if status == HTTPStatus.OK:
            length = response.headers.get("Content-Length", "")
            return 0, self._check_total(int(length) if length.isdigit() else None)
        return offset, self._check_range(response.headers, offset, validator)

    def _check_range(self, headers: Mapping[str, str], offset: int, validator: str | None) -> int | None:
        """Check that the body begins at `offset` of the same version of the file; return the file's length."""
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        sent = _validator(headers)
        if not match or match[1] is None or int(match[1]) != offset or (validator and sent and sent != validator):
            self._discard()
            raise _RetryableError(
                "the server sent another part or version than requested: restarting from the beginning"
            )
        return self._check_total(None if match[3] == "*" else int(match[3]))

    def _check_total(self, total: int | None) -> int | None:
        expected = self._file.bytes
        if total is not None and expected is not None and total != expected:
            raise _WrongContentError(f"{total} bytes instead of {expected}")
        if total is not None and expected is None and total > MAX_UNSIZED_BYTES:
            raise _WrongContentError(f"{total} bytes where at most {MAX_UNSIZED_BYTES} are expected")
        return total

    def _receive(self, response: httpx.Response, stream: BinaryIO, start: int, total: int | None) -> None:
        """Write each piece (at most 64 KiB) at once: a lost connection or a kill loses no written byte."""
        limit = total or self._file.bytes or MAX_UNSIZED_BYTES
        offset = start
        for piece in response.iter_raw():
            if offset == 0 and piece.lstrip()[:16].lower().startswith(_WEB_PAGE_STARTS):
                raise _WrongContentError("a web page instead of the file")
            offset += len(piece)
            if offset > limit:
                raise _WrongContentError(f"more than {limit} bytes")
            stream.write(piece)
            self._progress(offset, total or self._file.bytes or 0)
            self._downloader._limit_rate(len(piece))

    def _verify(self, total: int | None) -> None:
        size, expected = self._offset(), self._file.bytes if self._file.bytes is not None else total
        if expected is not None and size != expected:
            raise _WrongContentError(f"{size} bytes instead of {expected}")
        if self._file.md5:
            with self._part.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 != self._file.md5:
                raise _WrongContentError(f"MD5 sum {md5} instead of {self._file.md5}")
        try:
            self._check(self._part)
        except DataError as error:
            raise _WrongContentError(str(error)) from error

    def _resumable(self) -> tuple[int, str | None]:
        """Return (offset, validator); offset 0 if nothing proves that the rest belongs to the bytes on disk."""
        validator = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            state = read_json(self._state_file)
            if state["url"] == self._file.url:
                validator = state["validator"]
        if validator is None and self._file.md5 is None:
            return 0, None
        return self._offset(), validator

    def _offset(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)


def check_free_space(path: Path, missing: int) -> None:
    """Check that the disk of `path` has room for `missing` more bytes; raise DataError if not."""
    free = shutil.disk_usage(path.parent).free
    if missing + SPARE_DISK_BYTES > free:
        raise DataError(
            f"{path}: {missing} bytes are still to be written and {free} are free; free some space, name another "
            "folder (MEDMTL_HOME), or delete archives once they are decoded (--discard-archives)"
        )


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return the validator for If-Range: a strong ETag, else Last-Modified (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds the server asks to wait, which it gives as a number or as a date."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0


def _status_text(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{status} {HTTPStatus(status).phrase}"
    return str(status)
