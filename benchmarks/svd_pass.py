"""What Algorithm 2's pass over the training images costs beside a plain evaluation pass over the same images.

    python -m benchmarks.svd_pass [--images 4096] [--rounds 9] [--threads 2]

Both are the passes that training makes: evaluation mode, inference mode, float32, the same batches, pixels in
memory. The plain pass computes probabilities; Algorithm 2's also sums Theta in float64 and ends with the
weights. They alternate in pairs, so that a change of the machine's load meets both. Expected: a ratio of at most 1.05.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from models.networks import MultiTaskNetwork, NetworkSettings, initial_network
from models.svd import Theta, svd_weights
from models.training import INFERENCE_BATCH, predict

LABELS = tuple(f"label {i}" for i in range(14))


def weights_pass(network: MultiTaskNetwork, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Algorithm 2 over all images, as a refresh in training makes it."""
    theta = Theta()
    with torch.inference_mode():
        for images, rows in zip(pixels.split(INFERENCE_BATCH), targets.split(INFERENCE_BATCH), strict=True):
            theta.add(network.features(images), rows, rows >= 0)
    return svd_weights(theta.matrix("unit"), 1)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(backbone: str, images: int, rounds: int) -> dict[str, object]:
    """Times of both passes over random images of 64 px, in alternating pairs."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 64, 64), generator=generator, dtype=torch.uint8)
    targets = torch.randint(-1, 2, (images, 14), generator=generator, dtype=torch.int8)
    network = initial_network(NetworkSettings(backbone=backbone), LABELS, pixels[:, 0], seed=0)
    network.to(memory_format=torch.channels_last).eval()
    passes = [lambda: predict(network, pixels), lambda: weights_pass(network, pixels, targets)]
    pairs = []
    for i in range(rounds + 1):
        order = (0, 1) if i % 2 else (1, 0)
        times = {which: seconds(passes[which]) for which in order}
        pairs.append((times[0], times[1]))
    pairs = pairs[1:]  # the first pair warms up
    ratios = [with_svd / plain for plain, with_svd in pairs]
    return {
        "backbone": backbone,
        "plain_s": statistics.median(plain for plain, _ in pairs),
        "svd_s": statistics.median(with_svd for _, with_svd in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "images_per_second": images / statistics.median(plain for plain, _ in pairs),
    }


def main() -> None:
    """Prints a table, and JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096, help="images of 64 px for conv4; resnet18 gets an eighth")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of passes")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [
        measure("conv4", arguments.images, arguments.rounds),
        measure("resnet18", arguments.images // 8, arguments.rounds),
    ]
    print(f"{'backbone':10} {'plain s':>9} {'svd s':>9} {'ratio':>7}  quartiles of the ratio   images/s")
    for row in rows:
        low, high = row["ratio_quartiles"]  # type: ignore[misc]
        print(
            f"{row['backbone']:10} {row['plain_s']:9.3f} {row['svd_s']:9.3f} {row['ratio']:7.3f}"
            f"  {low:.3f} to {high:.3f}         {row['images_per_second']:9.0f}"
        )
    print(
        json.dumps(
            {"machine": platform.machine(), "torch": torch.__version__, "threads": arguments.threads, "rows": rows}
        )
    )


if __name__ == "__main__":
    main()
