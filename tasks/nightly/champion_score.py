"""The champion's score on the same patients over all nights: the validation patients of the series' first night.

A hashed split leaves these patients in validation for ever, so no network of the series is trained on them, and the
scores of two nights, and of two champions, are comparable.
"""

from collections.abc import Mapping
from datetime import date

import numpy as np

from data_prep.labels.splits import Split
from data_prep.store.store import Store
from models.evaluation.auc import score
from tasks.images.promotion import ChampionScores
from tasks.nightly.records import ChampionRecord
from tasks.records.scores import score_records


def score_on_first_night(
    champion: ChampionScores, store: Store, split: Split, arrivals: Mapping[str, date]
) -> ChampionRecord:
    """Score the champion on the validation images of the first night; the others, and the test part, are not looked at.

    Args:
        champion: its probabilities for all images of the store.
        store: the images and labels.
        split: of the store.
        arrivals: when each image was first seen.
    """
    first = min(arrivals[image] for image in store.images.tolist())
    rows = np.array([row for row in split.val.tolist() if arrivals[str(store.images[row])] == first], dtype=np.int64)
    columns = [store.labels.index(label) for label in champion.labels]
    patients = store.patients[rows]
    evaluation = score(store.targets[rows][:, columns], champion.probabilities[rows], patients, champion.labels)
    _, mean = score_records(evaluation)
    return ChampionRecord(version=champion.version, mean=mean, patients=len(np.unique(patients)))
