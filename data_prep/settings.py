"""The base class of all settings in `data_prep`, and the bounds that all settings keep."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_TEXT = 1000
"""Longest text of a setting, in characters."""

MAX_PATH = 4095
"""Longest path, in characters: Linux opens none that is longer."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A seed that the user sets. Every random generator takes 32 bits, and the seeds that are counted up from it stay below
2**53: to there JSON, SQLite and the pages of Prefect and MLflow hold whole numbers exactly."""

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, ends of lines


class Settings(BaseModel):
    """Settings that cannot be changed after they are created, and that reject unknown names.

    Numbers are finite, texts are short and printable: they go into file names, databases, figures and one-line errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=MAX_TEXT)

    @field_validator("*")
    @classmethod
    def _texts_are_printable(cls, value: Any) -> Any:
        for text in _texts(value):
            bad = next((character for character in text if unicodedata.category(character) in _UNPRINTABLE), None)
            if bad is not None:
                raise ValueError(f"a setting has no control characters; got {bad!a} in it: remove it")
            if len(text) > MAX_PATH:
                raise ValueError(f"a path has at most {MAX_PATH} characters; got {len(text)}: move the files")
        return value


class Named(Protocol):
    """What has a name, such as a noise model, a method or a policy."""

    @property
    def name(self) -> str:
        """The name."""


NamedT = TypeVar("NamedT", bound=Named)


def named_once(entries: tuple[NamedT, ...]) -> tuple[NamedT, ...]:
    """Return the entries of a list of settings after checking that no two have one name.

    Raises:
        ValueError: two have.
    """
    names = [each.name for each in entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))} is named twice in {', '.join(names)}; name each once")
    return entries


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts and paths in a value and in its lists; nested settings have checked their own."""
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _texts(tuple(value))
    elif isinstance(value, Iterable) and not isinstance(value, BaseModel):
        for each in value:
            yield from _texts(each)
