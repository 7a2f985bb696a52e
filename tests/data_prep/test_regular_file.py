"""Only regular files are opened: whatever else has a name is refused at once, with what it is."""

import errno
import os
import socket
from pathlib import Path

import pytest

from data_prep.regular_file import open_regular, read_regular


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 7) == read_regular(tmp_path / "link", 7) == b"content"


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "to a device").symlink_to("/dev/zero")
    (tmp_path / "to a pipe").symlink_to("pipe")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "socket", "to a device", "to a pipe", "dangling", "loop", ".", "absent"):
        with pytest.raises(OSError) as refused:  # noqa: PT011 - of any number
            open_regular(tmp_path / name)
        assert refused.value.strerror, name
    server.close()


def test_the_kind_is_named_and_the_file_is_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Doe^Jane")
    with pytest.raises(OSError, match="pipe") as refused:
        open_regular(tmp_path / "Doe^Jane")
    assert "Doe" not in str(refused.value.strerror)


def test_a_file_above_the_limit_is_refused_before_more_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1000)
    with pytest.raises(OSError, match="limit") as refused:
        read_regular(tmp_path / "large", 999)
    assert refused.value.errno == errno.EFBIG


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        with pytest.raises(OSError, match="folder"):
            open_regular(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
