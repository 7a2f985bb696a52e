"""A file on a server: its name, address, published length and MD5 sum."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, as known before it is downloaded.

    `name` is the file's name on disk after the download; `bytes` and `md5` (hexadecimal) are as published, if so.
    """

    name: str
    url: str
    bytes: int | None = None
    md5: str | None = None
