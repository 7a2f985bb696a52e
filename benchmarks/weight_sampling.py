"""Sampling error of the task weights: how far weights from a sample of the training images are from those of all.

    python -m benchmarks.weight_sampling [--patients 2500] [--phantom-seed 0] [--epochs 8] [--samples 20]
                                         [--data FOLDER] [--json FILE]

Networks are trained with uniform weights on a phantom, once on clean labels and once with fair coins in place of 40 %
of the entries of every second label. From features of all training images, and from those of random samples of images,
two kinds of weights are computed:

    svd      Algorithm 2: scaling effect, rank 3; features of one network that was trained on all images
    trust    (1 - p)^2 from the estimated noise p of label trust; cross-fitted features

Images are sampled as training samples them: each image on its own, without replacement. Printed per number of images,
median and quartiles: over the samples, the correlation of a sample's weights with those of all images; and over the
labels, the standard deviation of a label's weight from sample to sample (the weights' mean is 1). The last row draws
as many patients as there are, with replacement: how far even the weights of all images would differ for other patients.

--data: where the phantom is rendered to, or lies from a former run; without it a temporary folder.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.phantom_store import part, phantom_store
from benchmarks.report import Spread, parser, print_table, publish
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.noise.registry import NoiseSettings, NoNoise, RandomNoise, draw_noise
from data_prep.store.store import Store
from models.networks.multitask import NetworkSettings, initial_network
from models.randomness import random_subset
from models.training.cross_fit import cross_fit
from models.training.image_training import TrainingSettings, feature_pass, fit
from models.weighting.base import FeatureBatch
from models.weighting.feature_weights import join_batches
from models.weighting.registry import UniformSettings, make_weighting
from models.weighting.svd import Theta, svd_weights
from models.weighting.trust import estimate_trust, trust_weights

SIZES = (256, 512, 1024, 2048, 4096)
RANK = 3


def training_features(store: Store, noise: NoiseSettings, epochs: int) -> dict[str, FeatureBatch]:
    """Features of all training images for each kind of weights, in an order of its own."""
    split = make_split(SplitSettings(), store.images, store.patients)
    targets = draw_noise(noise, np.array(store.targets[split.train]), store.labels, seed=0).targets
    train, val = part(store, split.train, targets), part(store, split.val)
    network = initial_network(NetworkSettings(), store.labels, train.pixels[:, 0], seed=0, targets=train.targets)
    rule, settings = make_weighting(UniformSettings(), len(store.labels)), TrainingSettings(epochs=epochs)
    cross_fitted = cross_fit(network, train, val, settings, seed=0, device="cpu")
    fit(network, rule, train, val, settings, seed=0, device="cpu")
    passes = {"svd": feature_pass(network, train, 0), "trust": cross_fitted}
    return {kind: join_batches(of_kind(None)) for kind, of_kind in passes.items()}


def svd(batch: FeatureBatch) -> Tensor:
    """Weights of Algorithm 2, (k,) with mean 1."""
    theta = Theta().add(batch.features, batch.targets, batch.targets >= 0)
    return svd_weights(theta.matrix("effect"), RANK)


def trust(batch: FeatureBatch) -> Tensor:
    """Weights from label trust, (k,) with mean 1."""
    return trust_weights(estimate_trust(batch, "coin"), batch.targets, "coin", "signal")


WEIGHTS: dict[str, Callable[[FeatureBatch], Tensor]] = {"svd": svd, "trust": trust}


def image_samples(n: int, size: int, samples: int) -> Iterator[NDArray]:
    """Rows of random samples of the n images, as `FeaturePass` draws them."""
    for seed in range(samples):
        yield random_subset(seed, "feature pass", n, size).numpy()


def patient_samples(patients: NDArray, samples: int) -> Iterator[NDArray]:
    """Rows of all images of as many patients as there are, drawn with replacement."""
    rows = [np.flatnonzero(patients == each) for each in np.unique(patients)]
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"other patients")))
    for _ in range(samples):
        yield np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])


def sampling_error(everything: NDArray, sampled: NDArray) -> tuple[Spread, Spread]:
    """Compare the weights of samples with those of all images.

    Args:
        everything: weights of all images, (k,).
        sampled: weights of each sample, (s, k).

    Returns:
        The correlation over the labels, its spread over the samples; the standard deviation over the samples, its
        spread over the labels.
    """
    correlations = [float(np.corrcoef(everything, one)[0, 1]) for one in sampled]
    return Spread.of(correlations), Spread.of(sampled.std(axis=0, ddof=1).tolist())


def measure(kind: str, batch: FeatureBatch, samples: int) -> list[dict[str, Any]]:
    """Return a row per number of images for one kind of weights."""
    n = len(batch.targets)
    draws = {str(size): image_samples(n, size, samples) for size in SIZES if size < n}
    draws[f"{n}, other patients"] = patient_samples(batch.patients.numpy(), samples)
    everything = WEIGHTS[kind](batch).numpy()
    rows = []
    for images, samples_of_size in draws.items():
        chosen = [FeatureBatch(*(part[torch.as_tensor(rows)] for part in batch)) for rows in samples_of_size]
        drawn = np.array([WEIGHTS[kind](sample).numpy() for sample in chosen])
        correlation, deviation = sampling_error(everything, drawn)
        rows.append({"weights": kind, "images": images, "correlation": correlation, "deviation": deviation})
    return rows


def conditions(labels: tuple[str, ...]) -> dict[str, NoiseSettings]:
    """Return the label noise by name."""
    return {"clean": NoNoise(), "40 % coins on half": RandomNoise(rate=0.4, labels=labels[::2])}


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--patients", type=int, default=2500, help="of the phantom, about 2.8 images each")
    command.add_argument("--phantom-seed", type=int, default=0, help="of the phantom")
    command.add_argument("--epochs", type=int, default=8, help="of each training")
    command.add_argument("--samples", type=int, default=20, help="random samples of each size")
    command.add_argument("--data", type=Path, help="folder of the phantom and its store")
    given = command.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report(phantom_store(given.data or Path(temporary), given.phantom_seed, given.patients), given)


def report(store: Store, given: argparse.Namespace) -> None:
    """Measure each condition, and print."""
    record: list[dict[str, Any]] = []
    for condition, noise in conditions(store.labels).items():
        for kind, batch in training_features(store, noise, given.epochs).items():
            record += [{"noise": condition, **row} for row in measure(kind, batch, given.samples)]
    record.sort(key=lambda row: row["weights"])  # stable: by kind of weights, then noise, then images
    header = ("weights", "noise", "images", "correlation with all", "standard deviation of a weight")
    print_table(
        header,
        [
            (row["weights"], row["noise"], row["images"], f"{row['correlation']:.3f}", f"{row['deviation']:.3f}")
            for row in record
        ],
    )
    for row in record:
        row |= {name: row[name]._asdict() for name in ("correlation", "deviation")}
    settings = {name: getattr(given, name) for name in ("patients", "phantom_seed", "epochs", "samples")}
    publish({"settings": settings, "training_images": len(batch.targets), "rows": record}, given.json)


if __name__ == "__main__":
    main()
