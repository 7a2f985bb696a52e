"""The arms' predictions scored twice: against the labels of the data, and against what radiologists agreed on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.adjudicated import CORRESPONDING, combined_scores, combined_targets, read_adjudicated
from data_prep.store.store import Store
from models.evaluation.auc import score
from tasks.records.study import AdjudicatedRecord, AdjudicatedScore, ArmRecord, ScoreRecord

MEAN = "mean"


def score_adjudicated(
    table: Path, store: Store, rows: np.ndarray, records: Sequence[ArmRecord], predictions: Sequence[np.ndarray]
) -> AdjudicatedRecord:
    """Score every arm on the test images `rows` that the table `table` knows, joined by image name.

    records, predictions: of the finished arms; (n, k) float32 probabilities for the n test images.

    Raises:
        DataError: the table cannot be read, knows none of the images, or speaks of findings the store has not.
    """
    truth = read_adjudicated(table)
    targets = truth.targets_of(store.images[rows])
    kept = (targets >= 0).all(axis=1)
    if not kept.any():
        raise DataError(f"{table}: none of the {len(rows):,} test images is among its {len(truth.images):,}")
    adjudicated, noisy = targets[kept], combined_targets(store.targets[rows[kept]], store.labels)
    patients = store.patients[rows[kept]]
    findings = tuple(CORRESPONDING)

    def scores(record: ArmRecord, probabilities: np.ndarray) -> list[AdjudicatedScore]:
        combined = combined_scores(probabilities[kept], store.labels)
        against = [score(labels, combined, patients, findings, record.seed) for labels in (noisy, adjudicated)]
        pairs = {finding: [each.labels[finding] for each in against] for finding in findings}
        pairs[MEAN] = [each.mean for each in against]
        return [
            AdjudicatedScore(
                method=record.method, noise=record.noise.condition(), seed=record.seed, finding=finding,
                noisy=ScoreRecord.of(first), adjudicated=ScoreRecord.of(second),
            )
            for finding, (first, second) in pairs.items()
        ]  # fmt: skip

    return AdjudicatedRecord(
        sha256=truth.sha256,
        images=int(kept.sum()),
        patients=len(np.unique(patients)),
        findings=dict(CORRESPONDING),
        positives={
            finding: (int((noisy[:, j] == 1).sum()), int((adjudicated[:, j] == 1).sum()))
            for j, finding in enumerate(findings)
        },
        scores=tuple(row for pair in zip(records, predictions, strict=True) for row in scores(*pair)),
    )
