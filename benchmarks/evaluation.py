"""Time and accuracy of AUCs with all their intervals at ChestX-ray14's scale.

Compares the values with scikit-learn's and torchmetrics'.

    python -m benchmarks.evaluation [--predictions FILE --labels FILE] [--rounds 5] [--json FILE]

By default the real predictions beside the project are scored (22,433 images, 14 labels); where they are
absent, random ones of the same shape, and the output says so. Reading the tables and importing is not timed.
torchmetrics is left out where it is not installed.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.report import Spread, in_turns, parser, print_table, publish, seconds
from models.evaluation.auc import auc_per_label, score

NIH = Path(__file__).parents[2] / "shared" / "data" / "nih"


def read(predictions: Path, table: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Targets (n, k) int8, scores (n, k), patients (n,), labels, joined by image name."""
    predicted = pd.read_csv(predictions)
    rows = pd.read_csv(table).set_index("Image Index").loc[predicted["Image Index"]]
    labels = [column.removeprefix("prob_") for column in predicted.columns if column.startswith("prob_")]
    findings = rows["Finding Labels"].str.split("|").map(set)
    targets = np.array([[label in found for label in labels] for found in findings], dtype=np.int8)
    return targets, predicted[[f"prob_{label}" for label in labels]].to_numpy(), rows["Patient ID"].to_numpy(), labels


def made_up(n: int, k: int = 14, images_per_patient: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Random targets with prevalences from 0.2 to 18 %, and scores that know something about them."""
    generator = np.random.default_rng(0)
    targets = (generator.random((n, k)) < np.geomspace(0.18, 0.002, k)).astype(np.int8)
    scores = targets + generator.normal(size=(n, k))
    return targets, scores, np.arange(n) // images_per_patient, [f"label {j}" for j in range(k)]


def with_scikit_learn(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of each label, (k,)."""
    return np.array([roc_auc_score(targets[:, j], scores[:, j]) for j in range(scores.shape[1])])


def with_torchmetrics(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of each label, (k,)."""
    import torch
    from torchmetrics.functional.classification import multilabel_auroc

    found = multilabel_auroc(
        torch.from_numpy(scores), torch.from_numpy(targets).long(), num_labels=scores.shape[1], average=None
    )
    return found.numpy()


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--predictions", type=Path, default=NIH / "chexnet_test_predictions.csv.gz")
    command.add_argument("--labels", type=Path, default=NIH / "Data_Entry_2017_v2020.csv.gz")
    command.add_argument("--rounds", type=int, default=5)
    options = command.parse_args()

    real = options.predictions.is_file() and options.labels.is_file()
    targets, scores, patients, labels = read(options.predictions, options.labels) if real else made_up(22_433)
    source = options.predictions.name if real else "RANDOM numbers (no file of real predictions was found)"
    n, k = scores.shape

    ours = auc_per_label(targets, scores)
    others = {"scikit-learn": with_scikit_learn}
    if importlib.util.find_spec("torchmetrics"):
        others["torchmetrics"] = with_torchmetrics
    differences = {name: float(np.abs(ours - auc(targets, scores)).max()) for name, auc in others.items()}
    works: dict[str, Callable[[], object]] = {
        f"AUC of {k} labels and their mean, all with intervals": lambda: score(targets, scores, patients, labels),
        f"AUC of {k} labels, no interval": lambda: auc_per_label(targets, scores),
        f"{k} calls of scikit-learn's roc_auc_score, no interval": lambda: with_scikit_learn(targets, scores),
    }
    if "torchmetrics" in others:
        works["torchmetrics' multilabel_auroc, no interval"] = lambda: with_torchmetrics(targets, scores)
    times = in_turns({name: lambda work=work: seconds(work) for name, work in works.items()}, options.rounds)  # type: ignore[misc]

    print(f"{source}: {n:,} images, {k} labels, {len(np.unique(patients)):,} patients")
    print_table(("seconds", "median (quartiles)"), [(name, f"{Spread.of(t):.3f}") for name, t in times.items()])
    for name, difference in differences.items():
        print(f"largest difference from {name}'s AUC: {difference:.1e}")
    publish(
        {
            "source": source,
            "images": n,
            "labels": k,
            "seconds": {name: Spread.of(t)._asdict() for name, t in times.items()},
            "largest_auc_difference": differences,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
