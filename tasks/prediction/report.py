"""The page of a prediction, with pictures; it names files by their row, since a name may be a patient's."""

import json
from pathlib import Path

import numpy as np

from tasks.prediction.examples import Examples
from tasks.prediction.records import PredictionCounts, PredictionsHead
from tasks.reporting.page import write_page
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import REPORT


def report_predictions(head: PredictionsHead, counts: PredictionCounts, examples: Examples, folder: Path) -> Path:
    """Write report.html into a folder, and return its path.

    Args:
        head: of predictions.json.
        counts: what became of the files.
        examples: pictures with their predictions.
        folder: for the page.
    """
    chosen = examples.chosen()
    pixels = np.stack([each for each, _ in chosen]) if chosen else np.empty((0, 1, 1), np.uint8)
    settings = {name: value for name, value in head.config.items() if name != "files"}  # a path may name a patient
    contents = {
        "head": head,
        "counts": counts,
        "highest": {label: (each.row, each.probability(label)) for label, each in examples.highest.items()},
        "all_shown": examples.are_all,
        "config": json.dumps(settings, indent=2, ensure_ascii=False),
    }
    page = write_page("predictions.html.j2", contents, (pixels, [caption for _, caption in chosen]), folder / REPORT)
    LOGGER.info("report: %s", page)
    return page
