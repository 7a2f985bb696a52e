"""The six sentence sets of the multi-task experiments: MR, SST, SUBJ, CR, MPQA and TREC.

One ``label text`` a line, see `text_benchmarks.SENTIMENT`. Protocol (Kim, EMNLP 2014, section 3): the official parts
where there are some (SST's validation and test parts, TREC's test part); else a random tenth of the training part for
validation, and before it a tenth of all for testing, or one of ten folds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import DataError, did_you_mean
from data_prep.fetch.remote_file import RemoteFile
from data_prep.fetch.text_file import read_lines
from data_prep.text.benchmarks import SENTIMENT, SentimentSet, by_hand
from data_prep.text.overlap import shared_sentences, without_overlap
from data_prep.text.task import TEST_SHARE, VALIDATION_SHARE, Texts, TextTask, capped, split_off, split_off_fold


def read_sentiment(
    folder: Path,
    names: Sequence[str] = tuple(SENTIMENT),
    *,
    seed: int,
    limit: int | None = None,
    fold: tuple[int, int] | None = None,
    keep_overlap: bool = False,
) -> dict[str, TextTask]:
    """Read the sets `names` from `folder`: name -> task, in the order asked for.

    seed: what the random parts and the limited training sentences are drawn with.
    limit: at most so many training sentences a task; validation and test parts stay whole.
    fold: (i, of): where there is no official test part, test on fold i of `of` instead of a random tenth.
    keep_overlap: leave in the training parts what others of these tasks are validated or tested on.

    Raises DataError for an unknown name and for a file that is missing, broken or in another encoding.
    """
    for name in names:
        if name not in SENTIMENT:
            raise DataError(f"there is no sentence set {name!r}{did_you_mean(name, SENTIMENT)}")
    tasks = {name: _read_task(folder, name, seed, fold) for name in names}
    if not keep_overlap:
        tasks = without_overlap(tasks)
    return {name: capped(task, limit, seed) for name, task in tasks.items()}


def _read_task(folder: Path, name: str, seed: int, fold: tuple[int, int] | None) -> TextTask:
    facts = SENTIMENT[name]
    skipped, notes = 0, []
    parts = {}
    for file, rows in zip(facts.files, facts.rows, strict=True):
        texts, without_text = _read_file(folder / file.name, file, facts)
        skipped += without_text
        parts[file.name] = texts
        if (lines := len(texts) + without_text) != rows:
            notes.append(f"{file.name}: {lines} lines, the published file has {rows}")
    if skipped:
        notes.append(f"{skipped} lines without a text left out")
    train = parts[facts.train.name]
    if facts.test is not None:
        test = parts[facts.test.name]
    elif fold is not None:
        train, test = split_off_fold(train, fold, seed, f"folds {name}")
    else:
        train, test = split_off(train, TEST_SHARE, seed, f"test {name}")
    if facts.val is not None:
        val = parts[facts.val.name]
    else:
        train, val = split_off(train, VALIDATION_SHARE, seed, f"validation {name}")
    if repeated := shared_sentences(test, (train, val)).sentences:
        notes.append(
            f"{repeated} of {len(test)} test sentences also stand in its own other parts, as in the literature"
        )
    return TextTask(name, facts.classes, ("accuracy",), train, val, test, skipped, tuple(notes))


def _read_file(path: Path, file: RemoteFile, facts: SentimentSet) -> tuple[Texts, int]:
    """Return the sentences of a file and the number of lines without one."""
    classes = {str(label): label for label in range(len(facts.classes))}
    texts: list[str] = []
    labels: list[int] = []
    skipped = 0
    for number, line in enumerate(read_lines(path, facts.fallback, by_hand(path, file)), start=1):
        label, _, text = line.partition(" ")
        if not text.strip():
            skipped += 1
        elif label not in classes:
            raise DataError(
                f"{path}: line {number} begins with {label[:20]!r}; a line is LABEL TEXT with a label of "
                f"{', '.join(classes)}: mend it, or {by_hand(path, file)}"
            )
        else:
            texts.append(text.strip())
            labels.append(classes[label])
    if not texts:
        raise DataError(f"{path}: no line has a text; {by_hand(path, file)}")
    return Texts(tuple(texts), None, np.array(labels, dtype=np.int64)), skipped
