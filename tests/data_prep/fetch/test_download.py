"""Downloads from a faulty server: the right bytes or a clear error, and little fetched twice."""

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.fetch import download
from data_prep.fetch.download import Downloader, DownloadSettings
from data_prep.fetch.remote_file import RemoteFile
from tests.data_prep.faulty_server import Fault, FaultyServer, serving

CONTENT = np.random.default_rng(0).bytes(1_000_003)
OTHER = np.random.default_rng(1).bytes(1_000_003)
MD5 = hashlib.md5(CONTENT).hexdigest()
PIECE = 2**16  # bytes: what may be fetched twice
SETTINGS = DownloadSettings(first_wait=0, longest_wait=5, stall_seconds=5, attempts=3)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving(CONTENT) as told:
        yield told


def remote(server: FaultyServer, length: int | None = len(CONTENT), md5: str | None = MD5) -> RemoteFile:
    return RemoteFile("file.bin", server.url, length, md5)


def fetch(file: RemoteFile, folder: Path, settings: DownloadSettings = SETTINGS, **options: object) -> bytes:
    with Downloader(folder, settings) as downloader:
        return downloader.fetch(file, **options).read_bytes()  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.endswith(".lock")}


def test_fifty_cuts_at_random_places_are_resumed_at_the_byte(server: FaultyServer, tmp_path: Path) -> None:
    cuts = np.sort(np.random.default_rng(2).choice(np.arange(1, len(CONTENT)), 50, replace=False))
    server.faults.extend(Fault(cut=int(length)) for length in np.diff(cuts, prepend=0))
    assert fetch(remote(server), tmp_path) == CONTENT
    assert len(server.ranges) == 51
    fetched_again = server.sent - len(CONTENT)
    print(f"50 cuts: {fetched_again} of {len(CONTENT)} bytes fetched again")
    assert fetched_again == 0
    assert names(tmp_path) == {"file.bin"}


@pytest.mark.parametrize("cut", [0, 1, 500_000, len(CONTENT)])
@pytest.mark.parametrize("md5", [MD5, None])
def test_another_process_goes_on_where_a_killed_one_was(
    server: FaultyServer, tmp_path: Path, cut: int, md5: str | None
) -> None:
    server.faults.append(Fault(cut=min(cut, len(CONTENT) - 1), stall=30))
    file = remote(server, md5=md5)
    process = multiprocessing.get_context("fork").Process(target=fetch, args=(file, tmp_path))
    process.start()
    part = tmp_path / "file.bin.part"
    while not part.exists() or part.stat().st_size < min(cut, len(CONTENT) - 1):
        time.sleep(0.005)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    if cut == len(CONTENT):  # as if killed between the last byte and the rename
        part.write_bytes(CONTENT)
    assert fetch(file, tmp_path) == CONTENT
    expected = [None] if cut == len(CONTENT) else [None, f"bytes={cut}-" if cut else None]
    assert server.ranges == expected


def test_a_server_that_ignores_the_range_is_read_from_the_start(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.extend([Fault(cut=400_000), Fault(ignores_range=True, cut=600_000), Fault()])
    assert fetch(remote(server), tmp_path) == CONTENT
    assert server.ranges == [None, "bytes=400000-", "bytes=600000-"]


def test_a_server_that_ignores_the_range_and_is_always_cut_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.extend(Fault(ignores_range=True, cut=400_000) for _ in range(20))
    with pytest.raises(DataError, match=r"file.bin: not downloaded from 127.0.0.1 after 3 attempts .*command again"):
        fetch(remote(server), tmp_path)
    assert len(server.ranges) == 3


@pytest.mark.parametrize("ignores_condition", [False, True])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: FaultyServer, tmp_path: Path, ignores_condition: bool
) -> None:
    """Also where the server sends the rest of the new version although it was asked not to."""
    server.faults.extend([Fault(content=OTHER, headers={"ETag": '"zero"'}, cut=400_000)])
    server.faults.append(Fault(ignores_condition=ignores_condition))
    assert fetch(remote(server, md5=None), tmp_path) == CONTENT


def test_without_any_validator_only_a_published_sum_lets_a_download_go_on(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.extend(Fault(cut=300_000, without=("ETag",)) for _ in range(2))
    assert fetch(remote(server), tmp_path / "sum") == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]
    server.ranges.clear()
    server.faults.append(Fault(cut=300_000, without=("ETag",)))
    assert fetch(remote(server, md5=None), tmp_path / "none") == CONTENT
    assert server.ranges == [None, None]


def test_a_weak_etag_gives_way_to_the_time_of_change(server: FaultyServer, tmp_path: Path) -> None:
    server.etag = "Sat, 21 Nov 2026 10:00:00 GMT"  # what the client must send back
    weak = {"ETag": 'W/"one"', "Last-Modified": server.etag}
    server.faults.extend([Fault(cut=300_000, headers=weak), Fault(headers=weak)])
    assert fetch(remote(server), tmp_path) == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize("shift", [-7, 7])
def test_a_range_other_than_the_one_asked_for_is_not_taken(server: FaultyServer, tmp_path: Path, shift: int) -> None:
    wrong = {"Content-Range": f"bytes {400_000 + shift}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.faults.extend([Fault(cut=400_000), Fault(headers=wrong)])
    assert fetch(remote(server, md5=None), tmp_path) == CONTENT


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.append(Fault(content=OTHER))
    assert fetch(remote(server), tmp_path / "once") == CONTENT
    server.faults.extend([Fault(content=OTHER)] * 5)
    server.ranges.clear()
    with pytest.raises(DataError, match=rf"sent something other than.*twice: MD5 sum \w+ instead of {MD5}.*--from DIR"):
        fetch(remote(server), tmp_path / "always")
    assert server.ranges == [None, None]
    assert names(tmp_path / "always") == set()


def test_wrong_bytes_in_the_middle_of_a_resumed_download_cost_one_clean_download(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.faults.extend([Fault(cut=400_000), Fault(content=OTHER)])
    assert fetch(remote(server), tmp_path) == CONTENT
    assert server.ranges == [None, "bytes=400000-", None]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!", b""])
def test_a_wrong_length_is_refused(server: FaultyServer, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(DataError, match=rf"twice: {len(content)} bytes instead of {len(CONTENT)}"):
        fetch(remote(server, md5=None), tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!" * 100_000])
def test_a_wrong_length_that_was_not_announced_is_refused(server: FaultyServer, tmp_path: Path, content: bytes) -> None:
    server.faults.extend([Fault(content=content, without=("Content-Length",), headers={"Connection": "close"})] * 9)
    with pytest.raises(DataError, match="bytes"):
        fetch(remote(server, md5=None), tmp_path)
    assert "file.bin" not in names(tmp_path)


def test_a_body_shorter_than_announced_is_completed(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.append(Fault(cut=999_999))
    assert fetch(remote(server, length=None, md5=None), tmp_path) == CONTENT


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_web_page_instead_of_the_file_is_named_as_one(
    server: FaultyServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    page = b"\n<!DOCTYPE html><html><body>Sign in to continue</body></html>"
    server.faults.extend([Fault(content=page, headers=headers)] * 3)
    with pytest.raises(DataError, match="twice: a web page instead of the file"):
        fetch(remote(server, length=None, md5=None), tmp_path)
    assert names(tmp_path) == set()


def test_content_that_its_check_refuses_is_not_kept(server: FaultyServer, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise DataError(f"{path.stat().st_size} bytes and no table")

    with pytest.raises(DataError, match="twice: 1000003 bytes and no table"):
        fetch(remote(server, md5=None), tmp_path, check=refuse)
    assert names(tmp_path) == set()


def test_a_stalled_connection_is_given_up_and_resumed(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.extend([Fault(cut=400_000, stall=20), Fault(cut=100_000, stall=20)])
    begun = time.monotonic()
    assert fetch(remote(server), tmp_path, SETTINGS.model_copy(update={"stall_seconds": 0.2})) == CONTENT
    assert time.monotonic() - begun < 5
    assert server.ranges == [None, "bytes=400000-", "bytes=500000-"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_so_often_and_no_more(server: FaultyServer, tmp_path: Path, status: int) -> None:
    server.faults.extend([Fault(status=status)] * 2)
    assert fetch(remote(server), tmp_path / "passes") == CONTENT
    server.faults.extend([Fault(status=status)] * 9)
    server.ranges.clear()
    with pytest.raises(DataError, match=rf"after 3 attempts \(the server answered {status} "):
        fetch(remote(server), tmp_path / "stays")
    assert len(server.ranges) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_will_not_pass_is_not_tried_again(server: FaultyServer, tmp_path: Path, status: int) -> None:
    server.faults.extend([Fault(status=status)] * 2)
    with pytest.raises(DataError, match=rf"127.0.0.1 answered {status} .*check the address in the manifest"):
        fetch(remote(server), tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("date", [False, True])
def test_the_server_may_say_how_long_to_wait(server: FaultyServer, tmp_path: Path, date: bool) -> None:
    wait = formatdate(time.time() + 3, usegmt=True) if date else "2"
    server.faults.append(Fault(status=503, headers={"Retry-After": wait}))
    begun = time.monotonic()
    assert fetch(remote(server), tmp_path) == CONTENT
    assert 1.5 < time.monotonic() - begun < 6


def test_the_waits_grow_and_are_never_the_same(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Downloader, "_wait", lambda self, seconds: waits.append(seconds))
    server.faults.extend([Fault(status=500)] * 9)
    settings = DownloadSettings(attempts=7, first_wait=1, longest_wait=20)
    with pytest.raises(DataError, match="after 7 attempts"):
        fetch(remote(server), tmp_path, settings)
    ceilings = [1, 2, 4, 8, 16, 20]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    assert len({wait / ceiling for wait, ceiling in zip(waits, ceilings, strict=True)}) > 2


def test_a_server_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with serving(b"") as gone:
        pass
    with pytest.raises(DataError, match=r"not downloaded from 127.0.0.1 after 3 attempts .*refused"):
        fetch(remote(gone), tmp_path)


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no address to download it from \('file:///etc/passwd'\)"):
        fetch(RemoteFile("file.bin", "file:///etc/passwd"), tmp_path)


def test_two_threads_and_two_processes_fetch_a_file_once(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.append(Fault(cut=400_000, stall=0.5))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fetch, args=(remote(server), tmp_path)) for _ in range(2)]
    threads = [threading.Thread(target=fetch, args=(remote(server), tmp_path)) for _ in range(2)]
    for worker in (*processes, *threads):
        worker.start()
    for worker in (*processes, *threads):
        worker.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.ranges == [None]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"file.bin"}


def test_a_file_that_is_there_is_not_asked_for(server: FaultyServer, tmp_path: Path) -> None:
    fetch(remote(server), tmp_path)
    calls: list[tuple[int, int]] = []
    fetch(remote(server), tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert len(server.ranges) == 1
    assert calls == [(len(CONTENT), len(CONTENT))]
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="4 bytes, the published file has 1000003; remove it"):
        fetch(remote(server), tmp_path)


def test_progress_is_told_in_bytes_from_where_it_goes_on(server: FaultyServer, tmp_path: Path) -> None:
    server.faults.append(Fault(cut=400_000))
    calls: list[tuple[int, int]] = []
    fetch(remote(server), tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in calls} == {len(CONTENT)}


def test_the_rate_limit_holds_for_all_files_together(server: FaultyServer, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"rate_limit": 2_000_000.0})
    begun = time.monotonic()
    with Downloader(tmp_path, settings) as downloader:
        files = [RemoteFile(name, server.url, len(CONTENT), MD5) for name in ("a", "b")]
        threads = [threading.Thread(target=downloader.fetch, args=(file,)) for file in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 0.9 < time.monotonic() - begun < 3


def test_a_disk_without_room_is_noticed_before_the_first_byte(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SPARE_DISK_BYTES", 2**60)
    with pytest.raises(DataError, match=r"1000003 bytes are still to be written and \d+ are free; free some space"):
        fetch(remote(server), tmp_path)
    assert names(tmp_path) == set()


def test_leaving_a_downloader_stops_it_and_keeps_what_came(server: FaultyServer, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"rate_limit": 200_000.0})
    errors: list[Exception] = []

    def work() -> None:
        try:
            downloader.fetch(remote(server))
        except DataError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    with Downloader(tmp_path, settings) as downloader:
        thread.start()
        time.sleep(0.5)
    thread.join(5)
    assert "continue where it stopped" in str(errors[0])
    assert fetch(remote(server), tmp_path) == CONTENT
    assert server.ranges[1] not in (None, "bytes=0-")
