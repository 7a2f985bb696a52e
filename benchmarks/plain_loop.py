"""The loop of the public CheXNet reproductions, with which the benchmarks compare ours.

It opens PNG files with Pillow and uses torchvision's transforms, a DataLoader with worker processes, float32 and
batches of 16.

A `Loop` may also follow the usual advice: 16-bit autocast where the device has units for it, channels-last, larger
batches, persistent workers, pinned memory.

Shapes: b images of a batch, s x s pixels, k labels.
"""

import csv
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

PREFETCH = 2
"""Batches that each worker prepares ahead: the DataLoader's own default."""

_NIH_HEADER = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Sex", "View Position")


@dataclass(frozen=True)
class Loop:
    """How a plain loop is set up."""

    batch_size: int = 16
    advised: bool = False  # channels-last, persistent workers, pinned memory
    sixteen_bits: bool = False  # autocast to bfloat16


class PngFiles(Dataset[tuple[Tensor, Tensor]]):
    """Files and their targets, (k,) float32 each; `mode` is Pillow's name of the channels."""

    def __init__(self, files: Sequence[Path], targets: np.ndarray, transform: Any, mode: str = "RGB") -> None:
        self.files, self.targets, self.transform, self.mode = files, targets.astype(np.float32), transform, mode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[index]) as picture:
            return self.transform(picture.convert(self.mode)), torch.from_numpy(self.targets[index])


class XrvFiles(Dataset[tuple[Tensor, Tensor]]):
    """torchxrayvision's own data set of NIH's files, with its crop and resize; findings are drawn at random."""

    def __init__(self, files: Sequence[Path], size: int, folder: Path) -> None:
        import torchxrayvision as xrv

        table = folder / "Data_Entry.csv"
        generator = np.random.default_rng(0)
        with table.open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(_NIH_HEADER)
            for number, file in enumerate(files):
                rows.writerow([file.name, generator.choice(["Effusion", "No Finding"]), number, 50, "F", "PA"])
        resize = transforms.Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size)])
        self.samples = xrv.datasets.NIH_Dataset(str(files[0].parent), csvpath=str(table), transform=resize)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        return torch.from_numpy(sample["img"]), torch.from_numpy(sample["lab"])


def chexnet_transform(size: int) -> Any:
    """Resize to 256 / 224 of the size, random crop, flip, ImageNet's normalisation: PIL RGB -> (3, s, s) float32."""
    return transforms.Compose(
        [
            transforms.Resize(round(size * 256 / 224)),
            transforms.RandomCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )


def plain_network(backbone: str, channels: int, tasks: int) -> nn.Module:
    """Make timm's network with one linear layer for all labels."""
    import timm

    import models.networks.conv4  # noqa: F401  registers conv4

    return timm.create_model(backbone, in_chans=channels, num_classes=tasks)


class Trainer:
    """The step: logits, mean binary cross-entropy, Adam."""

    def __init__(self, network: nn.Module, loop: Loop, device: torch.device) -> None:
        self.loop, self.device = loop, device
        layout = torch.channels_last if loop.advised else torch.contiguous_format
        self.network = network.to(device).to(memory_format=layout).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)

    def step(self, images: Tensor, targets: Tensor) -> float:
        """One step on (b, c, s, s) images and (b, k) targets; returns its loss, as the reproductions log it."""
        layout = torch.channels_last if self.loop.advised else torch.contiguous_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        targets = targets.to(self.device, non_blocking=True)
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.loop.sixteen_bits else nullcontext()
        with precision:
            logits = self.network(images)
        loss = binary_cross_entropy_with_logits(logits.float(), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def rate(dataset: Dataset[tuple[Tensor, Tensor]], trainer: Trainer, workers: int, images: int) -> float:
    """Measure the images per second of the running loop.

    The start of the workers does not count, nor the batches that are ready before the clock starts, nor the idle end.
    Workers that started together finish together, so that batches come in bursts of one per worker: whole bursts are
    timed, because less than one would count a wait for more batches than it brings.

    Args:
        dataset: gives the images and targets.
        trainer: does the steps.
        workers: processes of the DataLoader.
        images: at least so many are timed, and of each worker at least one batch; drawn with replacement.
    """
    loop, device = trainer.loop, trainer.device
    ahead, burst = max(1, PREFETCH * workers), max(1, workers)
    steps = -(-images // (burst * loop.batch_size)) * burst
    drawn = torch.Generator().manual_seed(0)
    loader = DataLoader(
        dataset,
        batch_size=loop.batch_size,
        sampler=RandomSampler(
            dataset,  # type: ignore[arg-type]
            replacement=True,
            num_samples=(2 * ahead + steps) * loop.batch_size,
            generator=drawn,
        ),
        num_workers=workers,
        pin_memory=loop.advised and device.type == "cuda",
        persistent_workers=loop.advised and workers > 0,
        generator=drawn,
    )
    begun = 0.0
    for done, (pictures, targets) in enumerate(loader, start=1):
        trainer.step(pictures, targets)  # ends with the loss on the host: nothing is still to be done
        if done == ahead:
            begun = time.perf_counter()
        if done == ahead + steps:
            break
    return steps * loop.batch_size / (time.perf_counter() - begun)
