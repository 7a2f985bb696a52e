"""Whether training as fast as it can reaches the accuracy of the plain loop.

    python -m benchmarks.accuracy [--folder DIR] [--patients 1800] [--seeds 5] [--epochs 7] [--backbone conv4]
                                  [--device auto] [--workers N] [--json FILE]

On phantom radiographs of 64 px (rendered anew, which needs OpenCV), or on a folder laid out like them:
`images/*.png`, all of one size, beside NIH's label table. Both loops train the same network from the same first
weights, by patients split at random, with the same optimiser, rates, batch size and epochs, shifted and flipped, and
both keep the epoch with the best validation AUC. Ours is `models.training.image_training.fit` with its defaults
(precision, layout, compilation). The plain one is Pillow, torchvision's transforms and a DataLoader with worker
processes in float32; it shifts by whole pixels and draws its own order. Expected: a mean difference of test AUC
within 0.01 over five seeds.
"""

import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.plain_loop import PngFiles
from benchmarks.report import parser, print_table, publish, seconds, t_interval
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.labels.table import LabelTable, read_labels
from models.augmentation.policies import JitterPolicy
from models.data.image_batches import Examples, examples
from models.evaluation.auc import mean_auc
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit, predict
from models.training.loop import learning_rate_at
from models.weighting.registry import UniformSettings, make_weighting

TABLE = "Data_Entry_2017_v2020.csv"
SIZE = 64  # pixels, of the phantom
SHIFT = 1 / 16  # of the side, at most
POLICY = JitterPolicy(flip=0.5, shift=SHIFT)
BOUND = 0.01


@dataclass(frozen=True)
class Data:
    """The images of a folder, split by patient."""

    files: list[Path]
    table: LabelTable
    pixels: np.ndarray  # (n, s, s) uint8
    parts: dict[str, np.ndarray]  # rows

    @classmethod
    def read(cls, folder: Path) -> "Data":
        """Read the folder's images and labels, and split them by patient."""
        table = read_labels(folder / TABLE)
        files = [folder / "images" / name for name in table.images.tolist()]
        pixels = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
        split = make_split(SplitSettings(), table.images, table.patients)
        return cls(files, table, pixels, {"train": split.train, "val": split.val, "test": split.test})

    def examples(self, part: str) -> Examples:
        """Return the examples of a part: train, val or test."""
        rows = self.parts[part]
        patients = hashed_patients("folder", self.table.patients[rows].tolist())
        return examples(self.pixels[rows], self.table.targets[rows], patients)

    def auc(self, network: MultiTaskNetwork, part: str) -> float:
        """Return the network's mean AUC on a part."""
        found = self.examples(part)
        return float(mean_auc(found.targets.numpy(), predict(network, found.pixels).numpy()))


def train_ours(network: MultiTaskNetwork, data: Data, settings: TrainingSettings, seed: int, device: str) -> None:
    """Leaves the network with the weights of its best epoch."""
    weighting = make_weighting(UniformSettings(), len(network.labels))
    how: dict[str, Any] = {"seed": seed, "policy": POLICY, "device": device}
    fit(network, weighting, data.examples("train"), data.examples("val"), settings, **how)


def train_plainly(
    network: MultiTaskNetwork, data: Data, settings: TrainingSettings, seed: int, device: torch.device, workers: int
) -> None:
    """Train the same with files, workers and float32."""
    side = data.pixels.shape[-1]
    most = round(SHIFT * side)
    changed = transforms.Compose(
        [
            transforms.Pad(most, padding_mode="edge"),
            transforms.RandomCrop(side),
            transforms.RandomHorizontalFlip(POLICY.flip),
            transforms.PILToTensor(),
        ]
    )
    rows = data.parts["train"]
    pngs = PngFiles([data.files[row] for row in rows], data.table.targets[rows], changed, mode="L")
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(pngs, settings.batch_size, shuffle=True, num_workers=workers, generator=generator)
    network.to(device)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    best, kept, step = -1.0, deepcopy(network.state_dict()), 0
    for _ in range(settings.epochs):
        network.train()
        for pictures, targets in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, settings.epochs * len(loader), settings)
            logits = network(pictures.to(device))
            loss = binary_cross_entropy_with_logits(logits, targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        auc = data.auc(network, "val")
        if auc > best:
            best, kept = auc, deepcopy(network.state_dict())
    network.load_state_dict(kept)


def phantom(folder: Path, patients: int) -> Path:
    """Render it."""
    from data_prep.phantom.dataset import PhantomSettings, write_phantom

    cores = len(os.sched_getaffinity(0))
    write_phantom(
        PhantomSettings(patients=patients, size=SIZE), folder, workers=cores, progress=lambda done, total: None
    )
    return folder


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--folder", type=Path, help="images/*.png and NIH's label table; none: a phantom")
    command.add_argument("--patients", type=int, default=1800, help="of the phantom; 2.9 images each")
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--epochs", type=int, default=TrainingSettings().epochs)
    command.add_argument("--backbone", default="conv4")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of the plain loop")
    options = command.parse_args()
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    settings = TrainingSettings(epochs=options.epochs)

    with tempfile.TemporaryDirectory() as temporary:
        data = Data.read(options.folder or phantom(Path(temporary) / "phantom", options.patients))
        pixels = data.pixels[data.parts["train"]]
        rows, aucs, times = [], [], []
        for seed in range(options.seeds):
            first = initial_network(
                NetworkSettings(backbone=options.backbone), data.table.labels, torch.from_numpy(pixels), seed=seed
            )
            ours, plain = deepcopy(first), deepcopy(first)
            times.append(
                (
                    seconds(lambda: train_ours(ours, data, settings, seed, options.device)),  # noqa: B023
                    seconds(lambda: train_plainly(plain, data, settings, seed, device, options.workers)),  # noqa: B023
                )
            )
            aucs.append((data.auc(ours, "test"), data.auc(plain, "test")))
            rows.append((str(seed), *(f"{auc:.4f}" for auc in aucs[-1]), f"{aucs[-1][0] - aucs[-1][1]:+.4f}",
                         *(f"{t:.1f}" for t in times[-1])))  # fmt: skip
    differences = [ours - plain for ours, plain in aucs]
    mean, low, high = t_interval(differences)
    print(", ".join(f"{part} {len(chosen):,}" for part, chosen in data.parts.items()) + " images")
    print_table(("seed", "ours", "plain", "difference", "ours s", "plain s"), rows)
    within = abs(mean) <= BOUND
    print(f"mean difference of test AUC: {mean:+.4f} [{low:+.4f}, {high:+.4f}] over seeds; within {BOUND}: {within}")
    publish(
        {
            "settings": settings.model_dump(mode="json"),
            "images": {part: len(chosen) for part, chosen in data.parts.items()},
            "test_auc": [{"ours": a, "plain": b} for a, b in aucs],
            "seconds": [{"ours": a, "plain": b} for a, b in times],
            "difference": {"mean": mean, "low": low, "high": high, "within": within},
        },
        options.json,
    )
    raise SystemExit(0 if within else 1)


if __name__ == "__main__":
    main()
