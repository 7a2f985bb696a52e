"""Search the training recipe of a backbone, on validation patients of phantoms that no reported result uses.

    python -m benchmarks.search_recipe [--backbone conv4] [--phantoms 101 102 103] [--patients 1400] [--size 64]
                                       [--epochs 10] [--trials 48] [--finalists 8] [--seeds 3] [--workers 2]
                                       [--device cpu] [--weights FILE] [--images DIR] [--folder DIR] [--json FILE]

Half of each phantom's patients train and nearly half validate; the test part is not read. The recipe before the search
and random points of the space (`SPACE`) are trained with uniform weights, without added noise, once on each phantom.
The finalists, those with the best mean validation AUC, are trained again with fresh seeds; the best of them by these
seeds alone is the recipe. Fresh seeds, because the best of many trials is partly the luckiest.

--images: a folder of images with NIH's label table, instead of phantoms. The patients of the test part of `medmtl
study`'s default split are left out; the others are divided three times, into those that train and those that validate.
--weights: a file with ImageNet weights of the backbone; its space is `PRETRAINED_SPACE`.
--folder: where phantoms are rendered to, or lie from an earlier search; else a temporary folder.
"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.phantom_store import part, phantom_store
from benchmarks.report import parser, print_table, publish
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from models.augmentation.policies import JitterPolicy
from models.data.image_batches import Examples
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit
from models.weighting.registry import UniformSettings, make_weighting

SHARES = (0.5, 0.48, 0.02)
OFF: dict[str, float] = {}
MILD = {"rotation": 5, "shift": 0.03, "scale": 0.05, "brightness": 0.05, "contrast": 0.1}
FULL = {"rotation": 10, "shift": 0.05, "scale": 0.1, "brightness": 0.1, "contrast": 0.2}

SPACE: dict[str, Sequence[Any]] = {
    "learning_rate": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "weight_decay": (0.0, 0.02, 0.1, 0.3, 1.0),
    "warmup": (0.0, 0.1, 0.3),
    "averaging": (0.0, 0.95, 0.98),
    "batch_size": (32, 64, 128),
    "augmentation": (OFF, MILD, FULL),
}
PRETRAINED_SPACE: dict[str, Sequence[Any]] = SPACE | {
    "learning_rate": (1e-4, 3e-4, 1e-3, 3e-3),
    "weight_decay": (0.0, 0.02, 0.1),
    "batch_size": (32, 64),
}
BEFORE: dict[str, Any] = {
    "learning_rate": 8e-3,
    "weight_decay": 0.02,
    "warmup": 0.1,
    "averaging": 0.0,
    "batch_size": 64,
}
"""The recipe of conv4 before the search, but for the heads' biases; it had no augmentation."""


class Trial(NamedTuple):
    """One training: a recipe on one phantom, or one division of the images, with one seed."""

    recipe: int
    division: int
    seed: int


class Search(NamedTuple):
    """What all trials share."""

    folder: Path
    patients: int
    size: int
    network: NetworkSettings
    epochs: int
    device: str
    images: Path | None = None


def recipes(space: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    """Return the recipe before the search, and random points of the space, all different."""
    generator = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"search recipe")))
    found = [BEFORE | {"augmentation": OFF}]
    while len(found) < count:
        point = {name: values[generator.integers(len(values))] for name, values in space.items()}
        if point not in found:
            found.append(point)
    return found


@lru_cache(maxsize=4)
def _parts(search: Search, division: int) -> tuple[Examples, Examples, tuple[str, ...]]:
    if search.images is None:
        store = phantom_store(search.folder, division, search.patients, search.size)
        usable = np.arange(len(store.images))
    else:
        source = FolderSource.open(search.images, allow_missing=True)  # NIH's table has the rows of all its images
        store = build_store(source, search.folder / "store", search.size, key=b"")
        usable = np.setdiff1d(
            np.arange(len(store.images)), make_split(SplitSettings(), store.images, store.patients).test
        )
    split = make_split(SplitSettings(seed=division, shares=SHARES), store.images[usable], store.patients[usable])
    return part(store, usable[split.train]), part(store, usable[split.val]), store.labels


@lru_cache(maxsize=1)
def _weights(file: Path) -> Mapping[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)


def validation_auc(search: Search, recipe: Mapping[str, Any], trial: Trial) -> float:
    """Train once; return the mean validation AUC of the best epoch."""
    torch.set_num_threads(1)
    train, val, labels = _parts(search, trial.division)
    weights = _weights(search.network.weights_file) if search.network.weights_file else None
    network = initial_network(
        search.network, labels, train.pixels[:, 0], seed=trial.seed, weights=weights, targets=train.targets
    )
    how = dict(recipe) | {"epochs": search.epochs}
    policy = JitterPolicy(**how.pop("augmentation"))
    settings = TrainingSettings.model_validate(how)
    uniform = make_weighting(UniformSettings(), len(labels))
    chosen: dict[str, Any] = {"seed": trial.seed, "policy": policy, "device": search.device}
    return fit(network, uniform, train, val, settings, **chosen).best_val_mean


def run(
    search: Search, tried: Sequence[Mapping[str, Any]], trials: Sequence[Trial], workers: int
) -> dict[int, list[float]]:
    """Train all trials, several at a time; return the AUCs of each recipe."""
    found: dict[int, list[float]] = {trial.recipe: [] for trial in trials}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        aucs = pool.map(partial(validation_auc, search), [tried[trial.recipe] for trial in trials], trials)
        for number, (trial, auc) in enumerate(zip(trials, aucs, strict=True), start=1):
            found[trial.recipe].append(auc)
            print(f"{number} of {len(trials)}: recipe {trial.recipe}, division {trial.division}: {auc:.4f}", flush=True)
    return found


def main() -> None:
    """Print a table of the finalists, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--backbone", default="conv4")
    command.add_argument("--phantoms", type=int, nargs="+", default=[101, 102, 103])
    command.add_argument("--patients", type=int, default=1400)
    command.add_argument("--size", type=int, default=64)
    command.add_argument("--epochs", type=int, default=10)
    command.add_argument("--trials", type=int, default=48)
    command.add_argument("--finalists", type=int, default=8)
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    command.add_argument("--weights", type=Path)
    command.add_argument("--images", type=Path)
    command.add_argument("--folder", type=Path)
    options = command.parse_args()
    tried = recipes(PRETRAINED_SPACE if options.weights else SPACE, options.trials)
    network = NetworkSettings(
        backbone=options.backbone, pretrained=options.weights is not None, weights_file=options.weights
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        search = Search(folder, options.patients, options.size, network, options.epochs, options.device, options.images)
        for phantom in options.phantoms if options.images is None else ():
            phantom_store(folder, phantom, options.patients, options.size, workers=options.workers)
        first = [Trial(which, division, 0) for which in range(len(tried)) for division in options.phantoms]
        screened = run(search, tried, first, options.workers)
        best = sorted(screened, key=lambda which: -np.mean(screened[which]))[: options.finalists]
        again = [
            Trial(which, division, seed)
            for which in dict.fromkeys([*best, 0])
            for division in options.phantoms
            for seed in range(1, options.seeds + 1)
        ]
        final = run(search, tried, again, options.workers)
    ranked = sorted(final, key=lambda which: -np.mean(final[which]))
    rows = [
        (str(which), f"{np.mean(final[which]):.4f}", f"{np.mean(screened[which]):.4f}", str(tried[which]))
        for which in ranked
    ]
    print_table(("recipe", "fresh seeds", "screening", "settings"), rows)
    record = {
        "search": {**search._asdict(), "folder": None, "images": None, "network": network.model_dump(mode="json")},
        "recipes": [
            {"settings": tried[which], "screening": screened[which], "final": final.get(which)} for which in screened
        ],
    }
    publish(record, options.json)


if __name__ == "__main__":
    main()
