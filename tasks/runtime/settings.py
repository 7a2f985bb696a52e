"""The base class of all settings in `tasks`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]
"""A path that is made absolute, so that it means the same in another working folder."""


class Settings(BaseModel, frozen=True, extra="forbid"):
    """Settings that cannot be changed after they are created, and that reject unknown names."""
