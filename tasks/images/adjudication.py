"""Score the arms' predictions twice: against the data's own labels and against radiologist-adjudicated labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.adjudicated import (
    CORRESPONDING_FINDINGS,
    AdjudicatedLabels,
    combined_scores,
    combined_targets,
    read_adjudicated,
)
from data_prep.labels.splits import Split
from data_prep.store.store import Store
from models.evaluation.auc import score
from tasks.records.arms import ArmRecord
from tasks.records.scores import ScoreRecord
from tasks.records.study import AdjudicatedRecord, AdjudicatedScore

MEAN = "mean"


def check_adjudicated(table: Path, store: Store, split: Split) -> None:
    """Check before training that the test images can be scored with a table of adjudicated labels.

    Raises:
        DataError: see `score_adjudicated`.
    """
    _adjudicated(table, store, split.test)


def _adjudicated(
    table: Path, store: Store, rows: np.ndarray
) -> tuple[AdjudicatedLabels, np.ndarray, np.ndarray, np.ndarray]:
    """Read the table; return it, the targets (a, c) of the a adjudicated images twice, and which these are."""
    labels = read_adjudicated(table)
    targets = labels.targets_of(store.images[rows])
    complete = np.asarray((targets >= 0).all(axis=1))
    if not complete.any():
        raise DataError(
            f"{table}: none of the {len(rows):,} test images has a complete row among the table's "
            f"{len(labels.images):,} images: name the table of these images, or leave out 'adjudicated'"
        )
    return labels, targets[complete], combined_targets(store.targets[rows[complete]], store.labels), complete


def score_adjudicated(
    table: Path, store: Store, rows: np.ndarray, records: Sequence[ArmRecord], predictions: Sequence[np.ndarray]
) -> AdjudicatedRecord:
    """Score every arm on the test images that were adjudicated, joined by image name.

    Args:
        table: CSV file of adjudicated labels, see `data_prep.labels.adjudicated`.
        store: the images and their own labels.
        rows: row numbers of the n test images in the store.
        records: of the finished arms.
        predictions: of the finished arms, (n, k) float32 probabilities each.

    Raises:
        DataError: the table cannot be read, has a complete row for none of the test images, or the store lacks a label
            that corresponds to an adjudicated finding.
    """
    labels, adjudicated, noisy, complete = _adjudicated(table, store, rows)
    patients = store.patients[rows[complete]]
    findings = tuple(CORRESPONDING_FINDINGS)

    def scores(record: ArmRecord, probabilities: np.ndarray) -> list[AdjudicatedScore]:
        combined = combined_scores(probabilities[complete], store.labels)
        of_noisy, of_adjudicated = (score(truth, combined, patients, findings) for truth in (noisy, adjudicated))
        pairs = {finding: (of_noisy.labels[finding], of_adjudicated.labels[finding]) for finding in findings}
        pairs[MEAN] = (of_noisy.mean, of_adjudicated.mean)
        return [
            AdjudicatedScore(
                method=record.method,
                policy=record.policy,
                condition=record.condition.shared(),
                seed=record.seed,
                finding=finding,
                noisy=ScoreRecord.of(first),
                adjudicated=ScoreRecord.of(second),
            )
            for finding, (first, second) in pairs.items()
        ]

    return AdjudicatedRecord(
        sha256=labels.sha256,
        images=int(complete.sum()),
        patients=len(np.unique(patients)),
        findings=dict(CORRESPONDING_FINDINGS),
        positives={
            finding: (int((noisy[:, j] == 1).sum()), int((adjudicated[:, j] == 1).sum()))
            for j, finding in enumerate(findings)
        },
        scores=tuple(row for pair in zip(records, predictions, strict=True) for row in scores(*pair)),
    )
