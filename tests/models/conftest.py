"""What several tests of models share."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray


class Predictions(NamedTuple):
    """targets: (n, k) int8. probabilities: (n, k) float64. patients: (n,)."""

    labels: list[str]
    targets: NDArray[np.int8]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.int64]


@pytest.fixture(scope="session")
def real_predictions(shared_data: Path) -> Predictions:
    """A published network's predictions for ChestX-ray14's test images (22,433 of them), 14 labels."""
    predictions = pd.read_csv(shared_data / "nih" / "chexnet_test_predictions.csv.gz")
    table = pd.read_csv(shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz").set_index("Image Index")
    table = table.loc[predictions["Image Index"]]
    labels = [column.removeprefix("prob_") for column in predictions.columns[1:]]
    findings = table["Finding Labels"].str.split("|").map(set)
    targets = np.array([[label in found for label in labels] for found in findings], dtype=np.int8)
    return Predictions(labels, targets, predictions.iloc[:, 1:].to_numpy(), table["Patient ID"].to_numpy())
