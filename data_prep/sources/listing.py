"""What lies in a folder and its subfolders: every file once, behind links too, and what could not be looked at."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.errors import DataError


@dataclass(frozen=True)
class Listing:
    """The content of a folder, without hidden files and folders.

    Links are followed, outside the folder too: images often lie on another disk. A folder is read once, under the
    name that is reached without a link if there is one, so that links in a circle end.

    Attributes:
        folder: the folder.
        files: paths below it, with ``/``, of all that is not a folder: files, links to files, and what is no regular
            file.
        linked: those of `files` that are links.
        unreadable: folders that could not be read. Their names may be patients' names: never show them.
        folders: paths below it of the folders that were read.
    """

    folder: Path
    files: tuple[str, ...]
    linked: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@dataclass
class _Walk:
    """A walk through folders: real ones first, then those behind links, in the order of their names."""

    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    linked_folders: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, root: str, start: str) -> None:
        """Read the folder at path `start` below `root`, and those below it that are no links."""
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                state = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 - quicker, of a million
                if (state.st_dev, state.st_ino) in self.visited:
                    continue
                self.visited.add((state.st_dev, state.st_ino))
                with os.scandir(os.path.join(root, path)) as entries:  # noqa: PTH118
                    waiting.extend(self._sort(path, entries))
                self.folders.append(path)
            except OSError:
                self.unreadable.append(path)

    def _sort(self, path: str, entries: Iterator[os.DirEntry[str]]) -> list[str]:
        """Sort the entries of a folder into files and links; return its subfolders."""
        subfolders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{path}/{entry.name}" if path else entry.name
            if entry.is_symlink():
                if _leads_to_folder(entry):
                    self.linked_folders.append(name)
                else:
                    self.links.append(name)
            elif entry.is_dir(follow_symlinks=False):
                subfolders.append(name)
            else:
                self.files.append(name)
        return subfolders


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def list_files(folder: Path) -> Listing:
    """List the files in a folder and its subfolders, sorted by path; links are followed.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    walk = _Walk()
    walk.enter(str(folder), "")
    while walk.linked_folders:
        links = sorted(walk.linked_folders)
        walk.linked_folders = []
        for link in links:
            walk.enter(str(folder), link)
    return Listing(
        folder,
        tuple(sorted(walk.files + walk.links)),
        frozenset(walk.links),
        tuple(sorted(walk.unreadable)),
        tuple(sorted(filter(None, walk.folders))),
    )


def require_readable(listing: Listing, remedy: str = "allow reading") -> None:
    """Check that every folder could be read; raise DataError with their number and how to find them if not."""
    if count := len(listing.unreadable):
        raise DataError(
            f"{listing.folder}: {count} {'folder' if count == 1 else 'folders'} in it cannot be read, and what is in "
            f"them is not known; `find {listing.folder} -type d ! -readable` names them: {remedy}"
        )
