"""The base class of all settings in `tasks`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from data_prep.errors import DataError
from data_prep.settings import Settings as Settings


def absolute_path(path: Path) -> Path:
    """Make a path absolute, so that it means the same in another working folder.

    Raises:
        DataError: the path names no place: a loop of links, or the home of a user whom there is not.
    """
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # pathlib raises a RuntimeError for both
        raise DataError(f"the path leads nowhere ({error}): name another one") from error


AbsolutePath = Annotated[Path, AfterValidator(absolute_path)]
"""A path that is made absolute."""


def check_model_name(name: str) -> str:
    """Return the name of a registered model.

    Raises:
        ValueError: MLflow would not take it.
    """
    if any(character in name for character in "/:'\"") or not name.strip(". "):
        raise ValueError(f"MLflow takes no model name with a slash, colon or quotation mark; got {name!r}: rename it")
    return name


ModelName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_model_name)]
"""The name of a model in MLflow's registry, which refuses some characters only when the training has ended."""
