"""Writes predictions.csv and predictions.json row by row, so that memory does not grow with the number of files.

Until the end both have temporary names; a run that is stopped leaves the predictions of before.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tasks.prediction.records import PredictionCounts, PredictionRecord, PredictionsHead
from tasks.runtime.atomic_files import replacing
from tasks.runtime.run_folder import PREDICTIONS, write_config

TABLE = "predictions.csv"
COLUMNS = ("file", "status", "reason", "model")


class RowWriter:
    """The two files that are being written."""

    def __init__(self, table: Any, document: Any, head: PredictionsHead) -> None:
        """Begin both files, which are open for text."""
        model = head.model
        self._labels, self._model = model.labels, f"{model.name}/{model.version}"
        self._table = csv.writer(table)  # RFC 4180: only so is a name with a carriage return quoted
        self._table.writerow([*COLUMNS, *map(column_name, model.labels)])
        self._document, self._between = document, ""
        document.write(json.dumps(head.model_dump(mode="json"), indent=1)[:-2] + ',\n "files": [\n')

    def write(self, predictions: Sequence[PredictionRecord]) -> None:
        """Add rows to both files."""
        for each in predictions:
            values = [shortest(each.probabilities[label]) if each.probabilities else "" for label in self._labels]
            self._table.writerow([each.file, each.status, each.reason, self._model, *values])
            self._document.write(self._between + "  " + json.dumps(each.model_dump(mode="json")))
            self._between = ",\n"

    def end(self, counts: PredictionCounts) -> None:
        """Write what follows the rows."""
        self._document.write('\n ],\n "counts": ' + json.dumps(counts.model_dump(mode="json")) + "\n}\n")


@contextmanager
def row_writer(folder: Path, head: PredictionsHead) -> Iterator[RowWriter]:
    """Write predictions.csv, predictions.json and config.yaml into a folder, all at the end of the block.

    The table is UTF-8; what is none in a file's name stays as it is.
    """
    with ExitStack() as stack:
        temporary = [stack.enter_context(replacing(folder / name)) for name in (PREDICTIONS, TABLE)]
        with (
            temporary[0].open("w", encoding="utf-8") as for_programs,
            temporary[1].open("w", encoding="utf-8", errors="surrogateescape", newline="") as for_tables,
        ):
            yield RowWriter(for_tables, for_programs, head)
        write_config(head.config, folder)


def column_name(label: str) -> str:
    """Return the name of a label's column: the label, unless another column has that name."""
    return f"label {label}" if label in COLUMNS else label


def shortest(value: float) -> str:
    """Write a 32-bit number with the nine digits that give exactly it again."""
    return f"{value:.9g}"
