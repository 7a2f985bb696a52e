"""Examples of random pixels and labels, for measurements in which the pictures do not matter.

Shapes: n images, s x s pixels, k = 14 labels.
"""

import numpy as np

from models.data.image_batches import Examples, examples
from models.evaluation.leakage import hashed_patients

LABELS = tuple(f"label {i}" for i in range(14))


def random_examples(n: int, size: int, *, seed: int = 0) -> Examples:
    """One image per patient, 12 % of the labels positive; examples of different seeds share no patient."""
    generator = np.random.default_rng(seed)
    pixels = np.frombuffer(generator.bytes(n * size * size), np.uint8).reshape(n, size, size)
    targets = (generator.random((n, len(LABELS))) < 0.12).astype(np.int8)
    return examples(pixels, targets, hashed_patients(f"random {seed}", map(str, range(n))))
