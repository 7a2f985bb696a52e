"""Read JSON files, which may be damaged like any other."""

import json
from pathlib import Path
from typing import Any

from data_prep.regular_file import read_regular

MAX_JSON_BYTES = 2**28  # the manifest of a store that lists a million files set aside has 100 MB


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        OSError: the file cannot be read; see `read_regular`.
        ValueError: it is not JSON, not UTF-8, or nested too deeply to be read.
    """
    try:
        return json.loads(read_regular(path, MAX_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
