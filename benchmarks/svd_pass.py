"""What Algorithm 2's pass over the training images costs beside a plain evaluation pass over the same images.

    python -m benchmarks.svd_pass [--images 4096] [--rounds 9] [--threads 2] [--json FILE]

Both are the passes that training makes: evaluation mode, inference mode, float32, the same batches, pixels in
memory. The plain pass computes probabilities; Algorithm 2's also sums Theta in float64 and ends with the
weights. They take turns, so that a change of the machine's load meets both. Expected: a ratio of at most 1.05.
"""

import torch

from benchmarks.report import Spread, in_turns, parser, print_table, publish, ratios, seconds
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_training import INFERENCE_BATCH, predict
from models.weighting.svd import Theta, svd_weights

LABELS = tuple(f"label {i}" for i in range(14))


def weights_pass(network: MultiTaskNetwork, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Algorithm 2 over all images, as a refresh in training makes it."""
    theta = Theta()
    with torch.inference_mode():
        for images, rows in zip(pixels.split(INFERENCE_BATCH), targets.split(INFERENCE_BATCH), strict=True):
            theta.add(network.features(images), rows, rows >= 0)
    return svd_weights(theta.matrix("unit"), 1)


def measure(backbone: str, images: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of both passes over random images of 64 px, by round."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 64, 64), generator=generator, dtype=torch.uint8)
    targets = torch.randint(-1, 2, (images, 14), generator=generator, dtype=torch.int8)
    network = initial_network(NetworkSettings(backbone=backbone), LABELS, pixels[:, 0], seed=0)
    network.to(memory_format=torch.channels_last).eval()
    passes = {
        "plain": lambda: seconds(lambda: predict(network, pixels)),
        "svd": lambda: seconds(lambda: weights_pass(network, pixels, targets)),
    }
    return in_turns(passes, rounds)


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--images", type=int, default=4096, help="images of 64 px for conv4; resnet18 gets an eighth")
    command.add_argument("--rounds", type=int, default=9, help="pairs of passes")
    command.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    rows, record = [], {}
    for backbone, images in {"conv4": options.images, "resnet18": options.images // 8}.items():
        times = measure(backbone, images, options.rounds)
        plain, svd, ratio = Spread.of(times["plain"]), Spread.of(times["svd"]), ratios(times["svd"], times["plain"])
        rows.append((backbone, f"{plain:.3f}", f"{svd:.3f}", f"{ratio:.3f}", f"{images / plain.median:.0f}"))
        record[backbone] = {"images": images, "plain_s": plain._asdict(), "svd_s": svd._asdict()}
        record[backbone]["ratio"] = ratio._asdict()
    print_table(("backbone", "plain s", "svd s", "ratio", "images/s"), rows)
    publish({"backbones": record}, options.json)


if __name__ == "__main__":
    main()
