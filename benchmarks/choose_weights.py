"""Compare settings of the weighting rules on validation patients of phantoms that no reported result uses.

    python -m benchmarks.choose_weights [--phantoms 101 102 103] [--patients 1400] [--seeds 4] [--rates 0 0.4]
                                        [--epochs 10] [--workers 2] [--recipe JSON] [--folder DIR] [--json FILE]

For each phantom, noise rate and seed, random labels are put on half of the fourteen findings, drawn by the seed. A
network trains with uniform weights to the end. Each rule gets its weights from its features, from cross-fitted ones, or
from those of the running network, as its settings say, and a new network trains with them from the same initial
weights. Printed: the mean over phantoms and seeds of the validation AUC (clean labels) minus that of uniform weights,
with its standard error, for all labels, and for the noisy and the clean half. The defaults of `svd` and `trust` were
chosen by it. `other seed` is uniform weights with another seed.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from benchmarks.phantom_store import part, phantom_store
from benchmarks.report import parser, print_table, publish
from benchmarks.search_recipe import SHARES
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.noise.registry import RandomNoise, draw_noise
from models.data.image_batches import Examples
from models.evaluation.auc import auc_per_label
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.cross_fit import cross_fit
from models.training.image_training import TrainingSettings, feature_pass, fit, predict
from models.weighting.oracle import LabelNoise, realised_noise
from models.weighting.registry import WeightingSettings, make_weighting

RULES: tuple[Mapping[str, Any], ...] = (
    {"kind": "svd", "features": "running", "power": 1.0},
    {"kind": "svd", "power": 1.0},
    {"kind": "svd", "power": 0.5},
    {"kind": "svd", "power": 0.25},
    {"kind": "trust", "formula": "information"},
    {"kind": "trust", "formula": "signal"},
    {"kind": "svd_dynamic", "features": "finished", "by": "both"},
    {"kind": "oracle"},
    {"kind": "oracle", "formula": "signal"},
    {"kind": "permuted_weights", "of": {"kind": "trust"}},
)
UNIFORM: Mapping[str, Any] = {"kind": "uniform"}


class Case(NamedTuple):
    """One phantom, noise rate and seed, for which all rules train."""

    phantom: int
    rate: float
    seed: int


class Inputs(NamedTuple):
    """What the rules of a case train on."""

    train: Examples
    val: Examples
    labels: tuple[str, ...]
    noise: LabelNoise
    noisy: NDArray[np.bool_]  # (k,) the labels with noise


def load(case: Case, folder: Path, patients: int) -> Inputs:
    """Split a phantom, and put random labels on half of the findings."""
    store = phantom_store(folder, case.phantom, patients)
    split = make_split(SplitSettings(seed=case.phantom, shares=SHARES), store.images, store.patients)
    generator = np.random.default_rng(np.random.SeedSequence(case.seed, spawn_key=tuple(b"choose weights")))
    noisy = np.isin(np.arange(len(store.labels)), generator.permutation(len(store.labels))[: len(store.labels) // 2])
    names = tuple(np.array(store.labels)[noisy].tolist())
    clean = store.targets[split.train]
    mask = draw_noise(RandomNoise(rate=case.rate, labels=names), clean, store.labels, case.seed)
    noise = realised_noise(torch.from_numpy(np.array(clean)), torch.from_numpy(mask.targets))
    return Inputs(part(store, split.train, mask.targets), part(store, split.val), store.labels, noise, noisy)


def compare(folder: Path, patients: int, settings: TrainingSettings, case: Case) -> dict[str, list[float]]:
    """Train all rules of a case; return the validation AUC of each label, by rule."""
    torch.set_num_threads(1)
    inputs = load(case, folder, patients)

    def trained(rule: Mapping[str, Any], seed: int, source: MultiTaskNetwork | None) -> tuple[str, MultiTaskNetwork]:
        method: Any = TypeAdapter(WeightingSettings).validate_python(rule)
        weighting = make_weighting(method, len(inputs.labels), seed=seed, label_noise=inputs.noise)
        pixels, targets = inputs.train.pixels[:, 0], inputs.train.targets
        network = initial_network(NetworkSettings(), inputs.labels, pixels, seed=seed, targets=targets)
        if method.feature_source == "finished" and source is not None:
            weighting.start(*(feature_pass(source, data, seed) for data in (inputs.train, inputs.val)))
        if method.feature_source == "cross_fitted":
            weighting.start(cross_fit(network, inputs.train, inputs.val, settings, seed=seed, device="cpu"))
        fit(network, weighting, inputs.train, inputs.val, settings, seed=seed, device="cpu")
        return method.name, network

    _, source = trained(UNIFORM, case.seed, None)
    networks = {"uniform": source, "other seed": trained(UNIFORM, 1000 + case.seed, None)[1]}
    networks |= dict(trained(rule, case.seed, source) for rule in RULES)
    targets = inputs.val.targets.numpy()
    aucs = {name: auc_per_label(targets, predict(net, inputs.val.pixels).numpy()) for name, net in networks.items()}
    return {name: auc.tolist() for name, auc in aucs.items()} | {"noisy": inputs.noisy.tolist()}


def gains(found: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, list[float]]]:
    """Return by rule, for all labels and for each half of them, the gains over uniform weights of all cases."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in found:
        noisy = np.array(case["noisy"], dtype=bool)
        halves = {"all": np.ones_like(noisy), "noisy": noisy, "clean": ~noisy}
        for rule in case.keys() - {"noisy", "uniform"}:
            gain = np.array(case[rule]) - np.array(case["uniform"])
            for half, chosen in halves.items():
                rows[rule][half].append(float(np.nanmean(gain[chosen])))
    return {rule: dict(by_half) for rule, by_half in rows.items()}


def main() -> None:
    """Print a table for each noise rate, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--phantoms", type=int, nargs="+", default=[101, 102, 103])
    command.add_argument("--patients", type=int, default=1400)
    command.add_argument("--seeds", type=int, default=4)
    command.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.4])
    command.add_argument("--epochs", type=int)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--recipe", type=json.loads, default={}, help="training settings, as JSON")
    command.add_argument("--folder", type=Path)
    options = command.parse_args()
    settings = TrainingSettings(**options.recipe | ({"epochs": options.epochs} if options.epochs else {}))
    cases = [Case(*each) for each in _product(options.phantoms, options.rates, options.seeds)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for phantom in options.phantoms:
            phantom_store(folder, phantom, options.patients, workers=options.workers)
        found = []
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for result in pool.map(partial(compare, folder, options.patients, settings), cases):
                found.append(result)
                print(f"{len(found)} of {len(cases)}", flush=True)
    for rate in options.rates:
        print(f"\n{rate:.0%} random labels on half of the findings, AUC minus that of uniform weights")
        table = gains([result for case, result in zip(cases, found, strict=True) if case.rate == rate])
        rows = [
            (rule, *(_mean_and_error(of[half]) for half in ("all", "noisy", "clean"))) for rule, of in table.items()
        ]
        print_table(("rule", "all labels", "noisy half", "clean half"), sorted(rows))
    record = {"settings": settings.determining(), "cases": [case._asdict() for case in cases], "auc": found}
    publish(record, options.json)


def _product(phantoms: Sequence[int], rates: Sequence[float], seeds: int) -> list[tuple[int, float, int]]:
    return [(phantom, rate, seed) for rate in rates for phantom in phantoms for seed in range(seeds)]


def _mean_and_error(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.4f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else "–"


if __name__ == "__main__":
    main()
