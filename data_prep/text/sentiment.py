"""Six sentence classification sets: MR, SST, SUBJ, CR, MPQA and TREC.

One ``label text`` per line, see `data_prep.text.benchmarks.SENTIMENT`. Protocol (Kim, EMNLP 2014, section 3): the
official parts where there are some (SST's validation and test parts, TREC's test part). Otherwise a random tenth of
all sentences, or one of ten folds, is the test part; and a random tenth of the rest is the validation part.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import DataError, did_you_mean
from data_prep.fetch.remote_file import RemoteFile
from data_prep.fetch.text_file import read_lines
from data_prep.text.benchmarks import SENTIMENT, SentimentSet, manual_download
from data_prep.text.overlap import count_overlap, remove_overlap
from data_prep.text.task import TEST_SHARE, VALIDATION_SHARE, Texts, TextTask, limit_training, split_off, split_off_fold


def read_sentiment(
    folder: Path,
    names: Sequence[str] = tuple(SENTIMENT),
    *,
    seed: int,
    limit: int | None = None,
    fold: tuple[int, int] | None = None,
    keep_overlap: bool = False,
) -> dict[str, TextTask]:
    """Read sentence sets.

    Args:
        folder: of the files.
        names: of the sets.
        seed: of the random parts and of the choice of training sentences under a limit.
        limit: maximum number of training sentences per task; validation and test parts stay whole.
        fold: (i, number of folds): if there is no official test part, test on fold i instead of a random tenth.
        keep_overlap: keep training sentences that are in the validation or test part of another of these tasks.

    Returns:
        Name -> task, in the order of `names`.

    Raises:
        DataError: a name is unknown; or a file is missing, damaged or in another encoding.
    """
    for name in names:
        if name not in SENTIMENT:
            raise DataError(f"there is no sentence set {name!r}{did_you_mean(name, SENTIMENT)}")
    tasks = {name: _read_task(folder, name, seed, fold) for name in names}
    if not keep_overlap:
        tasks = remove_overlap(tasks)
    return {name: limit_training(task, limit, seed) for name, task in tasks.items()}


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
    if repeated := count_overlap(test, (train, val)).sentences:
        notes.append(
            f"{repeated} of {len(test)} test sentences are also in the training or validation part, as in the "
            "literature"
        )
    return TextTask(name, facts.classes, ("accuracy",), train, val, test, skipped, tuple(notes))


def _read_file(path: Path, file: RemoteFile, facts: SentimentSet) -> tuple[Texts, int]:
    """Return the sentences of a file, and the number of lines without a sentence."""
    classes = {str(label): label for label in range(len(facts.classes))}
    texts: list[str] = []
    labels: list[int] = []
    skipped = 0
    for number, line in enumerate(read_lines(path, facts.fallback, manual_download(path, file)), start=1):
        label, _, text = line.partition(" ")
        if not text.strip():
            skipped += 1
        elif label not in classes:
            raise DataError(
                f"{path}: line {number} begins with {label[:20]!r}; a line is LABEL TEXT with a label of "
                f"{', '.join(classes)}: correct it or {manual_download(path, file)}"
            )
        else:
            texts.append(text.strip())
            labels.append(classes[label])
    if not texts:
        raise DataError(f"{path}: no line has a text; {manual_download(path, file)}")
    return Texts(tuple(texts), None, np.array(labels, dtype=np.int64)), skipped
