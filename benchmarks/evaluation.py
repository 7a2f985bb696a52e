"""How long AUCs with all their intervals take at ChestX-ray14's scale, and how far they are from
scikit-learn's.

    python benchmarks/evaluation.py [--predictions FILE --labels FILE] [--repeats 5] [--json FILE]

By default the real predictions beside the project are scored (22,433 images, 14 labels); where they are
absent, random ones of the same shape, and the output says so. Reading the tables and importing is not timed.
The second measurement is the larger one that a study needs: ten arms on 25,596 images, resampled jointly
(random scores; their values do not matter to the time).
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import sklearn
from sklearn.metrics import roc_auc_score

from models.evaluation import auc_per_label, score
from models.intervals import bootstrap_mean_auc

NIH = Path(__file__).parents[2] / "shared" / "data" / "nih"
RESAMPLES = 1000


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


def seconds(run: Callable[[], object], repeats: int) -> dict[str, float]:
    run()  # once to warm up
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times), "fastest": min(times), "slowest": max(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, default=NIH / "chexnet_test_predictions.csv.gz")
    parser.add_argument("--labels", type=Path, default=NIH / "Data_Entry_2017_v2020.csv.gz")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "evaluation.json")
    options = parser.parse_args()

    real = options.predictions.is_file() and options.labels.is_file()
    targets, scores, patients, labels = read(options.predictions, options.labels) if real else made_up(22_433)
    source = options.predictions.name if real else "RANDOM numbers (no file of real predictions was found)"
    n, k = scores.shape
    reference = np.array([roc_auc_score(targets[:, j], scores[:, j]) for j in range(k)])
    difference = float(np.abs(auc_per_label(targets, scores) - reference).max())

    big_targets, big_scores, big_patients, _ = made_up(25_596)
    arms = [big_scores + np.random.default_rng(arm).normal(size=big_scores.shape) for arm in range(10)]
    times = {
        f"AUC of {k} labels, {k} DeLong intervals, {RESAMPLES:,} resamples of the mean": seconds(
            lambda: score(targets, scores, patients, labels, 0, resamples=RESAMPLES), options.repeats
        ),
        f"AUC of {k} labels, no interval": seconds(lambda: auc_per_label(targets, scores), options.repeats),
        f"scikit-learn's roc_auc_score, {k} labels, no interval": seconds(
            lambda: [roc_auc_score(targets[:, j], scores[:, j]) for j in range(k)], options.repeats
        ),
        f"ten arms of 25,596 x 14, {RESAMPLES:,} joint resamples": seconds(
            lambda: bootstrap_mean_auc(big_targets, arms, big_patients, seed=0, resamples=RESAMPLES),
            max(1, options.repeats // 2),
        ),
    }
    print(f"{source}: {n:,} images, {k} labels, {len(np.unique(patients)):,} patients")
    print(f"{'seconds':68s} {'median':>8s} {'fastest':>8s} {'slowest':>8s}")
    for name, t in times.items():
        print(f"{name:68s} {t['median']:8.3f} {t['fastest']:8.3f} {t['slowest']:8.3f}")
    print(f"largest difference from scikit-learn's AUC: {difference:.1e}")

    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "source": source,
        "images": n,
        "labels": k,
        "seconds": times,
        "largest_auc_difference": difference,
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
