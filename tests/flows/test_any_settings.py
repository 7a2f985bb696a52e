"""Any settings of any command: they are taken and mean the same when they are read again, or one line says why not."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.cli import COMMANDS
from flows.error_lines import MAX_LINE, error_line
from flows.settings import compose
from tasks.runtime.run_folder import as_yaml
from tests.flows.drawn_settings import flags_of, settings_of

Model = TypeVar("Model", bound=BaseModel)


def settings_class(command: str) -> type[BaseModel]:
    found: type[BaseModel] = getattr(importlib.import_module(f"flows.{command}"), f"{command.title()}Settings")
    return found


def made_or_refused(make: Callable[[], Model]) -> Model | None:
    """Make settings; if they are refused, check that it is in one line, and return None."""
    try:
        return make()
    except Exception as error:
        refused = error
    line = error_line(refused)
    assert line, refused
    assert line.isprintable()
    assert len(line) <= MAX_LINE
    return None


def check(model: type[BaseModel], config: Path | None, flags: Mapping[str, Any], again: Path) -> None:
    made = made_or_refused(lambda: compose(model, config, flags))
    if made is not None:
        assert model.model_validate(made.model_dump(mode="json")) == made
        again.write_text(as_yaml(made), encoding="utf-8")
        assert compose(model, again, {}) == made


@pytest.mark.parametrize("command", COMMANDS)
def test_any_settings_are_taken_or_refused_in_one_line(command: str, tmp_path: Path) -> None:
    model = settings_class(command)

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(st.none() | settings_of(model), st.just({}) | flags_of(command))
    def draws(values: dict[str, Any] | None, flags: dict[str, Any]) -> None:
        config = None
        if values is not None:
            config = tmp_path / "config.yaml"
            config.write_bytes(yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))
        check(model, config, flags, tmp_path / "again.yaml")

    draws()


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_thousands_of_settings_are_taken_or_refused_in_one_line(command: str, tmp_path: Path) -> None:
    model = settings_class(command)

    @settings(max_examples=3000, suppress_health_check=list(HealthCheck))
    @given(settings_of(model), flags_of(command))
    def draws(values: dict[str, Any], flags: dict[str, Any]) -> None:
        config = tmp_path / "config.yaml"
        config.write_bytes(yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))
        check(model, config, flags, tmp_path / "again.yaml")

    draws()


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_settings_from_a_program_are_taken_or_refused_in_one_line(command: str, data: st.DataObject) -> None:
    model = settings_class(command)
    values = data.draw(settings_of(model))
    made = made_or_refused(lambda: model.model_validate(values))
    assert made is None or model.model_validate(made.model_dump(mode="json")) == made


# --- Bounds ---


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for argument in get_args(annotation):
        yield from models_in(argument)


FOUND = {each for command in COMMANDS for each in models_in(settings_class(command))}
EVERY_MODEL = sorted(FOUND, key=lambda model: model.__name__)


def unbounded(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the types in a JSON schema that lack a bound on a side; references are models of their own."""
    for choices in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for each in schema.get(choices, ()):
            yield from unbounded(each)
    match schema.get("type"):
        case "integer" | "number" as kind:
            bounds = [{"minimum", "exclusiveMinimum"} & schema.keys(), {"maximum", "exclusiveMaximum"} & schema.keys()]
            if not all(bounds) and "const" not in schema and "enum" not in schema:
                yield kind
        case "array":
            if "maxItems" not in schema:
                yield "array"
            yield from unbounded(schema.get("items", {}))
        case "object" if "additionalProperties" in schema and "properties" not in schema:
            if "maxProperties" not in schema:
                yield "object"
            yield from unbounded(schema["additionalProperties"])


@pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.__name__)
def test_every_number_and_every_list_of_the_settings_has_bounds(model: type[BaseModel]) -> None:
    found = {
        f"{model.__name__}.{name}": kinds
        for name, schema in model.model_json_schema().get("properties", {}).items()
        if (kinds := list(unbounded(schema)))
    }
    assert not found


@pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.__name__)
def test_no_setting_is_infinite_or_a_long_text_or_an_unknown_name(model: type[BaseModel]) -> None:
    config = model.model_config
    assert config.get("allow_inf_nan") is False
    assert config.get("str_max_length", 10**6) <= 1000
    assert config.get("extra") == "forbid"
    assert config.get("frozen")
