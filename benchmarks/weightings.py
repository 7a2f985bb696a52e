"""What every weighting costs compared with uniform weights.

Measured are the time per training step, the peak memory, and the share of the training that is spent after epochs.

    python -m benchmarks.weightings [--backbone conv4] [--size 64] [--images 256] [--epochs 7] [--rounds 3]
                                    [--device auto] [--method KIND ...] [--json FILE]

Every weighting trains with its default settings on the same random images, through
`models.training.image_training.fit`, and they take turns. A step's time is the median over epochs; "after epochs" is
the time that the weighting takes between them (Algorithm 2's pass), as a share of all training; "of uniform" compares
times of one round. Memory is the peak above what the process held before: on a GPU what PyTorch allocated, else
resident memory.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from pydantic import TypeAdapter

from benchmarks.random_examples import LABELS, random_examples
from benchmarks.report import Spread, in_turns, parser, print_table, publish, ratios
from models.errors import SettingError
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit
from models.training.peak_memory import PeakMemory
from models.weighting.oracle import LabelNoise
from models.weighting.registry import WeightingSettings, make_weighting

UNION, _ = get_args(WeightingSettings)
KINDS = tuple(kind for rule in get_args(UNION) for kind in get_args(rule.model_fields["kind"].annotation))
HALF = torch.full((len(LABELS),), 0.5)
CLEAN = LabelNoise(signal=2 * HALF, before=HALF, after=HALF)  # for the rule that is told


@dataclass(frozen=True)
class Task:
    """What is trained."""

    backbone: str
    size: int  # pixels
    images: int
    epochs: int
    device: Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Cost:
    """Of one training."""

    step_seconds: float
    after_epochs: float  # share of training and weighting together
    peak_mib: float


def train(task: Task, kind: str) -> Cost:
    """One training under a weighting, measured."""
    train_set, val = random_examples(task.images, task.size), random_examples(16, task.size, seed=1)
    running = {"features": "running"} if kind.startswith("svd") else {}  # the cost of the pass, in one training
    rule = TypeAdapter(WeightingSettings).validate_python({"kind": kind, **running})
    network = NetworkSettings(backbone=task.backbone)
    net = initial_network(rule.network(network), LABELS, train_set.pixels[:, 0], seed=0)
    weighting = make_weighting(rule, len(LABELS), label_noise=CLEAN)
    settings = TrainingSettings(epochs=task.epochs)
    with PeakMemory(task.device) as memory:
        fitted = fit(net, weighting, train_set, val, settings, seed=0, device=task.device)
    steps = -(-task.images // settings.batch_size)
    training = sum(report.seconds for report in fitted.history)
    after = sum(report.weighting_seconds for report in fitted.history)
    return Cost(
        statistics.median(report.seconds for report in fitted.history[1:]) / steps,
        after / (training + after),
        float("nan") if memory.mib is None else memory.mib,
    )


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--backbone", default="conv4")
    command.add_argument("--size", type=int, default=64, help="side of the images, pixels")
    command.add_argument("--images", type=int, default=256, help="training images")
    command.add_argument("--epochs", type=int, default=TrainingSettings().epochs)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--method", nargs="+", default=KINDS, choices=KINDS, help="beside uniform")
    options = command.parse_args()
    task = Task(options.backbone, options.size, options.images, options.epochs, options.device)
    kinds = list(dict.fromkeys(["uniform", *options.method]))
    costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    failed: dict[str, str] = {}

    def measured(kind: str) -> Callable[[], float]:
        def one() -> float:
            if kind not in failed:
                try:
                    costs[kind].append(train(task, kind))
                    return costs[kind][-1].step_seconds
                except (ImportError, SettingError) as error:  # a package is missing, or 14 labels do not suit it
                    failed[kind] = str(error)
            return float("nan")

        return one

    times = in_turns({kind: measured(kind) for kind in kinds}, options.rounds)

    rows, record = [], {}
    for kind in kinds:
        if kind in failed:
            record[kind] = {"failed": failed[kind]}
            continue
        step, ratio = Spread.of(times[kind]), ratios(times[kind], times["uniform"])
        after = Spread.of([cost.after_epochs for cost in costs[kind][1:]])
        memory, of_uniform = (statistics.median(cost.peak_mib for cost in costs[of][1:]) for of in (kind, "uniform"))
        rows.append(
            (
                kind,
                f"{1e3 * step.median:.1f}",
                f"{ratio:.2f}",
                f"{after.median:.1%}",
                f"{memory:.0f}",
                f"{memory / of_uniform:.2f}",
            )
        )
        record[kind] = {"step_seconds": step._asdict(), "of_uniform": ratio._asdict()} | {
            "after_epochs": after._asdict(), "peak_mib": memory,
        }  # fmt: skip
    print(f"{task.backbone}, {task.size} px, {task.images} images, batches of {TrainingSettings().batch_size}, "
          f"{task.epochs} epochs, {len(LABELS)} labels")  # fmt: skip
    print_table(("weighting", "step ms", "of uniform", "after epochs", "peak MiB", "of uniform"), rows)
    for kind, reason in failed.items():
        print(f"{kind} is left out: {reason}")
    publish({"task": vars(options) | {"json": None}, "weightings": record}, options.json)


if __name__ == "__main__":
    main()
