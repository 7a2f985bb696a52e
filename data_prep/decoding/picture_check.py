"""A check of what came out of a decoder: it catches wrong pictures that no rule about files foresaw.

s: side of the square picture in pixels.
"""

import numpy as np

from data_prep.errors import DataError

# Each limit with the nearest of 2,161 real radiographs and of 2,400 of the phantom, at 8 to 256 px: share of pixels
# between black and white 0.55, effective grey levels 34 (at 8 px; 50 at 16 px, 62 from 32 px), last rows of one grey 0.
# A picture over a sixteenth of the range has 14 levels, one over a 64th three.
MIN_GREY_SHARE = 0.05
MIN_GREY_LEVELS = 20
MAX_GREY_ROWS = 1 / 16
_SAMPLE = 64  # pixels a side, about, whose values are counted: enough for shares, and it costs next to nothing
_GREY = range(8, 248)  # whole rows of black or white are the margin of a film


def check_picture(pixels: np.ndarray) -> None:
    """Check that (s, s) uint8 `pixels` may be a radiograph.

    Raises:
        DataError: they are all alike, or black and white without grey between them, or use few grey levels, or are
            grey and constant in the lower part, as decoders leave what is missing.
    """
    step = max(1, len(pixels) // _SAMPLE)
    counts = np.bincount(pixels[::step, ::step].ravel(), minlength=256)
    if np.count_nonzero(counts) == 1:
        raise DataError("empty image: all pixels have the same value")
    grey = counts[1:-1]  # without black and white, of which there may be any amount around a picture
    share = grey.sum() / counts.sum()
    if share < MIN_GREY_SHARE:
        raise DataError(f"{1 - share:.1%} of the image is black or white; at most {1 - MIN_GREY_SHARE:.0%} may be")
    levels = _effective_levels(grey)
    if levels < MIN_GREY_LEVELS:
        raise DataError(
            f"the image uses about {levels:.0f} grey levels, and a radiograph at least {MIN_GREY_LEVELS}; export it "
            "with the contrast in which it is read"
        )
    constant = _last_grey_rows(pixels) / len(pixels)
    if constant > MAX_GREY_ROWS:
        raise DataError(f"the lower {constant:.0%} of the image is of one grey, as where pixels are missing")


def _effective_levels(counts: np.ndarray) -> float:
    """Return how many equally frequent values have the entropy of these."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _last_grey_rows(pixels: np.ndarray) -> int:
    """Count the rows at the lower end, within black bars, that are all of one grey."""
    last = len(pixels) - 1
    while not pixels[last].any():
        last -= 1
    inside = pixels[last] > 0
    values = pixels[last, inside]
    if values.min() != values.max() or values[0] not in _GREY:
        return 0
    first = last
    while first and np.array_equal(pixels[first - 1], pixels[last]):
        first -= 1
    return last - first
