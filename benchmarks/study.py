"""Arms of a study per hour: trained one at a time, together in processes, or together as one batched network.

    python -m benchmarks.study [--backbone conv4] [--size 64] [--arms 4] [--images 2048] [--epochs 2] [--rounds 5]
                               [--together N] [--device auto] [--json FILE]

The arms share images and seed (so first weights, order and batches) and differ in the noise on their labels:

* one at a time: `models.training.image_training.fit`, one after the other, all threads of the machine;
* together: the same in N processes at once, each with its share of the threads (default: one process per core on a
  CPU, 4 on a GPU, where they share the device);
* batched: `torch.func` stacks the arms' networks and runs every step once for all of them (`stack_module_state`,
  `vmap`), reading each batch once; a candidate that lives in this benchmark alone.

They take turns; a first round warms up. Then the arms' losses are compared: those trained together with the same arms
trained alone with the same number of threads (they must be equal to the last bit), and the batched ones with them.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.random_examples import LABELS, random_examples
from benchmarks.report import Spread, in_turns, parser, print_table, publish, ratios, seconds
from models.data.image_batches import Examples, epoch_batches, steps_per_epoch
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit
from models.training.loop import learning_rate_at
from models.training.losses import task_losses
from models.weighting.registry import UniformSettings, make_weighting

Losses = list[tuple[float, ...]]
"""An arm's mean training losses: a tuple over the labels for each epoch."""


@dataclass(frozen=True)
class Study:
    """What is trained."""

    backbone: str
    size: int  # pixels
    images: int
    epochs: int
    device: str

    @property
    def training(self) -> TrainingSettings:
        """How an arm is trained."""
        return TrainingSettings(epochs=self.epochs)

    def examples(self, arm: int) -> Examples:
        """Return the shared images with the arm's labels: 20 % of them replaced by fair coins."""
        clean = random_examples(self.images, self.size)
        generator = np.random.default_rng(arm)
        chosen = generator.random(clean.targets.shape) < 0.2
        noisy = np.where(chosen, generator.integers(0, 2, clean.targets.shape), clean.targets.numpy())
        return replace(clean, targets=torch.from_numpy(noisy.astype(np.int8)))

    def network(self, pixels: Tensor) -> MultiTaskNetwork:
        """Make the network at its start."""
        return initial_network(NetworkSettings(backbone=self.backbone), LABELS, pixels[:, 0], seed=0)


def train_alone(study: Study, arm: int) -> Losses:
    """Train an arm as a study trains it, with the threads that this process has."""
    train, val = study.examples(arm), random_examples(16, study.size, seed=1)
    fitted = fit(
        study.network(train.pixels), make_weighting(UniformSettings(), len(LABELS)), train, val, study.training,
        seed=0, device=study.device,  # type: ignore[arg-type]
    )  # fmt: skip
    return [report.losses for report in fitted.history]


def train_batched(study: Study, arms: Sequence[int]) -> list[Losses]:
    """All arms in one network with another dimension, AdamW on the stacked parameters."""
    device = torch.device("cuda" if study.device != "cpu" and torch.cuda.is_available() else "cpu")
    settings = study.training
    pixels = study.examples(0).pixels.to(device)
    targets = torch.stack([study.examples(arm).targets for arm in arms]).to(device)  # (arms, n, k)
    networks = [study.network(pixels.cpu()).to(device) for _ in arms]
    shape = networks[0].train().to(memory_format=torch.channels_last)
    parameters, buffers = stack_module_state(networks)  # type: ignore[arg-type]
    matrices = [p for p in parameters.values() if p.ndim > 2]  # one dimension more than in a single network
    others = [p for p in parameters.values() if p.ndim <= 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)

    def losses_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor, images: Tensor) -> Tensor:
        return task_losses(functional_call(shape, (parameters, buffers), (images,)), rows)

    of_all = vmap(losses_of, in_dims=(0, 0, 0, None))
    steps = steps_per_epoch(study.images, settings.batch_size)
    found: list[Tensor] = []
    for epoch in range(1, study.epochs + 1):
        seen = []
        for step, rows in enumerate(
            epoch_batches(study.images, settings.batch_size, seed=0, epoch=epoch, device=device)
        ):
            rate = learning_rate_at((epoch - 1) * steps + step, study.epochs * steps, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                losses = of_all(parameters, buffers, targets[:, rows], pixels[rows])  # (arms, k)
            optimizer.zero_grad()
            losses.mean(1).sum().backward()  # no arm's parameters are in another's mean
            optimizer.step()
            seen.append(losses.detach())
        found.append(torch.stack(seen).mean(0).cpu())
    return [[tuple(epoch[arm].tolist()) for epoch in found] for arm in range(len(arms))]


def difference(a: Sequence[Losses], b: Sequence[Losses]) -> float:
    """Return the largest difference between the losses of the same arms."""
    return float(np.abs(np.array(a) - np.array(b)).max())


def _start(threads: int) -> None:
    torch.set_num_threads(threads)


def main() -> None:
    """Print a table, and JSON as the last line."""
    cores = len(os.sched_getaffinity(0))
    on_gpu = torch.cuda.is_available()
    command = parser(__doc__)
    command.add_argument("--backbone", default="conv4")
    command.add_argument("--size", type=int, default=64, help="side of the images, pixels")
    command.add_argument("--arms", type=int, default=4)
    command.add_argument("--images", type=int, default=2048, help="training images")
    command.add_argument("--epochs", type=int, default=2)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--together", type=int, default=4 if on_gpu else cores, help="processes at once")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    options = command.parse_args()
    study = Study(options.backbone, options.size, options.images, options.epochs, options.device)
    arms = range(options.arms)
    share = max(1, cores // options.together)

    context = multiprocessing.get_context("spawn")
    alone = ProcessPoolExecutor(1, context, _start, (cores,))
    together = ProcessPoolExecutor(options.together, context, _start, (share,))
    reference = ProcessPoolExecutor(1, context, _start, (share,))
    results: dict[str, list[Losses]] = {}

    def one_at_a_time() -> float:
        return seconds(lambda: results.update(alone=[alone.submit(train_alone, study, arm).result() for arm in arms]))

    def in_processes() -> float:
        def all_of_them() -> None:
            submitted = [together.submit(train_alone, study, arm) for arm in arms]
            results["together"] = [future.result() for future in submitted]

        return seconds(all_of_them)

    def batched() -> float:
        return seconds(lambda: results.update(batched=alone.submit(train_batched, study, arms).result()))

    try:
        begun = time.perf_counter()
        times = in_turns({"one at a time": one_at_a_time, "together": in_processes, "batched": batched}, options.rounds)
        same_threads = [reference.submit(train_alone, study, arm).result() for arm in arms]
        elapsed = time.perf_counter() - begun
    finally:
        for pool in (alone, together, reference):
            pool.shutdown(cancel_futures=True)

    rows, record = [], {}
    for way, taken in times.items():
        per_hour = Spread.of([3600 * options.arms / t for t in taken])
        gain = ratios(times["one at a time"], taken)
        rows.append((way, f"{per_hour:,.0f}", f"{gain:.2f}"))
        record[way] = {"arms_per_hour": per_hour._asdict(), "of_one_at_a_time": gain._asdict()}
    equal = results["together"] == same_threads
    off = difference(results["batched"], same_threads)
    print(f"{options.arms} arms, {study.backbone}, {study.size} px, {study.images} images, {study.epochs} epochs; "
          f"together: {options.together} processes of {share} thread(s)")  # fmt: skip
    print_table(("way", "arms/hour", "of one at a time"), rows)
    print(f"arms trained together equal arms trained alone with {share} thread(s), bit for bit: {equal}")
    print(f"largest difference of a loss, batched: {off:.1e}")
    publish(
        {
            "study": vars(options) | {"json": None, "threads_each": share},
            "ways": record,
            "together_equals_alone": equal,
            "batched_difference": off,
            "seconds": elapsed,
        },
        options.json,
    )
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
