"""What is known of a file on a server before it is fetched."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server. bytes, md5 (hexadecimal): as published, or None."""

    name: str
    url: str
    bytes: int | None = None
    md5: str | None = None
