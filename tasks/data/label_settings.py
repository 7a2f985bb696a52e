"""Which table holds the labels, and which of its columns are labels."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from tasks.runtime.settings import AbsolutePath, Settings

MAX_LABELS = 1000


class LabelSettings(Settings):
    """The label table of a run."""

    table: AbsolutePath | None = Field(None, description="the label table, if it is not in the folder")
    columns: tuple[str, ...] = Field(
        (),
        max_length=MAX_LABELS,
        description="the columns that are labels; none: NIH's form, or every column that is unmistakably a label",
    )

    @model_validator(mode="before")
    @classmethod
    def _table_alone(cls, given: Any) -> Any:
        """Read the configs of older versions, in which this setting was the path of the table, or nothing."""
        if given is None or isinstance(given, cls | Mapping):
            return given or {}
        return {"table": given}
