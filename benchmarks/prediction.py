"""Images per second of `medmtl predict` against the decoder alone, and its memory as the number of files grows.

    python -m benchmarks.prediction --images DIR [--copies 10] [--rounds 5] [--size 64]

Trains a small conv4 on the phantom in a home of its own. The files of DIR are linked `--copies` times into one folder;
in each round they are decoded alone and then predicted, both with as many processes as there are processors. Then 1,000
and 10,000 small pictures are predicted: the memory is the peak of the largest process (resident set).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.small_model import REFERENCE, train_small_model
from data_prep.sources.image_files import find_images
from data_prep.store.decode_items import decode_items

SMALL, MANY = (1_000, 10_000), 64  # numbers of small pictures, and their side in pixels


def main() -> None:
    """Print a line for each round, the medians, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        variables = train_small_model(work, given.size)
        many = work / "many"
        many.mkdir()
        for number, image in enumerate(sorted(given.images.iterdir()) * given.copies):
            (many / f"{number:06}_{image.name}").hardlink_to(_copied(image, work))
        ratios = []
        for turn in range(given.rounds):
            alone, predicted = _decode(many, given.size), _predict(work, variables, many)[0]
            ratios.append(predicted / alone)
            print(f"round {turn + 1}: decoder alone {alone:.1f} images/s, predict {predicted:.1f}, {ratios[-1]:.3f}")
        print(f"predict / decoder alone: median {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")
        small = work / "small"
        small.mkdir()
        for number in range(max(SMALL)):
            _draw(small / f"{number:05}.png", number)
            if number + 1 in SMALL:
                speed, megabytes = _predict(work, variables, small)
                print(f"{number + 1} pictures of {MANY} px: {speed:.0f} images/s, {megabytes:.0f} MB")


def _copied(image: Path, work: Path) -> Path:
    """Return a copy of an image on the disk of the work, to which files can be linked."""
    copy = work / "originals" / image.name
    copy.parent.mkdir(exist_ok=True)
    if not copy.exists():
        copy.write_bytes(image.read_bytes())
    return copy


def _draw(path: Path, number: int) -> None:
    coarse = np.random.default_rng(number).integers(0, 256, (5, 5)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (MANY, MANY), interpolation=cv2.INTER_CUBIC))


def _decode(folder: Path, size: int) -> float:
    files = find_images([str(folder)]).files
    begun = time.perf_counter()
    decoded = sum(item.pixels is not None for _, item in decode_items(files, size, len(os.sched_getaffinity(0))))
    assert decoded == len(files)
    return decoded / (time.perf_counter() - begun)


def _predict(work: Path, variables: dict[str, str], folder: Path) -> tuple[float, float]:
    """Return images per second without the start, and the peak of memory of the largest process in MB."""
    command = ["predict", str(folder), "--model", REFERENCE, "--out", "predicted", "--force"]
    with (work / "log").open("wb") as log:
        run = subprocess.Popen([sys.executable, "-m", "flows.cli", *command], cwd=work, env=variables, stderr=log)
        _, status, usage = os.wait4(run.pid, 0)
    assert status == 0, (work / "log").read_text()
    counts = json.loads((work / "predicted" / "predictions.json").read_text())["counts"]
    assert counts["predicted"] == counts["files"]
    return counts["files"] / counts["seconds"], usage.ru_maxrss / 1e3


if __name__ == "__main__":
    main()
