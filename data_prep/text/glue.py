"""Five tasks of GLUE: CoLA, MRPC, QNLI, RTE and SST-2, from the official TSV files or the Hugging Face hub's tables.

GLUE does not publish the labels of its test parts, so published work compares on the dev part. Here the dev part is
the test part, and a random tenth of the training part is the validation part (in a task of pairs: a tenth of the
first sentences, with all their pairs). The TSV files do not quote: a quotation mark is a character of the sentence,
and a row ends at a line feed. Files, columns, classes: `data_prep.text.benchmarks.GLUE`.

A folder holds, for each task, the official files (``CoLA/train.tsv`` and ``CoLA/dev.tsv``), or the hub's tables
(``cola/train-00000-of-00001.parquet`` and ``cola/validation-...``); for MRPC also Microsoft's own files
(``MRPC/msr_paraphrase_train.txt`` and ``..._test.txt``).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError, did_you_mean
from data_prep.fetch.hub import manual_download
from data_prep.fetch.hub_table import read_columns
from data_prep.fetch.text_file import read_lines
from data_prep.text.benchmarks import GLUE, GLUE_REPOSITORY, GlueSet
from data_prep.text.task import TEST_SHARE, VALIDATION_SHARE, Texts, TextTask, limit_training, split_off

HUB_TRAIN, HUB_DEV = "train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"
MSR_TRAIN, MSR_TEST = "msr_paraphrase_train.txt", "msr_paraphrase_test.txt"
MSR_ROWS = (4_076, 1_725)

_Row = tuple[str, str, object]  # first sentence, second sentence or "", label as in the file


class _Part(NamedTuple):
    """A labelled part of a task, and the number of rows without a text that were skipped."""

    texts: Texts
    skipped: int

    @property
    def rows(self) -> int:
        return len(self.texts) + self.skipped


def read_glue(
    folder: Path, names: Sequence[str] = tuple(GLUE), *, seed: int, limit: int | None = None
) -> dict[str, TextTask]:
    """Read GLUE tasks.

    A task with only a dev part is split at random, and its notes say so.

    Args:
        folder: of the files.
        names: of the tasks.
        seed: of the random parts and of the choice of training sentences under a limit.
        limit: maximum number of training sentences per task; validation and test parts stay whole.

    Returns:
        Name -> task, in the order of `names`.

    Raises:
        DataError: a name is unknown; or a file is missing, damaged or in another encoding.
    """
    for name in names:
        if name not in GLUE:
            raise DataError(f"there is no GLUE task {name!r} here{did_you_mean(name, GLUE)}")
    return {name: limit_training(_read_task(folder, name, seed), limit, seed) for name in names}


def _read_task(folder: Path, name: str, seed: int) -> TextTask:
    facts = GLUE[name]
    train, dev, notes = _read_parts(folder, name, facts)
    if train is None:
        rest, test = _split_off(dev.texts, TEST_SHARE, seed, f"test {name}")
        notes.append(f"no training part found: all three parts are drawn from the {dev.rows} rows of the dev part")
    else:
        rest, test = train.texts, dev.texts
    rest, val = _split_off(rest, VALIDATION_SHARE, seed, f"validation {name}")
    skipped = dev.skipped + (train.skipped if train else 0)
    if skipped:
        notes.append(f"{skipped} rows without a text left out")
    return TextTask(name, facts.classes, facts.metrics, rest, val, test, skipped, tuple(notes))


def _split_off(texts: Texts, share: float, seed: int, purpose: str) -> tuple[Texts, Texts]:
    """Split off a part; all pairs of one first sentence go to the same part, as their labels are related."""
    return split_off(texts, share, seed, purpose, groups=None if texts.second is None else texts.first)


def _read_parts(folder: Path, name: str, facts: GlueSet) -> tuple[_Part | None, _Part, list[str]]:
    """Return the training part if there is one, the labelled part to test on, and notes on them."""
    remedy = manual_download(GLUE_REPOSITORY, [f"{name}/{table}" for table in (HUB_TRAIN, HUB_DEV)], folder, "dataset")
    hub, official = folder / name, folder / facts.folder
    read, train_path, dev_path = _read_tsv, official / "train.tsv", official / "dev.tsv"
    rows, notes = facts.rows, []
    if (hub / HUB_DEV).exists():
        read, train_path, dev_path = _read_table, hub / HUB_TRAIN, hub / HUB_DEV
    elif (official / MSR_TRAIN).exists() and not dev_path.exists():
        train_path, dev_path, rows = official / MSR_TRAIN, official / MSR_TEST, MSR_ROWS
        notes = [
            f"Microsoft's own files: tested on their test part, not on the {facts.rows[1]} pairs of GLUE's dev part"
        ]
    dev = read(dev_path, facts, remedy)
    train = read(train_path, facts, remedy) if train_path.exists() else None
    for path, part, published in ((train_path, train, rows[0]), (dev_path, dev, rows[1])):
        if part is not None and part.rows != published:
            notes.append(f"{path.name}: {part.rows} rows, the published file has {published}")
    return train, dev, notes


def _read_table(path: Path, facts: GlueSet, remedy: str) -> _Part:
    """Read a table of the hub, whose labels are numbers."""
    first, second, label = facts.hub_columns
    columns, labels = read_columns(path, [first] if second is None else [first, second], label, remedy)
    seconds = columns[1] if second is not None else [""] * len(labels)
    known = {number: number for number in range(len(facts.classes))}
    return _part(
        list(zip(columns[0], seconds, labels, strict=True)), facts, known, lambda row: f"{path}: row {row + 1}"
    )


def _read_tsv(path: Path, facts: GlueSet, remedy: str) -> _Part:
    lines = [line.split("\t") for line in read_lines(path, None, remedy)]
    header = [] if isinstance(facts.columns[0], int) else [cell.strip() for cell in lines.pop(0)]
    first, second, label = (_column(path, header, column, remedy) for column in facts.columns)
    width = len(header) or 1 + max(first, label)
    above = 2 if header else 1
    for number, cells in enumerate(lines, start=above):
        if len(cells) != width:
            raise DataError(
                f"{path}: line {number} has {len(cells)} columns instead of {width}; correct it or {remedy}"
            )
    known = facts.classes if facts.named else map(str, range(len(facts.classes)))
    rows: list[_Row] = [(cells[first], "" if second < 0 else cells[second], cells[label].strip()) for cells in lines]
    return _part(rows, facts, {given: i for i, given in enumerate(known)}, lambda row: f"{path}: line {row + above}")


def _column(path: Path, header: list[str], column: str | int | None, remedy: str) -> int:
    """Return the number of a column; -1 if the task has no such column."""
    if column is None:
        return -1
    if isinstance(column, int):
        return column
    if column not in header:
        raise DataError(f"{path}: no column {column!r}; the first line has {', '.join(header)[:200]}; {remedy}")
    return header.index(column)


def _part(rows: Sequence[_Row], facts: GlueSet, known: dict, place: Callable[[int], str]) -> _Part:
    """Check the rows and skip those without a text.

    `known` maps a label in the file to its class number; `place` returns file and line of row i, for error messages.
    """
    pairs = facts.columns[1] is not None
    kept: list[_Row] = []
    skipped = 0
    for number, (first, second, label) in enumerate(rows):
        if not first.strip() or (pairs and not second.strip()):
            skipped += 1
        elif label not in known:
            raise DataError(
                f"{place(number)} has the label {str(label)[:40]!r}; {facts.folder} has {', '.join(map(str, known))}"
            )
        else:
            kept.append((first.strip(), second.strip(), label))
    if not kept:
        raise DataError(f"{place(0)}: no row from here on has a text; check that this is the right file")
    labels = np.array([known[label] for *_, label in kept], dtype=np.int64)
    second_sentences = tuple(second for _, second, _ in kept) if pairs else None
    return _Part(Texts(tuple(first for first, *_ in kept), second_sentences, labels), skipped)
