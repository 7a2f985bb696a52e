"""Our default training against another recipe: the same images, backbone, size, first weights and epochs.

    python -m benchmarks.compare_recipes [--against public|before] [--folder DIR ... --labels TABLE] [--patients 1000]
                                         [--phantoms 301 302 303] [--size 64] [--backbone conv4] [--weights FILE]
                                         [--epochs N] [--seeds 5] [--split-seed 0] [--device auto] [--data DIR]
                                         [--json FILE]

On phantom radiographs, rendered anew, or on folders of images with a label table, split by patient. Ours is
`models.training.image_training.fit` with `models.training.recipes.recipe`, and heads that begin with the log-odds of
their labels. `before` is our training until November 2026: `benchmarks.search_recipe.BEFORE`, with biases near 0, and
7 epochs. The public recipe is that of
`scripts/train_model.py` and `scripts/train_utils.py` in github.com/mlmed/torchxrayvision (commits dba73af and
74431d0; Cohen et al., MIDL 2022, arXiv:2111.00595), from which these settings are taken:

* pixels from -1024 to 1024, without further normalisation;
* rotation up to 45 degrees, shift up to 0.15 of the side, scale 0.85 to 1.15, nearest neighbour, filled with 0;
* Adam with AMSGrad, constant rate 1e-3, weight decay 1e-5 as part of the gradient, batches of 64, float32;
* the sum over tasks of the mean cross-entropy of the known labels, times a task weight: with c positives of a task,
  (max c - c + mean c) over its maximum;
* the epoch with the best mean validation AUC.

What differs from the scripts: the parts are ours (their training part is 64 % of the patients, ours 70); the backbone
is timm's, and both trainings begin with the same weights of it; the pixels come from a store, reduced once; the
number of epochs is ours, where theirs is 400. With --weights (a file of ImageNet weights) the pixels are normalised as
these were trained with, which the scripts, whose networks begin at random, do not do.

Printed: test mean AUC by seed, over the labels with enough test patients, and the mean difference, ours minus public,
with its 95 % interval over seeds and test patients (`models.evaluation.paired`; over patients alone with fewer than
three seeds). Run a folder with images from several sources once for each source.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.phantom_store import phantom_store
from benchmarks.plain_loop import plain_network
from benchmarks.report import parser, print_table, publish, seconds
from benchmarks.search_recipe import BEFORE
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.store import Store
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.data.image_batches import Examples, examples
from models.evaluation.auc import mean_auc, scorable_labels
from models.evaluation.intervals import number_patients
from models.evaluation.leakage import hashed_patients
from models.evaluation.paired import Comparison, Differences, Unit, auc_differences, compare_units
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.fabric import Device
from models.training.image_training import TrainingSettings, fit, predict
from models.training.recipes import recipe, recipe_policy
from models.weighting.registry import UniformSettings, make_weighting

BATCH = 64
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-5
ROTATION, SHIFT, SCALE = 45, 0.15, 0.15
HALF_RANGE = 1024.0  # of torchxrayvision's pixels
PARTS = ("train", "val", "test")
EPOCHS_BEFORE = 7

Normalise = Callable[[Tensor], Tensor]
"""Grey values 0 to 255 -> float32 values that a network takes."""


@dataclass(frozen=True)
class Data:
    """The images of a store, split by patient.

    Attributes:
        labels: names, in the order of the targets.
        parts: the examples of train, val and test.
        test_patients: (n,) patient of each test image.
    """

    labels: tuple[str, ...]
    parts: dict[str, Examples]
    test_patients: NDArray

    @classmethod
    def of(cls, store: Store, split_seed: int) -> "Data":
        """Read a store's images, and split them at random."""
        split = make_split(SplitSettings(seed=split_seed), store.images, store.patients)
        parts = {}
        for part in PARTS:
            rows = getattr(split, part)
            patients = hashed_patients(store.population, store.patients[rows])
            parts[part] = examples(store.pixels[rows], store.targets[rows], patients)
        return cls(tuple(store.labels), parts, store.patients[split.test])

    @property
    def scorable(self) -> list[int]:
        """The columns of the labels with enough test patients to be scored (`models.evaluation.auc`)."""
        return scorable_labels(self.parts["test"].targets.numpy(), number_patients(self.test_patients))[0]

    def val_auc(self, scores: NDArray) -> float:
        """Return the mean AUC of scores (n, k) of the validation images, over the labels that have one."""
        return mean_auc(self.parts["val"].targets.numpy(), scores)

    def test_auc(self, scores: NDArray) -> float:
        """Return the mean AUC of scores (n, k) of the test images, over the scorable labels."""
        return mean_auc(self.parts["test"].targets.numpy()[:, self.scorable], scores[:, self.scorable])


# --- The public recipe ---


def scaled(grey: Tensor) -> Tensor:
    """Scale grey values as torchxrayvision does."""
    return (2 * grey.float() / 255 - 1) * HALF_RANGE


def augmentation() -> Any:
    """Return torchxrayvision's augmentation of an image (1, s, s) float32, by Pillow."""
    affine = transforms.RandomAffine(ROTATION, translate=(SHIFT, SHIFT), scale=(1 - SCALE, 1 + SCALE))
    return transforms.Compose([transforms.ToPILImage(mode="F"), affine, transforms.ToTensor()])


class AugmentedImages(Dataset[tuple[Tensor, Tensor]]):
    """Training images (1, s, s) float32, normalised and then augmented, and their targets (k,) int8."""

    def __init__(self, data: Examples, normalise: Normalise) -> None:
        self.data, self.normalise, self.augment = data, normalise, augmentation()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.augment(self.normalise(self.data.pixels[index])), self.data.targets[index]


def task_weights(targets: Tensor) -> Tensor:
    """Compute the weights (k,) of tasks by the number of positives in targets (n, k); -1 is unknown."""
    positives = (targets == 1).sum(0).float()
    weights = positives.max() - positives + positives.mean()
    return weights / weights.max()


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Compute the weighted sum over tasks of the mean cross-entropy of the known targets; (b, k) logits and targets."""
    known = targets >= 0
    losses = binary_cross_entropy_with_logits(logits, targets.clamp(min=0).float(), reduction="none") * known
    return (weights * losses.sum(0) / known.sum(0).clamp(min=1)).sum()


def public_network(first: MultiTaskNetwork, settings: NetworkSettings, seed: int) -> nn.Module:
    """Make timm's network with one linear layer for all labels, and give it the backbone's weights of `first`."""
    torch.manual_seed(seed)
    network = plain_network(settings.backbone, first.channels, len(first.labels))
    weights = cast(nn.Module, first.trunks[0].backbone).state_dict()
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if unexpected or len(missing) > 2:  # the classifier's weight and bias
        raise SystemExit(f"{settings.backbone} has another backbone without a classifier: {(unexpected or missing)[0]}")
    return network


@torch.inference_mode()
def public_scores(network: nn.Module, pixels: Any, normalise: Normalise, device: torch.device) -> NDArray:
    """Return the logits (n, k) of images (n, 1, s, s) uint8."""
    network.eval()
    return torch.cat([network(normalise(part).to(device)).cpu() for part in pixels.split(2 * BATCH)]).numpy()


def train_publicly(
    network: nn.Module, data: Data, epochs: int, *, seed: int, device: torch.device, normalise: Normalise
) -> None:
    """Train the network by the public recipe; it ends with the weights of the epoch with the best validation AUC."""
    torch.manual_seed(seed)
    train = data.parts["train"]
    loader = DataLoader(AugmentedImages(train, normalise), BATCH, shuffle=True)
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, amsgrad=True)
    weights = task_weights(train.targets).to(device)
    best, kept = -1.0, network.state_dict()
    for _ in range(epochs):
        network.train()
        for images, targets in loader:
            optimizer.zero_grad()
            weighted_loss(network(images.to(device)), targets.to(device), weights).backward()
            optimizer.step()
        auc = data.val_auc(public_scores(network, data.parts["val"].pixels, normalise, device))
        if auc > best:
            best, kept = auc, deepcopy(network.state_dict())
    network.load_state_dict(kept)


# --- The comparison ---


@dataclass(frozen=True)
class Run:
    """One seed: test scores (n, k) and seconds of both trainings."""

    ours: NDArray
    other: NDArray
    ours_seconds: float
    other_seconds: float


@dataclass(frozen=True)
class Ways:
    """Both trainings' settings.

    Attributes:
        network: of both.
        training: ours.
        against: public or before.
        device: of both.
    """

    network: NetworkSettings
    training: TrainingSettings
    against: str
    device: Device

    def run(self, data: Data, seed: int) -> Run:
        """Train both ways from the same weights of the backbone."""
        train, test = data.parts["train"], data.parts["test"]
        weights = None
        if self.network.weights_file:
            weights = torch.load(self.network.weights_file, map_location="cpu", weights_only=True)

        def first(targets: Tensor | None) -> MultiTaskNetwork:
            return initial_network(self.network, data.labels, train.pixels, seed=seed, weights=weights, targets=targets)

        ours = first(train.targets)
        policy = recipe_policy(self.network.backbone, self.network.pretrained)
        ours_seconds = seconds(lambda: self._fit(ours, data, self.training, seed, policy))
        scores = predict(ours, test.pixels).numpy()
        if self.against == "before":
            before, settings = first(None), TrainingSettings(**BEFORE, epochs=EPOCHS_BEFORE)
            other_seconds = seconds(lambda: self._fit(before, data, settings, seed, NO_POLICY))
            return Run(scores, predict(before, test.pixels).numpy(), ours_seconds, other_seconds)
        start = first(None)
        public, device = public_network(start, self.network, seed), ours.mean.device
        mean, std = start.mean.item(), start.std.item()
        normalise: Normalise = scaled if weights is None else lambda grey: (grey.float() - mean) / std
        how: dict[str, Any] = {"seed": seed, "device": device, "normalise": normalise}
        other_seconds = seconds(lambda: train_publicly(public, data, self.training.epochs, **how))
        return Run(scores, public_scores(public, test.pixels, normalise, device), ours_seconds, other_seconds)

    def _fit(
        self, network: MultiTaskNetwork, data: Data, settings: TrainingSettings, seed: int, policy: PolicySettings
    ) -> None:
        weighting, how = make_weighting(UniformSettings(), len(data.labels)), {"seed": seed, "device": self.device}
        fit(network, weighting, data.parts["train"], data.parts["val"], settings, policy=policy, **how)  # type: ignore[arg-type]


def differences(data: Data, runs: dict[int, Run]) -> Differences:
    """Return the differences in mean AUC, ours minus the other, by seed."""
    targets = data.parts["test"].targets.numpy()
    unit = Unit(targets, {s: run.ours for s, run in runs.items()}, {s: run.other for s, run in runs.items()})
    found = auc_differences({"test": unit}, data.test_patients)["test"]
    if isinstance(found, str):
        raise SystemExit(f"{found}: take more images")
    return found


def over_all(parts: dict[str, Differences]) -> Comparison:
    """Compare over all phantoms or folders, whose test patients are different people."""
    sizes = [len(part.influence) for part in parts.values()]
    begins = np.cumsum([0, *sizes[:-1]])
    padded: dict[str, Differences | str] = {}
    for (name, part), begin in zip(parts.items(), begins, strict=True):
        influence = np.zeros((sum(sizes), len(part.seeds)))
        influence[begin : begin + len(part.influence)] = part.influence
        padded[name] = Differences(part.seeds, part.deltas, influence)
    return compare_units(padded)


def open_stores(given: argparse.Namespace, kept: Path) -> dict[str, Store]:
    """Make the stores of the folders that were named, or of phantoms, below `kept`, or open them there."""
    workers = len(os.sched_getaffinity(0))
    if not given.folder:
        return {
            f"phantom {seed}": phantom_store(kept, seed, given.patients, given.size, workers=workers)
            for seed in given.phantoms
        }
    return {
        folder.name: build_store(
            FolderSource.open(folder, given.labels, allow_missing=True),  # NIH's table has the rows of all its images
            kept / f"{folder.name}-store-{given.size}",
            given.size,
            key=b"",
        )
        for folder in given.folder
    }


def main() -> None:
    """Print a table for each phantom or folder, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--against", choices=["public", "before"], default="public")
    command.add_argument("--folder", type=Path, nargs="+", help="of images, one for each source; none: phantoms")
    command.add_argument("--labels", type=Path, help="label table of the folders; none: the one that lies in each")
    command.add_argument("--patients", type=int, default=1000, help="of a phantom; 2.9 images each")
    command.add_argument("--phantoms", type=int, nargs="+", default=[301, 302, 303], help="seeds of the phantoms")
    command.add_argument("--size", type=int, default=64, help="side of the images in px")
    command.add_argument("--backbone", default="conv4", help="conv4, or timm's name")
    command.add_argument("--weights", type=Path, help="file of ImageNet weights, from which both begin; none: random")
    command.add_argument("--epochs", type=int, help="of both; none: those of our default")
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--split-seed", type=int, default=0)
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--data", type=Path, help="where the images are kept for the next run; none: nowhere")
    given = command.parse_args()
    pretrained = given.weights is not None
    network = NetworkSettings(backbone=given.backbone, pretrained=pretrained, weights_file=given.weights)
    chosen = recipe(network.backbone, pretrained) | ({"epochs": given.epochs} if given.epochs else {})
    ways = Ways(network, TrainingSettings(**chosen), given.against, given.device)
    found, records = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, store in open_stores(given, given.data or Path(temporary)).items():
            data = Data.of(store, given.split_seed)
            sizes = ", ".join(f"{part} {len(data.parts[part]):,}" for part in PARTS)
            print(f"{name}: {len(store.images):,} images, {sizes}", flush=True)
            runs = {seed: ways.run(data, seed) for seed in range(given.seeds)}
            found[name] = differences(data, runs)
            records[name] = {"data": store.fingerprint, **report(data, runs, given.against, found[name])}
    together = over_all(found)
    print(f"over all: {_sentence(together)}")
    settings = {"network": network.model_dump(mode="json", exclude={"weights_file"}), "split_seed": given.split_seed}
    settings |= {"training": ways.training.determining(), "against": given.against, "seeds": given.seeds}
    publish({**settings, "parts": records, "difference": asdict(together)}, given.json)


def report(data: Data, runs: dict[int, Run], against: str, found: Differences) -> dict[str, Any]:
    """Print what the runs of a phantom or folder gave, and return it."""
    aucs = {seed: (data.test_auc(run.ours), data.test_auc(run.other)) for seed, run in runs.items()}
    rows = [
        (str(seed), *(f"{auc:.4f}" for auc in pair), f"{pair[0] - pair[1]:+.4f}",
         f"{runs[seed].ours_seconds:.1f}", f"{runs[seed].other_seconds:.1f}")
        for seed, pair in aucs.items()
    ]  # fmt: skip
    print_table(("seed", "ours", against, "difference", "ours s", f"{against} s"), rows)
    difference = compare_units({"test": found})
    ours, other = np.mean(list(aucs.values()), axis=0)
    print(f"test mean AUC of {len(data.scorable)} labels: ours {ours:.4f}, {against} {other:.4f}")
    print(_sentence(difference), flush=True)
    return {
        "images": {part: len(data.parts[part]) for part in PARTS},
        "test_patients": len(np.unique(data.test_patients)),
        "scored_labels": data.scorable,
        "test_auc": {seed: {"ours": a, against: b} for seed, (a, b) in aucs.items()},
        "seconds": {seed: {"ours": run.ours_seconds, against: run.other_seconds} for seed, run in runs.items()},
        "difference": asdict(difference),
    }


def _sentence(found: Comparison) -> str:
    if found.delta is None or found.lo is None or found.hi is None:
        return f"no interval: {found.reason}"
    interval = f"[{found.lo:+.4f}, {found.hi:+.4f}] over {found.over}, p {found.p_value:.2g}"
    return f"difference {found.delta:+.4f} {interval}"


if __name__ == "__main__":
    main()
