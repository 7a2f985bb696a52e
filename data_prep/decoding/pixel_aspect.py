"""Square pixels from the oblong ones of some scanners and detectors (PS3.3, C.7.6.3.1.7).

h, w: height and width of an image in pixels.
"""

import math

import numpy as np
from pydicom.dataset import Dataset

from data_prep.decoding.dicom_values import usable_numbers_of
from data_prep.decoding.raster import square_pixels
from data_prep.errors import DataError

ASPECT_ATTRIBUTES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_TOLERANCE = 0.01  # a hundredth: measured spacings differ by that


def with_square_pixels(dataset: Dataset, grey: np.ndarray) -> np.ndarray:
    """Lengthen `grey` (h, w), whose pixels may be oblong, along the longer side of its pixels.

    Raises:
        DataError: the pixels are too oblong to be those of a radiograph, or attributes contradict one another.
    """
    return square_pixels(grey, _aspect_ratio(dataset))


def _aspect_ratio(dataset: Dataset) -> float:
    """Return height by width of a pixel; 1 where nothing usable says it."""
    pairs = [usable_numbers_of(dataset, keyword) for keyword in ASPECT_ATTRIBUTES]
    ratios = [pair[0] / pair[1] for pair in pairs if len(pair) == 2 and min(pair) > 0 and math.isfinite(sum(pair))]
    if not ratios:
        return 1.0
    if max(ratios) > min(ratios) * (1 + _TOLERANCE):
        raise DataError("the attributes of pixel spacing and aspect ratio contradict one another")
    return ratios[0]
