"""Read a YAML file of settings, with its memory and time bounded, whoever wrote it.

Every plain value is taken as text, and the settings make numbers and booleans of it. So a label may be called `no`,
`08` is eight, `1:30` is not ninety, and `epochs: true` is not one epoch. Only `null`, `~` and nothing mean none.
"""

from collections.abc import Hashable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import DataError
from data_prep.regular_file import read_regular

MAX_BYTES = 1 << 18
"""Largest file: a hundred times that of the default study."""

MAX_VALUES = 20_000
"""Most values in a file, those that are repeated by an alias counted each time."""

MAX_DEPTH = 20
"""Most groups and lists inside one another."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of settings.

    Returns:
        Mappings, lists, texts and None.

    Raises:
        DataError: there is no such file, or it holds something else. The message quotes no more of it than a name that
            is given twice.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not YAML: byte {error.start} is not UTF-8; save it as UTF-8 text") from error
    try:
        values = _Document().build(text)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError) as error:
        mark = getattr(error, "problem_mark", None)
        line = text.count("\n", 0, error.position) if isinstance(error, yaml.reader.ReaderError) else mark and mark.line
        problem = getattr(error, "problem", None) or getattr(error, "reason", "")
        where = "" if line is None else f" in line {line + 1}"
        raise DataError(f"{path} is not YAML that can be used{where}: {problem}") from error
    except (ValueError, OverflowError) as error:  # an escape for a character that there is not
        raise DataError(f"{path} is not YAML: it has an escape for a character that there is not") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is no mapping of settings: expected lines such as 'seed: 0'")
    return values


class _Document:
    """Builds the values of a document from the parser's events; nothing is built that is over a limit."""

    def __init__(self) -> None:
        self.values = 0
        self.open: list[_Node] = [_Node(None, [])]
        self.anchors: dict[str, tuple[Any, int]] = {}

    def build(self, text: str) -> Any:
        """Return the values of the first and only document in the text; None if there is none."""
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent) and self.open[0].content:
                raise _refused(event, "a second document begins; leave one")
            if isinstance(event, yaml.ScalarEvent):
                self._check(event)
                self._add(event, None if event.implicit[0] and event.value in _NULLS else event.value, 1)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._check(event)
                if len(self.open) > MAX_DEPTH:
                    raise _refused(event, f"more than {MAX_DEPTH} groups or lists inside one another")
                self.open.append(_Node(event, {} if isinstance(event, yaml.MappingStartEvent) else [], self.values))
            elif isinstance(event, yaml.CollectionEndEvent):
                node = self.open.pop()
                self._add(node.start, node.content, self.values - node.before)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    raise _refused(event, f"*{event.anchor} stands for nothing that was named &{event.anchor} before")
                value, count = self.anchors[event.anchor]
                self._count(event, count)
                self._add(event, deepcopy(value), 0)
        return self.open[0].content[0] if self.open[0].content else None

    def _check(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= c <= "\udfff" for c in event.value):
            raise _refused(event, "an escape for half a character")
        if event.tag is not None and event.tag != "!":
            raise _refused(event, "a tag such as !!set; write plain values")
        self._count(event, 1)

    def _count(self, event: Any, count: int) -> None:
        self.values += count
        if self.values > MAX_VALUES:
            raise _refused(event, f"more than {MAX_VALUES} values, repeated ones counted")

    def _add(self, event: Any, value: Any, count: int) -> None:
        """Add a value to the innermost open collection, and remember it under its anchor."""
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            self.anchors[event.anchor] = value, count
        parent = self.open[-1]
        if isinstance(parent.content, list):
            parent.content.append(value)
        elif parent.key is None:
            if not isinstance(value, str):
                raise _refused(event, "a setting without a name: a list, a group or nothing stands before the colon")
            if value in parent.content:
                raise _refused(event, f"{value[:100]!r} is given twice; give it once")
            parent.key = value
        else:
            parent.content[parent.key] = value
            parent.key = None


class _Node:
    """A mapping or list that is being built: its first event, its content, and the values counted before it."""

    def __init__(self, start: Any, content: dict[Hashable, Any] | list[Any], before: int = 0) -> None:
        self.start, self.content, self.before = start, content, before
        self.key: str | None = None


def _refused(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
