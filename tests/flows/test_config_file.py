"""Any YAML file: mappings, lists, texts and nothing come out of it, or one line says what cannot be used."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from flows.config_file import MAX_BYTES, MAX_DEPTH, MAX_VALUES, read_config

PIECES = st.sampled_from([
    "a", "b: ", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", ": ", "? ", "&x ", "*x", "*y", "!!set ", "! ",
    "!!str ", "!!python/object/apply:os.getcwd ", "<<: ", "'", '"', "|\n", ">-\n", "#", "%YAML 1.1\n", "---\n", "...\n",
    "~", "null", "no", "08", "1:30", "2024-01-01", "=", "\\x00", "\\U00110000", "\t", "\r", "\0", "\x85", "\ufeff",
    "\ud800",
])  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["no", "off", "null", "~", "", "08", "0x1f", "1_000", "1:30", "1e3", ".inf", "2024-01-01", "<<", "=", "yes", "on"]
)
VALUES = st.recursive(st.none() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=15)


def read(path: Path, content: bytes) -> Any:
    """Read a file; if it is refused, check that it is in one line, and return that."""
    path.write_bytes(content)
    try:
        return read_config(path)
    except DataError as error:
        refused = str(error)
    assert "\n" not in refused
    assert str(path) in refused
    assert len(refused) < len(str(path)) + 250
    return refused


def count(value: Any, depth: int = 0) -> int:
    """Count the values, and check that there are only mappings with names, lists, texts and None."""
    assert depth <= MAX_DEPTH
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        return 1 + sum(1 + count(each, depth + 1) for each in value.values())
    if isinstance(value, list):
        return 1 + sum(count(each, depth + 1) for each in value)
    assert value is None or isinstance(value, str)
    return 1


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    found = read(tmp_path_factory.getbasetemp() / "any.yaml", text.encode("utf-8", "surrogatepass"))
    assert isinstance(found, str) or count(found) <= MAX_VALUES


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read(tmp_path_factory.getbasetemp() / "any.yaml", content)


@given(st.dictionaries(TEXTS, VALUES))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    assert read_config(path) == values


HOSTILE = {
    "nested lists": "[" * 5000,
    "nested groups": "{a: " * 5000,
    "nested blocks": "".join(f"{' ' * i}a:\n" for i in range(600)),
    "aliases of aliases": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)),
    "an alias of itself": "a: &a [*a]",
    "many values": "a: [" + "1," * (MAX_VALUES + 1) + "]",
    "many bytes": "#" * (MAX_BYTES + 1),
    "two documents": "a: 1\n---\na: 2\n",
    "a tag": "a: !!binary aGVsbG8=",
    "a name twice": "seed: 1\nseed: 2\n",
    "a name twice in a group": "a: {b: 1, b: 2}",
    "a list for a name": "[a]: 1",
    "nothing for a name": "~: 1",
    "NUL": "a: b\0",
    "no mapping": "- a",
    "nothing": "",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, kind: str) -> None:
    assert isinstance(read(tmp_path / "hostile.yaml", HOSTILE[kind].encode()), str)


def test_a_file_in_another_encoding_is_refused_but_for_a_mark_of_utf_8(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-32", "latin-1"):
        assert "is not" in read(tmp_path / "a.yaml", "seed: é".encode(encoding))
    assert read(tmp_path / "a.yaml", "seed: é".encode("utf-8-sig")) == {"seed": "é"}


def test_an_alias_repeats_a_value_and_shares_nothing_with_it(tmp_path: Path) -> None:
    found = read(tmp_path / "a.yaml", b"a: &x {b: [c]}\nd: *x\n")
    assert found == {"a": {"b": ["c"]}, "d": {"b": ["c"]}}
    found["a"]["b"].append("e")
    assert found["d"] == {"b": ["c"]}


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path, tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(DataError, match="cannot read"):
            read_config(path)


def test_a_message_quotes_nothing_of_a_file_that_was_named_by_mistake(tmp_path: Path) -> None:
    rows = "Image,Patient Name\n1.png,Doe^Jane: MRN4711\n\t- x: [\n"
    for content in (rows, f"a: '{rows}", f"- {rows}", f"{{{rows}", rows * 3):
        assert "Doe" not in read(tmp_path / "table.csv", content.encode())
