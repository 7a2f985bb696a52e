"""Does the label trust know which labels are noisy? Held against noise that was put into the phantom.

    python -m benchmarks.label_trust [--masks 30] [--epochs 4 8 16] [--noise random|shuffled] [--phantom-seed 0]
                                     [--patients 1400] [--data FOLDER] [--json FILE]

Each mask gives every label a noise rate of its own, uniform in 0..0.5, in training and validation labels alike: a
user's are noisy in both. A conv4 is trained on them, and two more for cross-fitted features; each label's noise is then
guessed from the noisy labels, the features and the network's validation losses. No clean label is read. Printed per
guess: Spearman's rank correlation with the true rates over the labels of a mask (mean over masks, with a 95 % bootstrap
interval over masks) and over all labels of all masks; for those on the scale of a rate also their error.

    trust            models.weighting.label_trust, from cross-fitted features
    trust in sample  the same from the features of the network that was trained on all images
    -||theta_i||     strength by Algorithm 2 (scaling effect), negated
    -||theta_i|| u   the same with scaling unit
    validation loss  per label, nats, noisy validation labels
    relative loss    the same over the entropy of the label's prevalence
    prevalence       share of 1 among the noisy labels: it says much where coins replace rare findings

Then, of trust's 95 % intervals: how many hold the true rate, and on which side it lies where they do not, by the length
of the training and by the true rate. Several lengths take turns, mask by mask: a long training learns labels by heart,
which hides noise in sample.

--data: where the phantom is rendered to, or lies from a former run; without it a temporary folder.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.phantom_store import part, phantom_store
from benchmarks.report import parser, print_table, publish
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.noise.registry import RandomNoise, ShuffledNoise, draw_noise
from data_prep.store.store import Store
from models.networks.multitask import NetworkSettings, initial_network
from models.training.cross_fit import cross_fit
from models.training.image_training import TrainingSettings, feature_pass, fit, predict
from models.weighting.feature_weights import join_batches
from models.weighting.label_trust import LabelTrust, ReplacedBy
from models.weighting.registry import UniformSettings, make_weighting
from models.weighting.svd import Theta
from models.weighting.trust import estimate_trust

NOISE = {"random": RandomNoise, "shuffled": ShuffledNoise}
REPLACED_BY: dict[str, ReplacedBy] = {"random": "coin", "shuffled": "prevalence"}
RATES = ("trust", "trust in sample", "prevalence")  # the guesses on the scale of a rate that are worth an error


class Mask(NamedTuple):
    """A noise mask and what was guessed about it."""

    epochs: int
    rates: NDArray  # true, (k,)
    guesses: dict[str, NDArray]  # (k,) each
    trust: LabelTrust


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
    train, val = (part(store, rows, targets[rows]) for rows in (train_rows, val_rows))
    network = initial_network(NetworkSettings(), store.labels, train.pixels[:, 0], seed=seed, targets=train.targets)
    settings, replaced_by = TrainingSettings(epochs=epochs), REPLACED_BY[kind]
    cross_fitted = cross_fit(network, train, val, settings, seed=seed, device="cpu")
    trust = estimate_trust(join_batches(cross_fitted(None)), replaced_by)
    fit(network, make_weighting(UniformSettings(), len(store.labels)), train, val, settings, seed=seed, device="cpu")
    in_sample = join_batches(feature_pass(network, train, seed)(None))
    features, y = in_sample.features, in_sample.targets
    theta = Theta().add(features, y, y >= 0)
    loss, entropy = _validation_loss(predict(network, val.pixels).double(), val.targets)
    strength = {scaling: -theta.matrix(scaling).norm(dim=0).numpy() for scaling in ("effect", "unit")}
    return {
        "trust": np.array(trust.noise),
        "trust in sample": np.array(estimate_trust(in_sample, replaced_by).noise),
        "-||theta_i||": strength["effect"],
        "-||theta_i|| u": strength["unit"],
        "validation loss": loss,
        "relative loss": loss / entropy,
        "prevalence": (y == 1).double().mean(0).numpy(),
    }, trust


def _validation_loss(p: Tensor, y: Tensor) -> tuple[NDArray, NDArray]:
    """Binary cross-entropy per label, and that of its prevalence, (k,) each, nats; all labels known."""
    p, target = p.clamp(1e-7, 1 - 1e-7), y.double()
    base = target.mean(0).clamp(1e-7, 1 - 1e-7)
    loss = -(target * p.log() + (1 - target) * (1 - p).log()).mean(0)
    return loss.numpy(), -(base * base.log() + (1 - base) * (1 - base).log()).numpy()


def masks(store: Store, kind: str, count: int, lengths: list[int]) -> Iterator[Mask]:
    """Yield the masks; a new split and new initial weights for each, and the lengths of training in turns."""
    for seed in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(b"label trust rates")))
        rates = rng.uniform(0, 0.5, len(store.labels))
        split = make_split(SplitSettings(seed=seed), store.images, store.patients)
        targets = noisy_targets(store, rates, kind, seed)
        epochs = lengths[seed % len(lengths)]
        yield Mask(epochs, rates, *guesses(store, targets, split.train, split.val, kind, epochs, seed))


def summary(truth: list[NDArray], guessed: list[NDArray]) -> dict[str, Any]:
    """Rank correlations of one guess with the truth over the masks."""
    per_mask = np.array([spearmanr(a, b).statistic for a, b in zip(guessed, truth, strict=True)])
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"bootstrap over masks")))
    drawn = per_mask[rng.integers(0, len(per_mask), (10_000, len(per_mask)))].mean(axis=1)
    pooled = spearmanr(np.concatenate(guessed), np.concatenate(truth)).statistic
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return {"mean": float(per_mask.mean()), "lo": float(lo), "hi": float(hi), "pooled": float(pooled)}


def coverage(runs: list[Mask]) -> list[dict[str, Any]]:
    """Count what trust's 95 % intervals hold: in all, by length of the training, and by true rate."""
    rates, epochs = np.array([run.rates for run in runs]), np.array([[run.epochs] for run in runs])
    lo, hi = np.array([run.trust.lo for run in runs]), np.array([run.trust.hi for run in runs])
    groups = {"all labels": rates >= 0}
    groups |= {f"after {length} epochs": np.broadcast_to(epochs == length, rates.shape) for length in np.unique(epochs)}
    groups |= {f"rate {edge / 10} to {(edge + 1) / 10}": (10 * rates).astype(int) == edge for edge in range(5)}
    return [
        {
            "of": name,
            "labels": int(chosen.sum()),
            "held": float(((lo <= rates) & (rates <= hi))[chosen].mean()),
            "truth_below": float((rates < lo)[chosen].mean()),
            "truth_above": float((rates > hi)[chosen].mean()),
            "width": float((hi - lo)[chosen].mean()),
        }
        for name, chosen in groups.items()
        if chosen.any()
    ]


def main() -> None:
    """Print tables, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--masks", type=int, default=30, help="number of noise masks, each with a training")
    command.add_argument("--epochs", type=int, nargs="+", default=[4, 8, 16], help="of the trainings, in turns")
    command.add_argument("--noise", choices=tuple(NOISE), default="random", help="what replaces a label")
    command.add_argument("--phantom-seed", type=int, default=0, help="of the phantom")
    command.add_argument("--patients", type=int, default=1400, help="of the phantom, about 2.8 images each")
    command.add_argument("--data", type=Path, help="folder of the phantom and its store")
    given = command.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        store = phantom_store(given.data or Path(temporary), given.phantom_seed, given.patients)
        runs = []
        for run in masks(store, given.noise, given.masks, given.epochs):
            runs.append(run)
            print(f"mask {len(runs)} of {given.masks}, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        report(runs, store, given, begun)


def report(runs: list[Mask], store: Store, given: argparse.Namespace, begun: float) -> None:
    """Print what the masks gave."""
    truth = [run.rates for run in runs]
    rows = {name: summary(truth, [run.guesses[name] for run in runs]) for name in runs[0].guesses}
    for name in RATES:
        errors = np.array([run.guesses[name] - run.rates for run in runs])
        rows[name] |= {"rms_error": float(np.sqrt((errors**2).mean())), "mean_error": float(errors.mean())}
    print(f"{given.noise} noise, {len(runs)} masks, {len(store.pixels)} images, {given.epochs} epochs\n")
    print_table(
        ("guess", "rank correlation, 95 % interval", "all masks", "rms error", "mean error"),
        [
            (name, f"{row['mean']:.3f} ({row['lo']:.3f} to {row['hi']:.3f})", f"{row['pooled']:.3f}")
            + tuple(f"{row[key]:.3f}" if key in row else "" for key in ("rms_error", "mean_error"))
            for name, row in rows.items()
        ],
    )
    held = coverage(runs)
    print()
    print_table(
        ("trust's intervals", "labels", "held", "truth below", "truth above", "width"),
        [
            (row["of"], str(row["labels"]))
            + tuple(f"{row[key]:.1%}" for key in ("held", "truth_below", "truth_above"))
            + (f"{row['width']:.3f}",)
            for row in held
        ],
    )
    settings = {name: getattr(given, name) for name in ("masks", "epochs", "noise", "phantom_seed", "patients")}
    seconds = round(time.perf_counter() - begun)
    publish({"settings": settings, "rows": rows, "coverage": held, "seconds": seconds}, given.json)


if __name__ == "__main__":
    main()
