"""What the grammars of pictures share: the picture drawn, what it looks like in a store, and how it is compared.

h, w: height and width of a picture in its file; s: side of the square that a store holds. All in pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np

from benchmarks.fuzzing.case import Case, Format, Random
from data_prep.errors import DataError
from data_prep.labels.patients import PUBLIC_KEY, patient_keys
from data_prep.store.decode_items import decode_item

SIZE = 32  # s
LARGEST = 2 * SIZE  # of the longer side, which is no smaller than s, so that the reference need not enlarge
OBLONG = ((1, 1), (3, 2), (2, 3), (4, 3))  # pixels; more so, and a reduction fourfold would be less than exact
TOLERANCE = 4.0  # grey levels: a decoder may round at each step: colour, lengthening, and two of a reduction

LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def draw_shape(random: Random) -> tuple[int, int]:
    """Draw height and width; the longer side is at least s, and often s itself or twice it."""
    longer = int(random.choice([SIZE, LARGEST, random.integers(SIZE, LARGEST + 1)]))
    shorter = longer if random.random() < 0.4 else int(random.integers(longer // 3, longer + 1))
    return (longer, shorter) if random.random() < 0.5 else (shorter, longer)


def draw_picture(random: Random, shape: tuple[int, int], channels: int = 1) -> np.ndarray:
    """Draw something smooth with a little noise, no symmetry and most grey levels: (h, w, channels) of 0 to 1."""
    coarse = random.random((6, 6, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(*shape, channels)
    ramp = np.linspace(-0.5, 0.5, shape[0])[:, None, None] + np.linspace(-0.3, 0.3, shape[1])[None, :, None]
    noisy = smooth + ramp + random.normal(0, 0.03, smooth.shape)
    low, high = noisy.min(), noisy.max()
    return (noisy - low) / (high - low)


def in_store(grey: np.ndarray, aspect: float = 1.0) -> np.ndarray:
    """Bring a picture to the square of a store by the exact area average: (h, w) -> (s, s) of the same values.

    `aspect` is the height of a pixel divided by its width; oblong ones are lengthened first. The square is centred
    between black bars.
    """
    height, width = grey.shape
    height, width = (round(height * aspect), width) if aspect > 1 else (height, round(width / aspect))
    scale = SIZE / max(height, width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    down = _weights(height, inner[0]) @ _weights(grey.shape[0], height)
    across = _weights(width, inner[1]) @ _weights(grey.shape[1], width)
    square = np.zeros((SIZE, SIZE))
    top, left = (SIZE - inner[0]) // 2, (SIZE - inner[1]) // 2
    square[top : top + inner[0], left : left + inner[1]] = down @ grey @ across.T
    return square


def _weights(before: int, after: int) -> np.ndarray:
    """Return the weights by which `after` pixels of a line come from `before`: (after, before), each row of sum 1.

    Fewer pixels average over their area; more are interpolated between the centres of the old ones.
    """
    pixels = np.arange(before)[None]
    if after > before:
        centres = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
        return np.clip(1 - np.abs(centres[:, None] - pixels), 0, None)
    edges = np.arange(after + 1) * (before / after)
    overlap = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    return overlap / overlap.sum(1, keepdims=True)


def turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture (h, w, ...) as the orientation of Exif 2.32, section 4.6.4 says; 1 is as it is."""
    turned = np.swapaxes(picture, 0, 1) if orientation >= 5 else picture
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    return turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned


def read(case: Case) -> np.ndarray:
    """Decode a picture as a process of an ingest's pool does; raise DataError with the reason of the quarantine."""
    item = decode_item(f"picture{case.suffix}", case.data, SIZE, isolate=False)
    if item.pixels is None:
        raise DataError(item.reason)
    patient_keys(np.array([item.patient_id]), "fuzz", PUBLIC_KEY)
    return item.pixels


def difference(found: np.ndarray, expected: np.ndarray | str) -> str:
    """Say how far a decoded square is from the reference, or why nothing is right; "" within the tolerance."""
    if isinstance(expected, str):
        return f"taken, although {expected}"
    off = np.abs(found.astype(float) - expected)
    if off.max() <= TOLERANCE:
        return ""
    return f"{(off > TOLERANCE).mean():.0%} of the pixels are off, by up to {off.max():.0f} grey levels"


def of_pictures(draw: Callable[[Random], Case]) -> Format:
    """Return the format whose files `draw` draws."""
    return Format(draw, read, difference)
