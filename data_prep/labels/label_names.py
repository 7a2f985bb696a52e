"""Names of labels: printable, not too long, and none that could be taken for another."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import DataError
from data_prep.labels.csv_table import shown

MAX_LABEL_LENGTH = 100  # characters


def check_label_names(path: Path, labels: Sequence[str]) -> None:
    """Check the names of the labels in the table at `path`.

    Raises:
        DataError: a name is empty, too long or not printable; or two are the same but for case, spaces, underscores
            or the Unicode characters that they are written with.
    """
    seen: dict[str, str] = {}
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_LENGTH:
            raise DataError(
                f"{path}: label {shown(label)} has {len(label)} characters, a label 1 to {MAX_LABEL_LENGTH}; rename it"
            )
        if not label.isprintable():
            raise DataError(f"{path}: label {shown(label)} contains characters that cannot be printed; rename it")
        folded = " ".join(unicodedata.normalize("NFKC", label).casefold().replace("_", " ").split())
        if folded in seen:
            other = seen[folded]
            raise DataError(
                f"{path}: two columns are named {shown(label)}; rename one"
                if other == label
                else f"{path}: labels {shown(other)} and {shown(label)} can be taken for one another; rename one"
            )
        seen[folded] = label
