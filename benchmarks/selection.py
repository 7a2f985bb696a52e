"""What uncertainty-based sampling prefers, and what it does to images with wrong labels: MNIST, with and without noise.

    python -m benchmarks.selection FOLDER [--seeds 10] [--epochs 10] [--images 7000] [--noise 0.4] [--backbone conv4]
                                   [--workers N] [--device auto] [--policy NAME ...] [--json FILE]

FOLDER holds MNIST's test images and labels in IDX files (t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz). These
10,000 images are split at random, once, into 7,000 for training, of which the first --images are taken, 1,000 for
validation and 2,000 for test: the figures are not comparable with published ones, which train on 60,000 others. Images
are padded to 32 px.

Every policy trains with the same seeds on the same labels, clean and with the noise: so many training labels are
replaced by another class, uniformly. The list is the paper's sixteen operations, L = 2, C = 4, S = 1, with no default
operations (a digit is not flipped). Ctrl-C ends it with the seeds that have been trained. Printed are, with 95 %
intervals over seeds (Student's t):

* chosen over drawn: how often an operation is in the chosen candidate, divided by how often it is in a candidate, from
  the second epoch on; above 1 means that the selection prefers it;
* agreement: the share of the images with wrong labels for which the network at the end of training predicts the wrong
  label, on the image as it is, less that of `composed` with the same seed; below 0: fewer wrong labels are learnt;
* test accuracy of the epoch that is best on validation, less that of `composed` with the same seed. Nothing is chosen
  by it.

Expected, from prototypes with another network: mixup's ratio above 1.1 by cross-entropy and below 1 by divergence; test
accuracy lowered by the highest loss in short trainings, and far more with wrong labels. docs/augmentation.md has what
was found.
"""

import argparse
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from benchmarks.report import parser, print_table, publish, t_interval
from data_prep.sources.idx import read_idx
from models.augmentation.operations import LISTS
from models.augmentation.policies import PolicySettings
from models.data.image_batches import Examples, examples
from models.networks.multitask import NetworkSettings, initial_network
from models.randomness import seed_for
from models.training.image_training import ACCURACY, ImageEpochReport, TrainingSettings, fit, predict
from models.training.selection import chosen_over_drawn
from models.weighting.registry import UniformSettings, make_weighting

TRAINING, VALIDATION = 7000, 1000
CLASSES = 10
LIST = {"operations": "paper"}
POLICIES: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "composed": {"kind": "composed", **LIST},
    "highest": {"kind": "uncertainty", **LIST},
    "highest, divergence": {"kind": "uncertainty", "score": "kl_divergence", **LIST},
    "highest after half": {"kind": "uncertainty", "warmup": 0.5, **LIST},
    "proportional": {"kind": "uncertainty", "selection": "proportional", **LIST},
    "lowest": {"kind": "uncertainty", "selection": "lowest", **LIST},
    "compute-matched": {"kind": "compute_matched", "of": {"kind": "composed", **LIST}},
}
BASELINE = "composed"


@dataclass(frozen=True)
class Setting:
    """What all trainings share."""

    folder: Path
    images: int
    epochs: int
    backbone: str
    device: str
    threads: int


@dataclass(frozen=True)
class Found:
    """Of one training."""

    policy: str
    noise: float
    seed: int
    accuracy: float  # test, of the best epoch on validation
    agreement: float | None  # with the wrong label, of the images that have one; None without noise
    ratios: dict[str, float]  # operation -> chosen over drawn


def read_digits(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read MNIST's test images, padded to 32 px, and their labels."""
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz")
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), read_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64)


def with_wrong_labels(labels: NDArray[np.int64], rate: float, seed: int) -> NDArray[np.int64]:
    """Replace a share of the labels by another class each, uniformly."""
    generator = np.random.default_rng(seed_for(seed, "wrong labels"))
    wrong = generator.permutation(len(labels))[: round(rate * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + generator.integers(1, CLASSES, len(wrong))) % CLASSES
    return noisy


def train(setting: Setting, policy: str, noise: float, seed: int) -> Found:
    """Train once, and look at what was chosen and learnt."""
    torch.set_num_threads(setting.threads)
    pixels, labels = read_digits(setting.folder)
    order = np.random.default_rng(seed_for(0, "split of the digits")).permutation(len(pixels))
    rows = np.split(order, [TRAINING, TRAINING + VALIDATION])
    rows[0] = rows[0][: setting.images]
    given = with_wrong_labels(labels[rows[0]], noise, seed)
    train_set = _examples(pixels[rows[0]], given, "train")
    val, test = (
        _examples(pixels[part], labels[part], name) for part, name in zip(rows[1:], ("val", "test"), strict=True)
    )
    network = initial_network(
        NetworkSettings(backbone=setting.backbone), ("digit",), train_set.pixels, seed=seed, classes=CLASSES
    )
    chosen: PolicySettings = TypeAdapter(PolicySettings).validate_python(POLICIES[policy])
    settings = TrainingSettings(epochs=chosen.epochs(setting.epochs), batch_size=100, precision="32", compile="off")
    reports: list[ImageEpochReport] = []
    last: dict[str, Any] = {}

    def on_epoch(report: ImageEpochReport, state: dict[str, Any]) -> None:
        reports.append(report)
        last.update(state)

    how: dict[str, Any] = {"seed": seed, "policy": chosen, "device": setting.device, "on_epoch": on_epoch}
    rule = make_weighting(UniformSettings(), 1)
    fit(network, rule, train_set, val, settings, metric=ACCURACY, **how)
    scored = float(ACCURACY.values(test.targets.numpy(), predict(network, test.pixels).numpy())[0])
    network.load_state_dict(last["network"])
    ratios = chosen_over_drawn(chosen, [(report.drawn, report.chosen) for report in reports[1:]])
    wrong = given != labels[rows[0]]
    predicted = predict(network, train_set.pixels).numpy().argmax(1)
    agreement = float(np.mean(predicted[wrong] == given[wrong])) if wrong.any() else None
    return Found(policy, noise, seed, scored, agreement, ratios)


def _train(trial: tuple[Setting, str, float, int]) -> Found:
    return train(*trial)


def _examples(pixels: NDArray[np.uint8], labels: NDArray[np.int64], part: str) -> Examples:
    return examples(pixels, labels[:, None], tuple(f"{part} {i}" for i in range(len(pixels))))


def show(found: Sequence[Found], noises: Sequence[float]) -> dict[str, Any]:
    """Print the tables; return what goes into the JSON."""
    by_key = {(each.policy, each.noise, each.seed): each for each in found}
    policies, seeds = list(dict.fromkeys(each.policy for each in found)), sorted({each.seed for each in found})
    record: dict[str, Any] = {}
    for noise in noises:
        rows = []
        for policy in policies:
            of_policy = [by_key[policy, noise, seed] for seed in seeds]
            base = [by_key[BASELINE, noise, seed] for seed in seeds]
            cells = [f"{100 * np.mean([each.accuracy for each in of_policy]):.2f}"]
            gained = [a.accuracy - b.accuracy for a, b in zip(of_policy, base, strict=True)]
            cells.append(_percent(t_interval(gained)) if policy != BASELINE else "")
            entry: dict[str, Any] = {"accuracy": t_interval([each.accuracy for each in of_policy])}
            entry["accuracy less composed's"] = t_interval(gained)
            if noise:
                learnt = [(a.agreement or 0) - (b.agreement or 0) for a, b in zip(of_policy, base, strict=True)]
                cells.append(
                    f"{100 * np.mean([each.agreement for each in of_policy if each.agreement is not None]):.2f}"
                )
                cells.append(_percent(t_interval(learnt)) if policy != BASELINE else "")
                entry["agreement less composed's"] = t_interval(learnt)
            rows.append([policy, *cells])
            record[f"{policy}, noise {noise:g}"] = entry
        print(f"\n{noise:.0%} wrong labels, {len(seeds)} seeds, percent:")
        heads = ["test accuracy", "less composed's"] + (["wrong labels learnt", "less composed's"] if noise else [])
        print_table(["policy", *heads], rows)
        record |= _show_ratios(by_key, policies, noise, seeds)
    return record


def _show_ratios(
    by_key: Mapping[tuple[str, float, int], Found], policies: Sequence[str], noise: float, seeds: Sequence[int]
) -> dict[str, Any]:
    selecting = [policy for policy in policies if by_key[policy, noise, seeds[0]].ratios]
    ratios = {
        policy: {
            operation.name: t_interval([by_key[policy, noise, seed].ratios[operation.name] for seed in seeds])
            for operation in LISTS["paper"]
        }
        for policy in selecting
    }
    print(f"\nchosen over drawn, {noise:.0%} wrong labels:")
    print_table(
        ["operation", *selecting],
        [[each.name, *(_ratio(ratios[policy][each.name]) for policy in selecting)] for each in LISTS["paper"]],
    )
    return {f"chosen over drawn, {policy}, noise {noise:g}": ratios[policy] for policy in selecting}


def _percent(values: tuple[float, float, float]) -> str:
    return f"{100 * values[0]:+.2f} [{100 * values[1]:+.2f}, {100 * values[2]:+.2f}]"


def _ratio(values: tuple[float, float, float]) -> str:
    return f"{values[0]:.2f} [{values[1]:.2f}, {values[2]:.2f}]"


def _options() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument("folder", type=Path)
    command.add_argument("--seeds", type=int, default=10)
    command.add_argument("--epochs", type=int, default=10)
    command.add_argument("--images", type=int, default=TRAINING, help="that are trained on")
    command.add_argument("--noise", type=float, default=0.4)
    command.add_argument("--backbone", default="conv4")
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="trainings at a time")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--policy", action="append", choices=POLICIES, help="only these, and composed")
    return command.parse_args()


def main() -> None:
    """Run the command line."""
    options = _options()
    setting = Setting(options.folder, options.images, options.epochs, options.backbone, options.device, threads=1)
    policies = [each for each in POLICIES if not options.policy or each in (*options.policy, BASELINE)]
    noises = [0.0, options.noise]
    trials = [(setting, each, noise, seed) for seed in range(options.seeds) for noise in noises for each in policies]
    found: list[Found] = []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        try:
            for each in pool.imap(_train, trials):
                found.append(each)
                print(f"\r{len(found)} of {len(trials)} trainings", end="", flush=True)
        except KeyboardInterrupt:
            print("\nstopped: the seeds that all policies have finished are shown")
    finished = len(found) // (len(noises) * len(policies)) * len(noises) * len(policies)
    record = show(found[:finished], noises)
    settings = {**vars(options), "folder": None, "json": None}
    publish({"settings": settings, **record, "trainings": [asdict(each) for each in found[:finished]]}, options.json)


if __name__ == "__main__":
    main()
