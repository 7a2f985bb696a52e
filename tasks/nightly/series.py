"""The series of a model's nights: one folder a night, `results.json` in each, and a page over all of them."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_prep.json_file import read_json
from tasks.nightly.records import NightResults
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import RESULTS

_NIGHT = re.compile(r"\d{4}-\d\d-\d\d")


def read_nights(series: Path) -> list[NightResults]:
    """Read the results of all nights in a series' folder, in their order; one that cannot be read is said and left."""
    nights = []
    for file in sorted(series.glob(f"*/{RESULTS}")):
        if not _NIGHT.fullmatch(file.parent.name):
            continue
        try:
            nights.append(NightResults.model_validate(read_json(file)))
        except (OSError, ValueError, ValidationError):
            LOGGER.info("series: %s cannot be read; that night is left out of the page of the series", file)
    return sorted(nights, key=lambda results: results.night)


def earlier_nights(series: Path, night: date) -> list[NightResults]:
    """Read the results of the nights before a night, in their order."""
    return [results for results in read_nights(series) if results.night < night]


def reference_end(earlier: Sequence[NightResults], champion: str | None) -> date | None:
    """Return the last night of the reference period, with which new images are compared.

    It is the night that trained the champion: the champion was judged on the patients who had come by then. Where no
    night of the series trained it, it is the first night.

    Args:
        earlier: nights of the series, in their order.
        champion: its version; None if there is none.

    Returns:
        The night; None if there is no earlier night.
    """
    trained = [night.night for night in earlier if champion is not None and night.challenger_version == champion]
    return next(iter(trained or [night.night for night in earlier]), None)


def is_unchanged(earlier: Sequence[NightResults], fingerprint: str, config: Mapping[str, Any]) -> bool:
    """Tell whether the last night had these images, labels and settings, so that a challenger would be the same.

    Args:
        earlier: nights of the series, in their order.
        fingerprint: of the store.
        config: the settings, but for the date of the night.
    """

    def without_date(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name != "night"}

    last = earlier[-1] if earlier else None
    return (
        last is not None and last.data.fingerprint == fingerprint and without_date(last.config) == without_date(config)
    )
