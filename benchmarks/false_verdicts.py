"""How often a study calls the baseline better or worse than itself, and how often it sees a planted difference.

    python -m benchmarks.false_verdicts [--networks 240] [--phantoms 201 202 203 204] [--patients 300] [--size 64]
                                        [--epochs 10] [--studies 2000] [--workers 2] [--device cpu] [--folder DIR]
                                        [--json FILE]

Networks with uniform weights are trained without added noise, each with its own seed, an equal number on each phantom.
Studies are made up of them (A/A: the baseline and the methods are the same, only the seeds differ), and go through the
code of real studies: differences, intervals, Holm's adjustment, verdicts, and the sentences of the first page.

1. Small studies: one method, three seeds. Each network is used once.
2. Resampled studies: two methods, three seeds; the twelve networks of a study (baseline, two methods, noise floor) are
   drawn without replacement from those of one phantom. The floor is compared apart, in a family of its own.
3. A planted difference: the logits of the positive images of each network of the first method are raised by a constant
   of the network, so that its mean test AUC rises by the given size. Seen: p < 0.05, not adjusted, as the detectable
   size is defined. Three sizes: the median of what a phantom's resampled studies call detectable; the root of the mean
   of its squares, because a variance is estimated without bias and an error is not; in each study what it calls
   detectable itself. For normal differences with two degrees of freedom (three seeds, nothing else varies) they are
   seen in 64, 77 and 80 % of studies.

The Monte Carlo error is that of drawing the studies from the networks at hand; how much the networks and the phantoms
matter is seen in the columns by phantom.

--folder: keeps the phantoms and the predictions; a second call trains only what is missing. Else a temporary folder.

Shapes: m networks of a phantom, n test images, k labels.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from benchmarks.phantom_store import part, phantom_store
from benchmarks.report import parser, print_table, publish
from data_prep.labels.splits import Split, SplitSettings, make_split
from data_prep.store.store import Store
from models.evaluation.auc import mean_auc, scorable_labels
from models.evaluation.intervals import number_patients
from models.evaluation.paired import Unit, auc_differences, compare_units
from models.networks.multitask import NetworkSettings, initial_network
from models.training.fabric import Device
from models.training.image_training import TrainingSettings, fit, predict
from models.weighting.registry import UniformSettings, make_weighting
from tasks.records.arms import ArmRecord, Condition, ConditionRecord, LabelRecord
from tasks.records.comparisons import ComparisonRecord, adjust_p_values
from tasks.records.data import DataRecord, SplitRecord
from tasks.records.scores import MeanRecord, ScoreRecord
from tasks.records.study import StudyResults
from tasks.records.summary_text import SIGNIFICANCE_LEVEL, Verdict, answer, verdict

SHARES = (0.5, 0.1, 0.4)
SEEDS = 3
BASELINE, METHODS, FLOOR = "uniform", ("method 1", "method 2"), "uniform, other seeds"
VERDICT_WORDS = re.compile(r"\b(better|worse)\b")
HIGHEST_RAISE = 64.0  # of a logit


class Training(NamedTuple):
    """What all networks share."""

    folder: Path
    patients: int
    size: int
    settings: TrainingSettings
    device: Device

    @property
    def predictions(self) -> Path:
        """The folder of the predictions; its name changes with all that they depend on."""
        inputs = [self.patients, self.size, SHARES, self.settings.determining(), self.device, torch.__version__]
        return self.folder / f"predictions-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]}"


class Phantom(NamedTuple):
    """The test part of a phantom, and what the networks predict for it.

    Attributes:
        seed: of the phantom.
        targets: (n, k) int8.
        patients: (n,) keys.
        scores: (m, n, k) probabilities.
    """

    seed: int
    targets: NDArray[np.int8]
    patients: NDArray
    scores: NDArray


# --- Networks ---


@lru_cache(maxsize=2)
def _opened(training: Training, phantom: int) -> tuple[Store, Split]:
    store = phantom_store(training.folder, phantom, training.patients, training.size)
    return store, make_split(SplitSettings(seed=phantom, shares=SHARES), store.images, store.patients)


def predict_test(training: Training, phantom: int, seed: int) -> Path:
    """Train a network and keep its test predictions (n, k), unless they are there."""
    file = training.predictions / f"{phantom}-{seed}.npz"
    if file.exists():
        return file
    torch.set_num_threads(1)
    store, split = _opened(training, phantom)
    train, val, test = (part(store, rows) for rows in (split.train, split.val, split.test))
    network = initial_network(NetworkSettings(), store.labels, train.pixels[:, 0], seed=seed, targets=train.targets)
    uniform = make_weighting(UniformSettings(), len(store.labels))
    fit(network, uniform, train, val, training.settings, seed=seed, device=training.device)
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.savez(stream, scores=predict(network, test.pixels).numpy())
    unfinished.replace(file)
    return file


def train_all(training: Training, phantoms: Sequence[int], networks: int, workers: int) -> list[Phantom]:
    """Train an equal number of networks on each phantom, several at a time, and read their predictions."""
    training.predictions.mkdir(parents=True, exist_ok=True)
    for phantom in phantoms:
        phantom_store(training.folder, phantom, training.patients, training.size, workers=workers)
    wanted = [(phantom, seed) for seed in range(networks // len(phantoms)) for phantom in phantoms]
    scores: dict[int, list[NDArray]] = {phantom: [] for phantom in phantoms}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        files = pool.map(partial(predict_test, training), *zip(*wanted, strict=True))
        for number, ((phantom, seed), file) in enumerate(zip(wanted, files, strict=True), start=1):
            with np.load(file) as arrays:
                scores[phantom].append(arrays["scores"])
            print(f"{number} of {len(wanted)}: phantom {phantom}, seed {seed}", flush=True)
    return [_phantom(training, phantom, np.stack(of_phantom)) for phantom, of_phantom in scores.items()]


def _phantom(training: Training, phantom: int, scores: NDArray) -> Phantom:
    store, split = _opened(training, phantom)
    return Phantom(phantom, store.targets[split.test], store.patients[split.test], scores)


def mean_aucs(phantom: Phantom, scores: NDArray) -> NDArray:
    """Compute the mean test AUC (m,) of networks, over the labels that can be scored, from scores (m, n, k)."""
    columns, _ = scorable_labels(phantom.targets, number_patients(phantom.patients))
    return np.array([mean_auc(phantom.targets[:, columns], of_network[:, columns]) for of_network in scores])


# --- Studies ---


def compare(phantom: Phantom, method: str, scores: NDArray, baseline: NDArray) -> ComparisonRecord:
    """Compare networks of a method with networks of the baseline, (SEEDS, n, k) scores each, as a study does."""
    condition = Condition()
    unit = Unit(phantom.targets, dict(enumerate(scores)), dict(enumerate(baseline)))
    found = compare_units(auc_differences({condition.name: unit}, phantom.patients))
    return ComparisonRecord.of(method, BASELINE, condition, found)


def has_verdict(comparisons: Sequence[ComparisonRecord]) -> bool:
    """Tell whether a study of these comparisons, one family, calls a method better or worse."""
    return any(verdict(each) in (Verdict.BETTER, Verdict.WORSE) for each in adjust_p_values(comparisons))


def first_page(phantom: Phantom, arms: dict[str, NDArray]) -> tuple[str, list[ComparisonRecord]]:
    """Return the answer on the first page of a study, and its comparisons before adjustment.

    Args:
        phantom: whose test part is scored.
        arms: method -> (SEEDS, n, k) scores; the first is the baseline.
    """
    baseline = next(iter(arms.values()))
    comparisons = [compare(phantom, method, scores, baseline) for method, scores in arms.items() if method != BASELINE]
    labels = tuple(f"label {j}" for j in range(phantom.targets.shape[1]))
    records = [
        _arm(method, seed, labels, float(auc))
        for method, scores in arms.items()
        for seed, auc in enumerate(mean_aucs(phantom, scores))
    ]
    results = StudyResults(
        config={},
        version="",
        git=None,
        data=_data(phantom, labels),
        arms=tuple(records),
        comparisons=adjust_p_values(comparisons),
    )
    return " ".join(answer(results)), comparisons


def _arm(method: str, seed: int, labels: tuple[str, ...], auc: float) -> ArmRecord:
    unknown: dict[str, Any] = {"value": None, "lo": None, "hi": None, "reason": "not computed"}
    return ArmRecord(
        factors={"method": method, "condition": "clean"},
        condition=ConditionRecord(),
        seed=seed,
        by_label={label: LabelRecord(score=ScoreRecord(**unknown)) for label in labels},
        mean=MeanRecord(**unknown | {"value": auc}, labels=labels),
        best_epoch=None,
        items_per_second=None,
        seconds=0.0,
    )


def _data(phantom: Phantom, labels: tuple[str, ...]) -> DataRecord:
    n = {"test": len(phantom.targets)}
    split = SplitRecord(name="random", fingerprint="")
    return DataRecord(name=f"phantom {phantom.seed}", fingerprint="", labels=labels, split=split, n=n, positives={})


def small_studies(phantom: Phantom) -> list[str]:
    """Deal out a phantom's networks to studies of one method, each network once; return the studies' answers."""
    order = _generator(f"small/{phantom.seed}").permutation(len(phantom.scores))
    whole = len(order) // (2 * SEEDS)
    dealt = phantom.scores[order[: whole * 2 * SEEDS].reshape(whole, 2, SEEDS)]
    return [first_page(phantom, {BASELINE: baseline, METHODS[0]: method})[0] for baseline, method in dealt]


class Resampled(NamedTuple):
    """An A/A study of two methods.

    Attributes:
        networks: (4, SEEDS) of the baseline, the two methods and the floor.
        has_verdict: whether a method is called better or worse.
        says_so: whether the first page has one of these words, also in a sentence on what is not significant.
        floor_has_verdict: whether the floor would be called better or worse.
        detectable: what the first comparison calls detectable; None where it has no interval.
    """

    networks: NDArray[np.int64]
    has_verdict: bool
    says_so: bool
    floor_has_verdict: bool
    detectable: float | None


def resampled_studies(phantom: Phantom, studies: int) -> Iterator[Resampled]:
    """Draw A/A studies from a phantom's networks."""
    roles = (BASELINE, *METHODS)
    for study in range(studies):
        generator = _generator(f"resampled/{phantom.seed}/{study}")
        drawn = generator.choice(len(phantom.scores), size=(len(roles) + 1, SEEDS), replace=False)
        baseline, *_, floor = phantom.scores[drawn]
        page, found = first_page(phantom, dict(zip(roles, phantom.scores[drawn], strict=False)))
        yield Resampled(
            networks=drawn,
            has_verdict=has_verdict(found),
            says_so=bool(VERDICT_WORDS.search(page)),
            floor_has_verdict=has_verdict([compare(phantom, FLOOR, floor, baseline)]),
            detectable=found[0].detectable,
        )


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(f"false verdicts/{name}".encode())))


# --- A planted difference ---


def raise_auc(phantom: Phantom, scores: NDArray, size: float) -> NDArray:
    """Return logits (n, k) with a mean AUC that is higher by `size`: a constant is added to those of positives.

    Raises:
        ValueError: the AUC cannot rise so far.
    """
    logits = logit(np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7))
    positive = phantom.targets == 1
    wanted = mean_aucs(phantom, logits[None])[0] + size

    def reaches(constant: float) -> bool:
        return bool(mean_aucs(phantom, (logits + constant * positive)[None])[0] >= wanted)

    low, high = 0.0, 1.0
    while not reaches(high):
        low, high = high, 2 * high
        if high > HIGHEST_RAISE:
            raise ValueError(f"a mean AUC of {wanted - size:.3f} cannot rise by {size:.3f}")
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return logits + high * positive


def seen(phantom: Phantom, studies: Sequence[Resampled], sizes: Sequence[float | None]) -> list[bool]:
    """Tell for each study whether p < 0.05 when its first method's networks are better by its size.

    Studies without a size, and those with a size for which an AUC has no room, are left out.
    """

    @cache
    def raised(network: int, size: float) -> NDArray | None:
        try:
            return raise_auc(phantom, phantom.scores[network], size)
        except ValueError:
            return None

    found = []
    for study, size in zip(studies, sizes, strict=True):
        baseline, method = study.networks[:2]
        better = [] if size is None else [raised(int(network), size) for network in method]
        better = [scores for scores in better if scores is not None]
        if len(better) == SEEDS:
            p_value = compare(phantom, METHODS[0], np.stack(better), phantom.scores[baseline]).p_value
            found.append(p_value is not None and p_value < SIGNIFICANCE_LEVEL)
    return found


# --- The command ---


def figures(phantom: Phantom, studies: int) -> dict[str, float]:
    """Measure everything on one phantom."""
    small = small_studies(phantom)
    drawn = list(resampled_studies(phantom, studies))
    own = [study.detectable for study in drawn]
    median = float(np.median([size for size in own if size is not None]))
    root_mean_square = float(np.mean([size**2 for size in own if size is not None])) ** 0.5
    seen_own = seen(phantom, drawn, own)
    aucs = mean_aucs(phantom, phantom.scores)
    return {
        "networks": len(aucs),
        "test_images": len(phantom.targets),
        "auc": float(aucs.mean()),
        "auc_spread": float(aucs.std(ddof=1)),
        "small": len(small),
        "small_with_verdict": sum(bool(VERDICT_WORDS.search(page)) for page in small),
        "resampled": len(drawn),
        "verdict": float(np.mean([study.has_verdict for study in drawn])),
        "words": float(np.mean([study.says_so for study in drawn])),
        "floor": float(np.mean([study.floor_has_verdict for study in drawn])),
        "median": median,
        "root_mean_square": root_mean_square,
        "seen_median": float(np.mean(seen(phantom, drawn, [median] * len(drawn)))),
        "seen_root_mean_square": float(np.mean(seen(phantom, drawn, [root_mean_square] * len(drawn)))),
        "seen_own": float(np.mean(seen_own)),
        "no_room_for_own": len(drawn) - len(seen_own),
    }


SHARES_SHOWN = {
    "verdict": "resampled: a method is called better or worse",
    "words": "resampled: the page has one of these words",
    "floor": "resampled: the noise floor alone",
    "seen_median": "planted difference of the median size, seen",
    "seen_root_mean_square": "planted difference of the root mean square, seen",
    "seen_own": "planted difference of the study's own size, seen",
}


def print_figures(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """Print the table of the figures by phantom; return those over all phantoms."""
    of_all = list(found.values())
    count = sum(of["resampled"] for of in of_all)
    total = {name: sum(of[name] * of["resampled"] for of in of_all) / count for name in SHARES_SHOWN}
    total |= {name: sum(of[name] for of in of_all) for name in ("small", "small_with_verdict", "resampled")}

    def row(title: str, of_each: Sequence[str], all_: str = "") -> tuple[str, ...]:
        return title, all_, *of_each

    rows = [
        row("networks", [f"{of['networks']:.0f}" for of in of_all], f"{sum(of['networks'] for of in of_all):.0f}"),
        row("test AUC (spread over seeds)", [f"{of['auc']:.3f} ({of['auc_spread']:.3f})" for of in of_all]),
        row(
            "small studies with a verdict on the page",
            [f"{of['small_with_verdict']:.0f} of {of['small']:.0f}" for of in of_all],
            f"{total['small_with_verdict']:.0f} of {total['small']:.0f}",
        ),
        row("called detectable, median", [f"{of['median']:.4f}" for of in of_all]),
        row("called detectable, root mean square", [f"{of['root_mean_square']:.4f}" for of in of_all]),
    ]
    rows.append(row("studies without room for their own size", [f"{of['no_room_for_own']:.0f}" for of in of_all]))
    for name, title in SHARES_SHOWN.items():
        error = (total[name] * (1 - total[name]) / count) ** 0.5
        shares = [f"{100 * of[name]:.1f} %" for of in of_all]
        rows.append(row(title, shares, f"{100 * total[name]:.1f} ± {100 * error:.1f} %"))
    print_table(("", "all", *(f"phantom {seed}" for seed in found)), rows)
    return total


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--networks", type=int, default=240)
    command.add_argument("--phantoms", type=int, nargs="+", default=[201, 202, 203, 204])
    command.add_argument("--patients", type=int, default=300)
    command.add_argument("--size", type=int, default=64)
    command.add_argument("--epochs", type=int, default=10)
    command.add_argument("--studies", type=int, default=2000)
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    command.add_argument("--folder", type=Path)
    options = command.parse_args()
    least = SEEDS * (len(METHODS) + 2) * len(options.phantoms)
    if options.networks < least:
        command.error(f"--networks must be at least {least}, {least // len(options.phantoms)} for each phantom")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        settings = TrainingSettings(epochs=options.epochs)
        training = Training(folder, options.patients, options.size, settings, options.device)
        phantoms = train_all(training, options.phantoms, options.networks, options.workers)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        of_each = pool.map(partial(figures, studies=options.studies // len(phantoms)), phantoms)
        found = {phantom.seed: of for phantom, of in zip(phantoms, of_each, strict=True)}
    total = print_figures(found)
    given = {name: getattr(options, name) for name in ("patients", "size", "device")}
    record = {"training": settings.model_dump(mode="json"), **given, "all": total, "by_phantom": found}
    publish(record, options.json)


if __name__ == "__main__":
    main()
