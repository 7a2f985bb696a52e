"""A damaged JSON file is a ValueError or an OSError, whatever the damage."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.json_file import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("json") / "file.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    assert read_json(file) == value


@given(VALUES, st.data())
def test_any_damage_is_an_error_of_the_value(
    tmp_path_factory: pytest.TempPathFactory, value: object, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("json") / "file.json"
    text = bytearray(json.dumps(value).encode())
    place = data.draw(st.integers(0, len(text)))
    text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    file.write_bytes(text)
    with suppress(ValueError):
        read_json(file)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
