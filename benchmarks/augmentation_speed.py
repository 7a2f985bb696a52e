"""What augmentation costs: images per second beside torchvision's, time and memory by policy, and a training step.

    python -m benchmarks.augmentation_speed [--of rates policies steps] [--size 32 64 224] [--batch 32 64]
                                            [--backbone resnet18 conv4] [--images 2048] [--steps 6] [--threads N]
                                            [--workers N] [--rounds 5] [--device auto] [--json FILE]

* rates: images per second, random grey images of each size in memory, by three ways that take turns:
    - ours: batches of the last --batch, each image with its own draws (`models.augmentation`), drawing included;
    - PIL, workers: the usual way, one image at a time by torchvision and Pillow in a DataLoader's worker processes,
      in full swing, the main process idle;
    - v2, one draw a batch: torchvision's transforms v2 on a batch, which draw once for all its images. So they do less
      than what is asked; the rate is their ceiling.
  Under `composed` (the list radiograph) torchvision's functions follow our draws of operations, with black outside,
  which it has instead of a repeated border. `randaugment` is torchvision's own class, and ours with its list, its
  nearest pixels and its black.
* policies: time for each image of a batch, drawing included, and the peak memory above what was held before, by
  policy with its default settings; jitter changes all that it can. `uncertainty` augments its four candidates.
* steps: a training step on images of 64 px in each batch size under no policy, `composed`, and `uncertainty` with four
  candidates of which one trains, by part (`models.training.profiling`). All are multiples of the step under no policy
  in the same round, without timed parts. On a GPU each part waits for the device, so parts add up to more than a step.

All numbers are medians of rounds with quartiles. Beside other busy processes use --threads 1: ours takes many short
steps, after each of which a CPU's threads wait for one another, so that it becomes many times slower when they have to
wait for a processor; worker processes do not.

Expected on a CPU: a thread of ours does 2 to 7 times what a worker of Pillow's does at 32 px, twice at 64 px, and 0.7
to 1.8 times at 224 px; a step under `uncertainty` takes 2.1 (resnet18) to 2.7 (conv4) times a plain one, most of the
difference being the forward pass of the selection.
"""

import argparse
import math
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmarks.plain_loop import Loop, rate
from benchmarks.random_examples import LABELS, random_examples
from benchmarks.report import Spread, in_turns, parser, print_table, publish, ratios, seconds
from models.augmentation.augment import augment
from models.augmentation.draws import Draw, draw
from models.augmentation.operations import Operation
from models.augmentation.policies import (
    NO_POLICY,
    BasePolicy,
    ComposedPolicy,
    JitterPolicy,
    RandAugmentPolicy,
    SimplePolicy,
    TrivialAugmentPolicy,
    UncertaintyPolicy,
)
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_training import TrainingSettings
from models.training.peak_memory import PeakMemory
from models.training.profiling import Profile, profile
from models.weighting.registry import UniformSettings, make_weighting

POLICIES: Mapping[str, BasePolicy] = {
    "none": NO_POLICY,
    "simple": SimplePolicy(),
    "jitter": JitterPolicy(flip=0.5, rotation=10, shift=0.05, scale=0.05, brightness=0.2, contrast=0.2),
    "randaugment": RandAugmentPolicy(),
    "trivialaugment": TrivialAugmentPolicy(),
    "composed": ComposedPolicy(),
    "uncertainty": UncertaintyPolicy(candidates=4, selected=1),
}
TRAINED = ("none", "composed", "uncertainty")
PARTS = ("input", "selection", "forward", "backward", "optimiser")
RANDOM = random.Random(0)
STEP_SIZE = 64  # pixels
LEARNING_RATE = 1e-4  # the labels are random: a gentle rate, so that nothing overflows


def random_images(n: int, size: int, device: torch.device) -> Tensor:
    """Return (n, 1, s, s) uint8."""
    return random_examples(n, size).pixels[slice(0, n)].to(device)


def taken(work: Callable[[], object], device: torch.device) -> float:
    """Measure the seconds until the device has done some work."""

    def done() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return seconds(done)


def by_policy(policy: BasePolicy, images: Tensor, rows: Tensor, epoch: int) -> Tensor:
    """Draw for the images of some rows, and augment them, as a training step does.

    Args:
        policy: of the training.
        images: (n, 1, s, s) uint8, of the whole training.
        rows: (b,) int64 on the CPU.
        epoch: at least 1.

    Returns:
        (C b, 1, s, s) uint8.
    """
    batch = images[rows.to(images.device, non_blocking=True)]
    if not policy.slots:
        return batch
    candidates = policy.candidates if isinstance(policy, UncertaintyPolicy) else 1
    how: dict[str, Any] = {"seed": 0, "epoch": epoch, "samples": rows, "n": len(images)}
    drawn = Draw.concatenate([draw(policy.slots, candidate=c, **how) for c in range(candidates)])
    partners = images[drawn.partner_rows.to(images.device, non_blocking=True)]
    return augment(batch.repeat(candidates, 1, 1, 1), drawn, partners, policy.sampling)


def epoch_of(policy: BasePolicy, images: Tensor, batch: int) -> None:
    """Augment all images, in batches."""
    for rows in torch.arange(len(images)).split(batch):
        by_policy(policy, images, rows, 1)


Changed = Callable[[Any, float], Any]
"""An image of Pillow, or tensors (b, 1, s, s), changed by a magnitude of ours."""


def _moved(
    image: Any, *, x: float = 0.0, y: float = 0.0, size: float = 1.0, shear: tuple[float, float] = (0, 0)
) -> Any:
    pixels = [round(-share * F.get_size(image)[0]) for share in (x, y)]  # ours go the other way
    degrees = [math.degrees(math.atan(each)) for each in shear]
    return F.affine(
        image, 0.0, pixels, size, degrees, v2.InterpolationMode.BILINEAR, center=[0, 0] if any(shear) else None
    )


def _cut(image: Any, size: float) -> Any:
    whole = F.get_size(image)[0]
    side, corner = round(size * whole), [RANDOM.randrange(whole) for _ in range(2)]
    return F.erase(image, *corner, min(side, whole - corner[0]), min(side, whole - corner[1]), torch.tensor(128))


TORCHVISION: Mapping[str, Changed] = {
    "rotate": lambda image, m: F.rotate(image, m, v2.InterpolationMode.BILINEAR),
    "translate_x": lambda image, m: _moved(image, x=m),
    "translate_y": lambda image, m: _moved(image, y=m),
    "scale": lambda image, m: _moved(image, size=1 + m),
    "shear_x": lambda image, m: _moved(image, shear=(m, 0.0)),
    "shear_y": lambda image, m: _moved(image, shear=(0.0, m)),
    "brightness": lambda image, m: F.adjust_brightness(image, 1 + m),
    "contrast": lambda image, m: F.adjust_contrast(image, 1 + m),
    "sharpness": lambda image, m: F.adjust_sharpness(image, 1 + m),
    "auto_contrast": lambda image, m: F.autocontrast(image),
    "equalize": lambda image, m: F.equalize(image),
    "cutout": _cut,
}
"""torchvision's functions for the list radiograph; they take images of Pillow and batches of tensors."""


def magnitude_of(operation: Operation) -> float:
    """Draw a magnitude at a random level, as `models.augmentation.draws` does."""
    magnitude = operation.low + RANDOM.random() * (operation.high - operation.low)
    return -magnitude if operation.signed and RANDOM.random() < 0.5 else magnitude


def composed_by_torchvision(image: Any) -> Any:
    """Change an image, or a batch of them in one way, as the policy `composed` would."""
    for slot in POLICIES["composed"].slots:
        if RANDOM.random() < slot.probability:
            operation = RANDOM.choice(slot.operations)
            image = TORCHVISION[operation.name](image, magnitude_of(operation))
    return image


LIKE_TORCHVISION: Mapping[str, tuple[BasePolicy, Callable[[Any], Any]]] = {
    "composed": (POLICIES["composed"], composed_by_torchvision),
    "randaugment": (
        RandAugmentPolicy(operations="randaugment", interpolation="nearest", outside="black"),
        v2.RandAugment(),
    ),
}
"""Policies that torchvision can follow: ours, and its transform."""


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory, which a worker makes Pillow's, changes, and makes tensors again."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Any]) -> None:
        self._images, self._transform, self._target = images[:, 0].cpu().numpy(), transform, torch.zeros(1)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return F.pil_to_tensor(self._transform(Image.fromarray(self._images[index]))), self._target


class NoTraining:
    """Takes the batches of a loop and does nothing with them."""

    def __init__(self, batch: int) -> None:
        self.loop, self.device = Loop(batch), torch.device("cpu")

    def step(self, images: Tensor, targets: Tensor) -> None:
        """Do nothing."""


def ways(name: str, images: Tensor, batch: int, workers: int) -> dict[str, Callable[[], float]]:
    """Return what measures the images per second of each way under a policy that torchvision can follow."""
    policy, theirs = LIKE_TORCHVISION[name]
    loop: Any = NoTraining(batch)

    def batches() -> None:
        for part in images.split(batch):
            theirs(part)

    return {
        "ours": lambda: len(images) / taken(partial(epoch_of, policy, images, batch), images.device),
        "PIL, workers": lambda: rate(Pictures(images, theirs), loop, workers, len(images)),
        "v2, one draw a batch": lambda: len(images) / taken(batches, images.device),
    }


def rates(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Images per second of ours and torchvision's ways; prints a table."""
    rows, records = [], []
    batch = options.batch[-1]
    for size in options.size:
        images = random_images(options.images, size, device)
        for name in LIKE_TORCHVISION:
            found = in_turns(ways(name, images, batch, options.workers), options.rounds)
            record: dict[str, Any] = {"policy": name, "size": size, "ways": {}}
            for way, values in found.items():
                speed, times = Spread.of(values), ratios(found["ours"], values)
                rows.append((f"{name}, {size} px, {way}", f"{speed:,.0f}", f"{times:.2f}"))
                record["ways"][way] = {"images_per_second": speed._asdict(), "ours_times": times._asdict()}
            records.append(record)
    print(
        f"\nimages per second, batches of {batch}, {options.workers} workers, {torch.get_num_threads()} threads of ours"
    )
    print_table(("policy and way", "images/s", "ours is so many times it"), rows)
    return records


def policies(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Time and memory of each policy's augmentation; prints a table."""
    rows, records = [], []
    batch = options.batch[-1]
    for size in options.size:
        images = random_images(options.images, size, device)
        memory: dict[str, list[float]] = {name: [] for name in POLICIES}

        def one(name: str, images: Tensor = images, memory: dict[str, list[float]] = memory) -> float:
            with PeakMemory("cuda" if device.type == "cuda" else "cpu") as peak:
                spent = taken(partial(epoch_of, POLICIES[name], images, batch), device)
            memory[name].append(math.nan if peak.mib is None else peak.mib)
            return spent / len(images)

        found = in_turns({name: partial(one, name) for name in POLICIES}, options.rounds)
        for name, values in found.items():
            each, peak = Spread.of([1e6 * value for value in values]), Spread.of(memory[name][1:])
            rows.append((f"{name}, {size} px", f"{each:,.1f}", f"{peak:.1f}"))
            records.append({"policy": name, "size": size, "microseconds": each._asdict(), "peak_mib": peak._asdict()})
    print(f"\naugmentation by policy, batches of {batch}")
    print_table(("policy", "µs an image", "peak MiB"), rows)
    return records


def trained(backbone: str, batch: int, policy: BasePolicy, options: argparse.Namespace) -> Profile:
    """Profile a training of three short epochs."""
    train, val = random_examples(options.steps * batch, STEP_SIZE), random_examples(16, STEP_SIZE, seed=1)
    network = initial_network(NetworkSettings(backbone=backbone), LABELS, train.pixels[slice(0, 64)][:, 0], seed=0)
    settings = TrainingSettings(epochs=3, batch_size=batch, learning_rate=LEARNING_RATE, compile="off")
    rule = make_weighting(UniformSettings(), len(LABELS))
    return profile(network, rule, train, val, settings, seed=0, policy=policy, device=options.device)


def steps(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Training steps under three policies, by part; prints a table."""
    rows, records = [], []
    for backbone in options.backbone:
        for batch in options.batch:
            ways = {name: partial(trained, backbone, batch, POLICIES[name], options) for name in TRAINED}
            found = in_turns(ways, options.rounds)
            plain = [each.step_seconds for each in found["none"]]
            for name, profiles in found.items():
                whole = [each.step_seconds for each in profiles]
                of_part = {
                    part: [next(row.seconds for row in each.rows if row.part == part) for each in profiles]
                    for part in PARTS
                }
                multiples = {part: ratios(times, plain) for part, times in {"step": whole, **of_part}.items()}
                step = Spread.of([1e3 * each for each in whole])
                cells = [f"{multiples['step']:.2f}", *(f"{multiples[part].median:.2f}" for part in PARTS)]
                rows.append((f"{backbone}, batch {batch}, {name}", f"{step:.1f}", *cells))
                records.append(
                    {"backbone": backbone, "batch": batch, "policy": name, "step_milliseconds": step._asdict()}
                    | {"of_plain_step": {part: each._asdict() for part, each in multiples.items()}}
                )
    print(f"\ntraining steps, {STEP_SIZE} px, as multiples of a step under no policy")
    print_table(("network, batch, policy", "ms", "step", *PARTS), rows)
    return records


MEASURED: Mapping[str, Callable[[argparse.Namespace, torch.device], list[dict[str, Any]]]] = {
    "rates": rates,
    "policies": policies,
    "steps": steps,
}


def main() -> None:
    """Print tables, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--of", nargs="+", default=list(MEASURED), choices=list(MEASURED), help="what is measured")
    command.add_argument("--size", nargs="+", type=int, default=[32, 64, 224], help="sides of the images, pixels")
    command.add_argument("--batch", nargs="+", type=int, default=[32, 64], help="images a step; the last one elsewhere")
    command.add_argument("--backbone", nargs="+", default=["resnet18", "conv4"], help="conv4, or timm's names")
    command.add_argument("--images", type=int, default=2048, help="images in memory, all of them in every round")
    command.add_argument("--steps", type=int, default=6, help="of an epoch of the trainings")
    command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of ours and of v2 on a CPU")
    command.add_argument("--workers", type=int, help="processes for Pillow; default: as many as threads")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    options = command.parse_args()
    options.workers = options.workers or options.threads
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    found = {name: MEASURED[name](options, device) for name in options.of}
    publish({"settings": vars(options) | {"json": None}, **found}, options.json)


if __name__ == "__main__":
    main()
