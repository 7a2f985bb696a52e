"""Settings of any command, drawn from the schema of its settings: most parts are allowed, some are slightly not."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.cli import COMMANDS
from flows.settings import find_flag

PATHS = ("somewhere", "/nowhere/at all", "", "~", "a\0b", "x" * 5000, "x" * 300, "/dev/null", "a\nb", "\udcff")
TEXTS = (
    "uniform", "svd", "random", "Mass", "no", "on", "1", "null", "08", "1:30", "1e3", "", " ", "é", "a\tb", "\x1b[31m",
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, False, "", "x" * 5000, "a\nb", "\0", "\ud800", "9" * 5000, "1e999",
    -1, 0, 0.5, 2**32, 2**53, 2**63, 2**64, 10**30, -(10**30), math.inf, -math.inf, math.nan, 1e308, 5e-324,
    [], {}, [None], [[]], {"kind": None}, {"kind": []}, {"kind": {}}, {"kind": "x" * 3000}, {"no such setting": 1},
    {"": ""}, ["x"] * 2000, [{"kind": "svd"}] * 300,
)  # fmt: skip


@st.composite
def _drawn(draw: st.DrawFn, schema: Mapping[str, Any], types: Mapping[str, Any], wrong: float) -> Any:
    """Draw a value of a JSON schema; with a probability of `wrong`, each part is anything instead."""
    if draw(st.floats(0, 1)) < wrong:
        return draw(st.sampled_from(WRONG))
    if "$ref" in schema:
        schema = types[schema["$ref"].rpartition("/")[2]]
    for choices in schema.keys() & {"anyOf", "oneOf", "allOf"}:
        return draw(_drawn(draw(st.sampled_from(schema[choices])), types, wrong))
    if "enum" in schema or "const" in schema:
        return draw(st.sampled_from(schema.get("enum") or [schema["const"]]))
    if schema.get("type") in ("object", "array"):
        return draw(_collections(schema, types, wrong))
    return draw(_plain(schema))


@st.composite
def _collections(draw: st.DrawFn, schema: Mapping[str, Any], types: Mapping[str, Any], wrong: float) -> Any:
    if "properties" in schema:
        names = [name for name in schema["properties"] if name == "kind" or draw(st.integers(0, 3)) == 0]
        return {name: draw(_drawn(schema["properties"][name], types, wrong)) for name in names}
    if "additionalProperties" in schema:
        return draw(st.dictionaries(st.sampled_from(TEXTS), _drawn(schema["additionalProperties"], types, wrong)))
    if "prefixItems" in schema:
        return [draw(_drawn(each, types, wrong)) for each in schema["prefixItems"]]
    return draw(st.lists(_drawn(schema["items"], types, wrong), max_size=4)) if "items" in schema else {}


def _plain(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    match schema.get("type"):
        case "integer" | "number":
            return _numbers(schema)
        case "boolean":
            return st.booleans()
        case "string":
            return st.sampled_from(PATHS if schema.get("format") == "path" else TEXTS)
    return st.none()


def _numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -10))
    most = schema.get("maximum", schema.get("exclusiveMaximum", 10))
    edges = st.sampled_from([least, most, least - 1, most + 1])
    if schema["type"] == "integer":
        return st.integers(math.ceil(least), math.floor(most)) | st.integers(least, least + 20) | edges
    return st.floats(least, most) | edges


def settings_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Draw what a YAML file may hold for a command."""
    schema = model.model_json_schema()
    drawn = [_drawn(schema, schema.get("$defs", {}), wrong) for wrong in (0.0, 0.02, 0.2)]
    return st.one_of(drawn).map(lambda value: value if isinstance(value, dict) else {})


def flags_of(command: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw flags of a command, with values as click gives them."""

    def values(flag: str) -> st.SearchStrategy[Any]:
        kind = find_flag(command, flag).type
        if isinstance(kind, click.Choice):
            one: st.SearchStrategy[Any] = st.sampled_from(list(kind.choices))
        elif isinstance(kind, click.Path):
            one = st.sampled_from(PATHS).map(Path)
        elif kind in (int, float, bool):
            one = st.sampled_from([kind(value) for value in (0, 1, 3, 20, 2**32, 2**70)])
            one = one | st.sampled_from([10**5000, -1]) if kind is int else one
            one = one | st.sampled_from([math.nan, math.inf, 0.2]) if kind is float else one
        else:
            one = st.sampled_from((*TEXTS, *PATHS))
        return st.lists(one, max_size=3).map(tuple) if find_flag(command, flag).multiple else one

    some = st.lists(st.sampled_from(COMMANDS[command][1]), max_size=4, unique=True)
    return some.flatmap(lambda flags: st.fixed_dictionaries({flag: values(flag) for flag in flags}))
