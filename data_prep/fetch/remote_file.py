"""A file on a server: its name, address, published length and MD5 sum."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, as known before it is downloaded.

    Attributes:
        name: the file's name on disk after the download.
        url: its address.
        bytes: its published length, or None.
        md5: its published MD5 sum in hexadecimal digits, or None.
    """

    name: str
    url: str
    bytes: int | None = None
    md5: str | None = None
