"""Images per second of training: ours beside its ceiling, beside the loops in common use, and beside the floor.

    python -m benchmarks.training [--backbone conv4 ...] [--size 64] [--images DIR] [--rounds 7] [--device auto]
                                  [--batch N] [--count N] [--plain-images N] [--workers N]
                                  [--compile auto] [--files N] [--as-stored] [--placement] [--json FILE]

* ceiling: the same step (`models.training.image_step.Step`) again and again on one batch of random pixels that is on
  the device;
* ours: epochs of `models.training.image_training.fit`, images in memory, shifted and flipped as loop (b) crops and
  flips them;
* (b) plain: as in the public CheXNet reproductions (`benchmarks.plain_loop`): PNG files of 1,024 px, Pillow, resize,
  random crop, flip, a DataLoader with worker processes, float32, batches of 16;
* (c) advised: the same with 16-bit autocast where the device has units for it, channels-last, our batch size,
  persistent workers, pinned memory;
* (d) torchxrayvision's data set in loop (b), where it is installed;
* --as-stored: ours without augmentation, which is `fit`'s default;
* --placement: ours with the budget of the device's memory, or of that and main memory, capped at a third of what the
  images take, so that batches come from main memory, or from a memory-mapped file (which the operating system may
  well hold in memory).

Every epoch of ours is a round, after which the others take their turns; the first one warms up. Shares and factors
compare rates of one round. (b), (c) and (d) are timed in full swing, and read the files of --images, or random ones
that cost a decoder what a radiograph does.

The floor is `models.training.profiling`'s; the parts are those of `ours` there, which on a GPU waits for it around
each part.

Without --backbone and --size: DenseNet-121 and ResNet-50 at 224 px, an epoch over 86,524 images (ChestX-ray14's
training set) each, where there is a GPU; else conv4 and ResNet-18 at 64 px. Expected: ours at 95 % of the ceiling and
1.5 times (b) on two cores, 97 % of it, 10 times (b) and twice (c) on a GPU.
"""

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.plain_loop import Loop, PngFiles, Trainer, XrvFiles, chexnet_transform, plain_network, rate
from benchmarks.random_examples import LABELS, random_examples
from benchmarks.report import Spread, parser, print_table, publish, ratios, seconds
from models.augmentation.policies import NO_POLICY, JitterPolicy, PolicySettings
from models.data.image_batches import Examples, examples
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_step import Batch, Step
from models.training.image_training import ImageEpochReport, TrainingSettings, fit
from models.training.profiling import Profile, profile
from models.weighting.registry import UniformSettings, make_weighting

FILE_SIDE = 1024  # pixels
FLIP_AND_SHIFT = JitterPolicy(flip=0.5, shift=16 / 224)
"""What (b) does: a crop of 224 out of 256 px lies up to 16 px off the centre."""
LEARNING_RATE = 1e-4
CEILING_STEPS = 200  # at most, in a round
VAL_IMAGES = 64
PROFILED_STEPS = 40  # of an epoch, at most

Rates = dict[str, list[float]]
"""Images per second of each way, by round."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    backbone: str
    size: int  # pixels
    count: int  # images in an epoch of ours
    batch: int
    device: str
    compile: Literal["auto", "on", "off"]
    rounds: int
    plain_images: int  # timed in a round of (b), (c), (d)
    workers: int

    def network(self, train: Examples) -> MultiTaskNetwork:
        """Make the network at its start."""
        some = train.pixels[slice(0, 4096)][:, 0]
        return initial_network(NetworkSettings(backbone=self.backbone), LABELS, some, seed=0)

    @property
    def settings(self) -> TrainingSettings:
        """The settings of a training."""
        # the labels are random: a gentle rate, so that nothing overflows
        return TrainingSettings(
            epochs=self.rounds + 1, batch_size=self.batch, learning_rate=LEARNING_RATE,
            compile=self.compile,
        )  # fmt: skip


class Way(NamedTuple):
    """One way of ours to train: its images, settings and augmentation."""

    train: Examples
    settings: TrainingSettings
    policy: PolicySettings


def in_epochs(case: Case, name: str, way: Way, others: Mapping[str, Callable[[], float]]) -> Rates:
    """Trains, and lets the others have their turns after each epoch: first the ceiling, whose share matters most."""
    found: Rates = {each: [] for each in (name, *others)}
    top, *rest = others

    def ended(report: ImageEpochReport, state: Mapping[str, Any]) -> None:
        first = report.epoch % max(1, len(rest))
        rates = {name: report.items_per_second}
        rates |= {other: others[other]() for other in [top, *rest[first:], *rest[:first]]}
        shown = ", ".join(f"{each} {rate:,.0f}/s" for each, rate in rates.items())
        print(f"{case.backbone}, epoch {report.epoch}: {shown}", flush=True)
        if report.epoch > 1:  # the first one warms up
            for each, value in rates.items():
                found[each].append(value)

    weighting, val = make_weighting(UniformSettings(), len(LABELS)), random_examples(VAL_IMAGES, case.size, seed=1)
    how: dict[str, Any] = {"seed": 0, "policy": way.policy, "device": case.device, "on_epoch": ended}
    fitted = fit(case.network(way.train), weighting, way.train, val, way.settings, **how)
    print(f"{case.backbone}, {name}: {fitted.compilation}; images: {fitted.placement}")
    return found


def ceiling(case: Case, train: Examples) -> Callable[[], float]:
    """Time the same step on one batch that is on the device, of the type that the network gets from us."""
    step = Step(case.network(train), make_weighting(UniformSettings(), len(LABELS)), case.settings, case.device)  # type: ignore[arg-type]
    pixels = train.pixels[slice(0, case.batch)].to(step.device)
    batch = Batch(pixels, train.targets[: case.batch].to(step.device))
    step.network.train()
    step.compile_if_faster(pixels, (case.rounds + 1) * -(-case.count // case.batch))
    steps = min(CEILING_STEPS, -(-case.count // case.batch))

    def run() -> None:
        for _ in range(steps):
            losses, _ = step(batch)
        losses.cpu()  # waits for the device

    return lambda: steps * len(pixels) / seconds(run)


def plain_ways(case: Case, files: list[Path], folder: Path) -> dict[str, Callable[[], float]]:
    """Loops (b), (c) and, where it can be had, (d)."""
    device = torch.device("cuda" if case.device != "cpu" and torch.cuda.is_available() else "cpu")
    sixteen_bits = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else torch.cpu._is_amx_tile_supported()
    )
    targets = np.random.default_rng(0).integers(0, 2, (len(files), len(LABELS)))
    pngs = PngFiles(files, targets, chexnet_transform(case.size))

    def way(loop: Loop, dataset: PngFiles | XrvFiles, channels: int) -> Callable[[], float]:
        trainer = Trainer(plain_network(case.backbone, channels, len(LABELS)), loop, device)
        return lambda: rate(dataset, trainer, case.workers, case.plain_images)

    ways = {
        "(b) plain": way(Loop(), pngs, 3),
        "(c) advised": way(Loop(case.batch, advised=True, sixteen_bits=sixteen_bits), pngs, 3),
    }
    if importlib.util.find_spec("torchxrayvision"):
        ways["(d) torchxrayvision"] = way(Loop(), XrvFiles(files, case.size, folder), 1)
    else:
        print("(d) is left out: torchxrayvision is not installed")
    return ways


def capped(case: Case, train: Examples, folder: Path) -> dict[str, Way]:
    """Ours with two thirds of the images too many for the device, or for it and main memory."""
    third = train.pixels.numel() / 3 / 2**30
    settings = case.settings
    stored = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (case.count, case.size, case.size))
    stored[:] = train.pixels[slice(None)][:, 0].numpy()
    stored.flush()
    mapped = np.load(folder / "pixels.npy", mmap_mode="r")
    in_file = examples(mapped, train.targets, train.patients, np.arange(case.count))
    return {
        "a third on the device": Way(in_file, settings.model_copy(update={"device_memory": third}), FLIP_AND_SHIFT),
        "a third in all memory": Way(
            in_file, settings.model_copy(update={"device_memory": third, "main_memory": third}), FLIP_AND_SHIFT
        ),
    }  # fmt: skip


def pictures(folder: Path, count: int) -> list[Path]:
    """PNGs of random pictures with the size of a radiograph's file, about 0.4 MB."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 24), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((FILE_SIDE, FILE_SIDE), Image.Resampling.BICUBIC), dtype=float)
        grain = generator.normal(0, 1.5, smooth.shape)
        file = folder / f"{number:08d}_000.png"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file)
        files.append(file)
    return files


def measure(
    case: Case, files: list[Path], folder: Path, *, as_stored: bool, placement: bool
) -> tuple[Rates, dict[str, str]]:
    """All ways' rates, and each way's own ceiling."""
    train = random_examples(case.count, case.size)
    others = {"ceiling": ceiling(case, train), **plain_ways(case, files, folder)}
    found = in_epochs(case, "ours", Way(train, case.settings, FLIP_AND_SHIFT), others)
    ceilings = dict.fromkeys(found, "ceiling")
    more: dict[str, Way] = {}
    if as_stored:
        more["ours, as stored"] = Way(train, case.settings, NO_POLICY)
    if placement:
        more |= capped(case, train, folder)
    for name, way in more.items():
        top = f"ceiling of {name}"
        found |= in_epochs(case, name, way, {top: ceiling(case, train)})
        ceilings[name] = top
    return found, ceilings


def where_time_goes(case: Case) -> Profile:
    """Of three short epochs of ours, with the floor."""
    train, val = (
        random_examples(n, case.size, seed=seed)
        for seed, n in enumerate((min(case.count, PROFILED_STEPS * case.batch), VAL_IMAGES))
    )
    settings = case.settings.model_copy(update={"epochs": 3})
    rule = make_weighting(UniformSettings(), len(LABELS))
    how: dict[str, Any] = {"seed": 0, "policy": FLIP_AND_SHIFT, "device": case.device}
    return profile(case.network(train), rule, train, val, settings, **how)


def show(case: Case, found: Rates, ceilings: dict[str, str], where: Profile) -> dict[str, Any]:
    """Print a case's tables; return what goes into the JSON."""
    rows, record = [], {}
    for way, top in ceilings.items():
        speed, share = Spread.of(found[way]), ratios(found[way], found[top])
        rows.append((way, f"{speed:,.0f}", f"{share:.1%}"))
        record[way] = {"images_per_second": speed._asdict(), "of_ceiling": share._asdict()}
    print(f"\n{case.backbone}, {case.size} px, {case.count:,} images, batches of {case.batch}, {case.workers} workers")
    print_table(("way", "images/s", "of its ceiling"), rows)
    factors = {way: ratios(found["ours"], found[way]) for way in found if way.startswith("(")}
    for way, factor in factors.items():
        print(f"ours is {factor:.2f} times {way}")
    print(f"an epoch of ours: {case.count / Spread.of(found['ours']).median:.1f} s")
    print_table(("part of a step", "ms", "share"),
                [(row.part, f"{1e3 * row.seconds:.2f}", f"{row.share:.1%}") for row in where.rows])  # fmt: skip
    least, best = where.floor, where.images / Spread.of(found["ceiling"]).median
    print(f"floor: {1e3 * least.seconds:.2f} ms a step ({1e-9 * least.operations:,.0f} GFLOP: "
          f"{1e3 * least.operation_seconds:.2f} ms at {1e-12 * least.limits.operations_per_second:.2f} TFLOP/s in "
          f"{least.limits.precision}; {1e-6 * least.bytes:,.0f} MB: {1e3 * least.byte_seconds:.2f} ms at "
          f"{1e-9 * least.limits.bytes_per_second:.0f} GB/s)")  # fmt: skip
    print(f"the ceiling's step takes {best / least.seconds:.2f} times the floor, ours {where.of_floor:.2f} times")
    return {
        "case": asdict(case),
        "ways": record,
        "ours_times": {way: factor._asdict() for way, factor in factors.items()},
        "profile": asdict(where) | {"floor_seconds": least.seconds, "of_floor": where.of_floor},
        "ceiling_of_floor": best / least.seconds,
    }


def cases(options: argparse.Namespace) -> list[Case]:
    """Return the command's cases, with what it does not say by the device."""
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    small_count = {"conv4": 4096}
    backbones = options.backbone or (["densenet121", "resnet50"] if on_gpu else ["conv4", "resnet18"])
    one = Case(
        backbone="", size=options.size or (224 if on_gpu else 64), count=0,
        batch=options.batch or (256 if on_gpu else 64), device=options.device,
        compile=options.compile, rounds=options.rounds or (3 if on_gpu else 7),
        plain_images=options.plain_images or (2048 if on_gpu else 192),
        workers=options.workers if options.workers is not None else len(os.sched_getaffinity(0)),
    )  # fmt: skip
    return [
        replace(one, backbone=name, count=options.count or (86_524 if on_gpu else small_count.get(name, 512)))
        for name in backbones
    ]


def main() -> None:
    """Print tables, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--backbone", nargs="+", help="conv4, or timm's names")
    command.add_argument("--size", type=int, help="side of the images that are trained on, pixels")
    command.add_argument("--images", type=Path, help="folder of PNGs of 1,024 px for (b), (c), (d); none: random ones")
    command.add_argument("--files", type=int, default=128, help="number of random files")
    command.add_argument("--count", type=int, help="images in an epoch of ours")
    command.add_argument("--batch", type=int, help="images a step, of ours and of (c)")
    command.add_argument("--rounds", type=int)
    command.add_argument("--plain-images", type=int, help="images that a round of (b), (c), (d) is timed over")
    command.add_argument("--workers", type=int, help="worker processes of (b), (c), (d); default: one per core")
    command.add_argument("--as-stored", action="store_true", help="also ours without augmentation")
    command.add_argument("--placement", action="store_true", help="also ours with a third of the memory it would need")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--compile", default="auto", choices=["auto", "on", "off"])
    options = command.parse_args()
    records = []
    for case in cases(options):
        with tempfile.TemporaryDirectory() as folder:
            given = sorted(options.images.glob("*.png")) if options.images else None
            files = given or pictures(Path(folder), options.files)
            rates = measure(case, files, Path(folder), as_stored=options.as_stored, placement=options.placement)
            records.append(show(case, *rates, where_time_goes(case)))
    publish({"files": options.images.name if options.images else "random", "cases": records}, options.json)


if __name__ == "__main__":
    main()
