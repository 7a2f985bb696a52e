"""Match the rows of a label table with files by name, in time that grows with their number only.

A row and a file may match if the path of one ends with the path of the other: ``x.png`` and ``a/x.png``, but not
``b/x.png`` (see `data_prep.sources.image_names` for what counts as the same name). Their suffixes decide how well, and
a file that matches a row well is not given to another that matches it less:

1. the same suffix;
2. a suffix on one side only: a table often names DICOM files without it, by their SOP Instance UID;
3. two different suffixes: images are converted, and their table keeps the old names.

Of several files that match a row equally well, one with just the row's path is taken, else one whose path ends with
it, else the one that shares the most of it; and of those the one that is written in the same characters. If there are
several still, or if a file is the best of two rows, the table does not tell which image is meant.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from data_prep.sources.image_names import ImageName, parse_name

SAME_SUFFIX, ONE_SUFFIX, TWO_SUFFIXES = RANKS = (0, 1, 2)
_NONE: Mapping[int, int] = MappingProxyType({})
_MOST_COMPARED = 64  # files whose characters are compared with a row's: more never differ in writing only


class AmbiguousError(Exception):
    """A row that may mean two files, or two rows that mean the same file."""

    def __init__(self, rows: Sequence[int], files: Sequence[int]) -> None:
        """State the indices of the rows and of the files: one and two, or two and one."""
        super().__init__()
        self.rows, self.files = tuple(rows), tuple(files)


class Match(NamedTuple):
    """A row and its file, by index, and how well their suffixes agree (one of `RANKS`)."""

    row: int
    file: int
    rank: int


def match_names(rows: Sequence[str], files: Sequence[str], aliases: Mapping[int, int] = _NONE) -> list[Match]:
    """Match rows with files, both given as names or paths; see the module's description.

    `aliases` says which files are others under a second name: alias -> file, as indices.

    Returns:
        One entry for each row that has a file, in the order of the rows; no file is an alias.

    Raises:
        AmbiguousError: it cannot be told which file a row means.
    """
    index = NameIndex(files, aliases)
    waiting = [(row, parse_name(name)) for row, name in enumerate(rows)]
    matches: list[Match] = []
    taken: set[int] = set()
    for rank in RANKS:
        row_of: dict[int, int] = {}
        unmatched = []
        fitting: dict[ImageName, list[int]] = {}  # rows that are written differently may mean the same
        for row, name in waiting:
            if name not in fitting:
                fitting[name] = index.fitting(name, rank, taken)
            found = index.meant(fitting[name], rows[row])
            if len(found) > 1:
                raise AmbiguousError([row], found[:2])
            if not found:
                unmatched.append((row, name))
            elif (other := row_of.setdefault(found[0], row)) != row:
                raise AmbiguousError([other, row], found)
        matches += [Match(row, file, rank) for file, row in row_of.items()]
        taken.update(row_of)
        waiting = unmatched
    return sorted(matches)


def suffix_rank(row: str, file: str) -> int:
    """Return how well the suffixes of a row and a file agree: one of `RANKS`."""
    if row == file:
        return SAME_SUFFIX
    return TWO_SUFFIXES if row and file else ONE_SUFFIX


class NameIndex:
    """Names of files by their whole path, and by those ends of it that are as long as the path of some row.

    Rows and files may change places: what is found is those names of one side that may mean a name of the other.
    """

    def __init__(self, files: Sequence[str], aliases: Mapping[int, int] = _NONE) -> None:
        """Prepare for names in `files`; `aliases` as in `match_names`."""
        self._files, self._aliases = files, aliases
        self._names = [parse_name(file) for file in files]
        self._whole: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._ends: dict[int, dict[str, list[int]]] = {}
        for file, (path, _) in enumerate(self._names):
            self._whole[_depth(path)][path].append(file)

    def fitting(self, name: ImageName, rank: int, taken: Container[int] = ()) -> list[int]:
        """Return the files, not `taken` and of this rank, that share the longest path with a row."""
        for candidates in self._by_shared_length(name.path):
            suffixes = ((file, self._names[file].suffix) for file in candidates)
            found = [file for file, suffix in suffixes if suffix_rank(name.suffix, suffix) == rank]
            if free := [file for file in found if self._aliases.get(file, file) not in taken]:
                return free
        return []

    def meant(self, files: list[int], row: str) -> list[int]:
        """Return the file that is written in the same characters as a row; all `files` if it is not just one."""
        plain = row.replace("\\", "/")
        alike = files
        if 1 < len(files) <= _MOST_COMPARED:
            alike = [file for file in files if plain.endswith(self._files[file]) or self._files[file].endswith(plain)]
        one_each = dict.fromkeys(self._aliases.get(file, file) for file in (alike if len(alike) == 1 else files))
        return list(one_each)

    def _by_shared_length(self, path: str) -> Iterator[list[int]]:
        depth = _depth(path)
        if depth in self._whole:
            yield self._whole[depth].get(path, [])
        yield self._ends_of(depth).get(path, [])
        for shorter in sorted((each for each in self._whole if each < depth), reverse=True):
            yield self._whole[shorter].get(_ending(path, shorter), [])

    def _ends_of(self, depth: int) -> dict[str, list[int]]:
        """Return the files of longer paths by the last `depth` parts."""
        if depth not in self._ends:
            self._ends[depth] = defaultdict(list)
            for length, files in self._whole.items():
                for path, numbers in files.items() if length > depth else ():
                    self._ends[depth][_ending(path, depth)] += numbers
        return self._ends[depth]


def _depth(path: str) -> int:
    return path.count("/") + 1


def _ending(path: str, depth: int) -> str:
    """Return the last `depth` parts of a path."""
    return "/".join(path.rsplit("/", depth)[-depth:])
