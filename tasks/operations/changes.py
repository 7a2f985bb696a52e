"""One line for each thing on a server that was looked at: what was done to it."""

from typing import Literal, NamedTuple

Done = Literal["created", "updated", "unchanged", "left"]


class Change(NamedTuple):
    """What became of one thing.

    Attributes:
        done: what was done.
        kind: such as deployment.
        name: its name on the server.
        note: what a person should know of it.
    """

    done: Done
    kind: str
    name: str
    note: str = ""

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.done:<10} {self.kind:<12} {self.name}{f' ({self.note})' if self.note else ''}"
