"""Open and read regular files only: a pipe would block for ever, a device never ends.

Every file that a user or a stranger names is opened here.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, or a link to one; never block.

    Raises:
        OSError: the file cannot be opened or is not a regular file; `strerror` says what it is, without its name.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; see `open_regular`.

    Raises:
        OSError: as `open_regular`; with EFBIG, the file is larger.
    """
    with open_regular(path) as file:
        reported = os.fstat(file.fileno()).st_size  # memory is taken for as much as is asked for
        content = file.read(min(reported, limit) + 1)
        if len(content) > reported:  # some file systems report less than there is
            content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes, the limit", str(path))
    return content
