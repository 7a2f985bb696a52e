"""Does the label trust know which labels are noisy? Held against noise that was put into the phantom.

    python -m benchmarks.label_trust [--masks 30] [--epochs 3] [--noise random|shuffled] [--data FOLDER]

Each mask gives every label a noise rate of its own, uniform in 0..0.5, in training and validation labels alike: a
user's are noisy in both. A conv4 is trained on them, and each label's noise is then guessed from the noisy labels,
the features and the network's validation losses. No clean label is read. Printed per guess: Spearman's rank
correlation with the true rates over the labels of a mask (mean over masks, with a 95 % bootstrap interval over
masks) and over all labels of all masks; for those on the scale of a rate also their error.

    trust            models.weighting.label_trust
    -||theta_i||     strength by Algorithm 2 (scaling effect), negated
    -||theta_i|| u   the same with scaling unit
    validation loss  per label, nats, noisy validation labels
    relative loss    the same over the entropy of the label's prevalence
    prevalence       share of 1 among the noisy labels: it says much where coins replace rare findings

Measured (random noise, 30 masks, 9 minutes of a shared processor): trust 0.93 (0.92 to 0.94), -||theta_i|| 0.48,
validation loss 0.83, prevalence 0.86; trust's intervals hold the true rate in 90 % of labels instead of 95 %.

--data: where the phantom is rendered to, or lies from a former run; without it a temporary folder.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from data_prep.labels.splits import SplitSettings, make_split
from data_prep.noise.registry import RandomNoise, ShuffledNoise, draw_noise
from data_prep.phantom.dataset import PhantomSettings, write_phantom
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.store import Store
from models.data.image_batches import Examples, examples
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit, predict
from models.weighting.label_trust import LabelTrust, ReplacedBy, label_trust
from models.weighting.registry import UniformSettings, make_weighting
from models.weighting.svd import Theta

NOISE = {"random": RandomNoise, "shuffled": ShuffledNoise}
REPLACED_BY: dict[str, ReplacedBy] = {"random": "coin", "shuffled": "prevalence"}
RATES = ("trust", "prevalence")  # the guesses on the scale of a rate that are worth an error


def store_of(folder: Path, patients: int) -> Store:
    """Open the phantom's store below the folder; make it first where it is missing."""
    settings = PhantomSettings(patients=patients, size=64)
    write_phantom(settings, folder / "phantom", workers=1, progress=lambda done, total: None)
    return build_store(FolderSource.open(folder / "phantom"), folder / "store", 64, key=b"")


def noisy_targets(store: Store, rates: NDArray, kind: str, seed: int) -> NDArray:
    """All targets, (n, k) int8, with noise on every label at its own rate."""
    targets = np.array(store.targets)
    for label, rate in zip(store.labels, rates, strict=True):
        settings = NOISE[kind](rate=float(rate), labels=(label,))
        targets = draw_noise(settings, targets, store.labels, seed).targets
    return targets


def guesses(
    store: Store, targets: NDArray, train_rows: NDArray, val_rows: NDArray, kind: str, epochs: int, seed: int
) -> tuple[dict[str, NDArray], LabelTrust]:
    """Every guess at the labels' noise, (k,) each, after a training on noisy labels."""
    train, val = (_part(store, rows, targets[rows]) for rows in (train_rows, val_rows))
    network = initial_network(NetworkSettings(), store.labels, train.pixels[:, 0], seed=seed)
    rule = make_weighting(UniformSettings(), len(store.labels))
    fit(network, rule, train, val, TrainingSettings(epochs=epochs), seed=seed, device="cpu")
    features, y = _features(network, train.pixels), train.targets
    trust = label_trust(
        features.numpy(), y.numpy(), store.patients[train_rows], replaced_by=REPLACED_BY[kind]
    )  # fmt: skip
    theta = Theta().add(features, y, y >= 0)
    loss, entropy = _validation_loss(predict(network, val.pixels).double(), val.targets)
    strength = {scaling: -theta.matrix(scaling).norm(dim=0).numpy() for scaling in ("effect", "unit")}
    return {
        "trust": np.array(trust.noise),
        "-||theta_i||": strength["effect"],
        "-||theta_i|| u": strength["unit"],
        "validation loss": loss,
        "relative loss": loss / entropy,
        "prevalence": (y == 1).double().mean(0).numpy(),
    }, trust


def _part(store: Store, rows: NDArray, targets: NDArray) -> Examples:
    return examples(store.pixels[rows], targets, hashed_patients(store.population, store.patients[rows]))


def _features(network: MultiTaskNetwork, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network.features(part).double() for part in pixels.split(256)])


def _validation_loss(p: Tensor, y: Tensor) -> tuple[NDArray, NDArray]:
    """Binary cross-entropy per label, and that of its prevalence, (k,) each, nats; all labels known."""
    p, target = p.clamp(1e-7, 1 - 1e-7), y.double()
    base = target.mean(0).clamp(1e-7, 1 - 1e-7)
    loss = -(target * p.log() + (1 - target) * (1 - p).log()).mean(0)
    return loss.numpy(), -(base * base.log() + (1 - base) * (1 - base).log()).numpy()


def masks(store: Store, kind: str, count: int, epochs: int) -> Iterator[tuple[NDArray, dict[str, NDArray], LabelTrust]]:
    """Return true rates (k,), guesses and trust of each mask; a new split and new initial weights for each."""
    for seed in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(b"label trust rates")))
        rates = rng.uniform(0, 0.5, len(store.labels))
        split = make_split(SplitSettings(seed=seed), store.images, store.patients)
        targets = noisy_targets(store, rates, kind, seed)
        yield rates, *guesses(store, targets, split.train, split.val, kind, epochs, seed)


def summary(truth: list[NDArray], guessed: list[NDArray]) -> dict[str, Any]:
    """Rank correlations of one guess with the truth over the masks."""
    per_mask = np.array([spearmanr(a, b).statistic for a, b in zip(guessed, truth, strict=True)])
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"bootstrap over masks")))
    drawn = per_mask[rng.integers(0, len(per_mask), (10_000, len(per_mask)))].mean(axis=1)
    pooled = spearmanr(np.concatenate(guessed), np.concatenate(truth)).statistic
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return {"mean": float(per_mask.mean()), "lo": float(lo), "hi": float(hi), "pooled": float(pooled)}


def main() -> None:
    """Print a table, and JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=30, help="number of noise masks, each with a training")
    parser.add_argument("--epochs", type=int, default=3, help="of each training")
    parser.add_argument("--noise", choices=tuple(NOISE), default="random", help="what replaces a label")
    parser.add_argument("--patients", type=int, default=1400, help="of the phantom, about 2.8 images each")
    parser.add_argument("--data", type=Path, help="folder of the phantom and its store")
    given = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        store = store_of(given.data or Path(temporary), given.patients)
        runs = []
        for run in masks(store, given.noise, given.masks, given.epochs):
            runs.append(run)
            print(f"mask {len(runs)} of {given.masks}, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        report(runs, store, given, begun)


def report(
    runs: list[tuple[NDArray, dict[str, NDArray], LabelTrust]], store: Store, given: argparse.Namespace, begun: float
) -> None:
    """Print what the masks gave."""
    truth = [rates for rates, _, _ in runs]
    rows = {name: summary(truth, [found[name] for _, found, _ in runs]) for name in runs[0][1]}
    print(f"{given.noise} noise, {len(runs)} masks, {len(store.pixels)} images, {given.epochs} epochs")
    print(f"{'guess':16} {'rank correlation, 95 % interval':>32} {'all masks':>10} {'rms error':>10}")
    for name, row in rows.items():
        if name in RATES:
            errors = np.concatenate([found[name] - rates for rates, found, _ in runs])
            row["rms_error"] = float(np.sqrt((errors**2).mean()))
        error = f"{row['rms_error']:10.3f}" if "rms_error" in row else ""
        print(f"{name:16} {row['mean']:14.3f} ({row['lo']:6.3f} to {row['hi']:6.3f}) {row['pooled']:10.3f} {error}")
    covered = np.mean([(np.array(t.lo) <= rates) & (rates <= np.array(t.hi)) for rates, _, t in runs])
    width = np.mean([np.array(t.hi) - np.array(t.lo) for _, _, t in runs])
    print(
        f"trust's 95 % intervals hold the true rate in {covered:.1%} of {truth[0].size * len(runs)}; width {width:.3f}"
    )
    print(f"{'last mask':20} {'true':>6} {'trust':>6}  interval")
    for line in runs[-1][2].table(store.labels):
        rate = truth[-1][store.labels.index(line["label"])]
        print(f"{line['label']:20} {rate:6.2f} {line['noise']:6.2f}  {line['lo']:.2f} to {line['hi']:.2f}")
    seconds = time.perf_counter() - begun
    print(json.dumps({"noise": given.noise, "rows": rows, "coverage": covered, "seconds": round(seconds)}))


if __name__ == "__main__":
    main()
