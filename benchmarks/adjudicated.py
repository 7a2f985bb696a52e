"""A model trained on noisy labels, scored against them and against what radiologists agreed on.

    python benchmarks/adjudicated.py [--predictions FILE] [--labels FILE] [--adjudicated FILE] [--json FILE]

By default the real predictions of a retrained CheXNet beside the project (its 70/10/20 test set), at the 935 images
that were adjudicated. Which findings correspond: `data_prep.labels.adjudicated.CORRESPONDING_FINDINGS`. A union's
score is the highest probability among its findings. Intervals: 95 %, over patients.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_prep.labels.adjudicated import CORRESPONDING_FINDINGS, combined_scores, combined_targets, read_adjudicated
from data_prep.labels.table import read_cells, read_labels
from models.evaluation.auc import Score, score

NIH = Path(__file__).parents[2] / "shared" / "data" / "nih"
_PREFIX = "prob_"


def interval(found: Score) -> str:
    """Format a score with its interval, or say why there is none."""
    if found.value is None:
        return f"none: {found.reason}"
    return f"{found.value:.3f} [{found.lo:.3f}, {found.hi:.3f}]"


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two (n,) arrays of 0 and 1."""
    agreed, expected = np.mean(a == b), np.mean(a) * np.mean(b) + np.mean(1 - a) * np.mean(1 - b)
    return float((agreed - expected) / (1 - expected))


def main() -> None:
    """Run the benchmark; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, default=NIH / "chexnet_test_predictions.csv.gz")
    parser.add_argument("--labels", type=Path, default=NIH / "Data_Entry_2017_v2020.csv.gz")
    parser.add_argument("--adjudicated", type=Path, default=NIH / "google2019_nih-chest-xray-labels.csv.gz")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "adjudicated.json")
    options = parser.parse_args()

    header, cells, _ = read_cells(options.predictions)
    columns = [j for j, name in enumerate(header) if name.startswith(_PREFIX)]
    names = [header[j].removeprefix(_PREFIX) for j in columns]
    images = [row[header.index("Image Index")] for row in cells]
    truth = read_adjudicated(options.adjudicated).targets_of(images)
    kept = np.flatnonzero((truth >= 0).all(axis=1))
    truth = truth[kept]
    scores = combined_scores(np.array([[float(cells[i][j]) for j in columns] for i in kept]), names)

    table = read_labels(options.labels)
    row_of = {image: row for row, image in enumerate(table.images.tolist())}
    rows = np.array([row_of[images[i]] for i in kept])
    noisy = combined_targets(table.targets[rows], table.labels)
    findings = list(CORRESPONDING_FINDINGS)
    by_noisy = score(noisy, scores, table.patients[rows], findings)
    by_truth = score(truth, scores, table.patients[rows], findings)

    print(f"{len(kept):,} of {len(images):,} predicted images are adjudicated, "
          f"{len(np.unique(table.patients[rows])):,} patients")  # fmt: skip
    line = "{:18s} {:>12s} {:>12s} {:>6s}   {:24s} {:24s}"
    print(line.format("finding", "noisy pos.", "adjud. pos.", "kappa", "AUC, noisy labels", "AUC, adjudicated labels"))
    record = {}
    for j, finding in enumerate(findings):
        agreement = kappa(noisy[:, j], truth[:, j])
        positives = int(noisy[:, j].sum()), int(truth[:, j].sum())
        against = by_noisy.labels[finding], by_truth.labels[finding]
        print(line.format(finding, *map(str, positives), f"{agreement:.2f}", *map(interval, against)))
        record[finding] = {
            "findings": CORRESPONDING_FINDINGS[finding],
            "positives": dict(zip(("noisy", "adjudicated"), positives, strict=True)),
            "kappa": agreement,
            "auc": {"noisy": asdict(against[0]), "adjudicated": asdict(against[1])},
        }
    print(line.format("mean", "", "", "", interval(by_noisy.mean), interval(by_truth.mean)))
    record["mean"] = {"auc": {"noisy": asdict(by_noisy.mean), "adjudicated": asdict(by_truth.mean)}}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"images": len(kept), "findings": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
