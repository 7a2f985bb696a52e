"""The base of all records, immutable parts of a results file, and how such a file is written."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.run_folder import write_config

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Record(BaseModel):
    """A part of a results file: immutable, with known keys and finite numbers only."""

    # 'constants': a NaN inside the free-form config reaches the writer, which rejects it, instead of becoming null
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True, ser_json_inf_nan="constants"
    )


def write_results(results: Record, path: Path) -> None:
    """Write a results.json atomically, so that a reader never sees a part of a file, and config.yaml beside it.

    Raises:
        ValueError: a number in the results is not finite.
    """
    content = results.model_dump(mode="json")
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_config(content["config"], path.parent)
    write_atomically(path, (text + "\n").encode())
