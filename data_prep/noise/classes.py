"""Symmetric noise on classes: some images of each class get another class, each of the others equally likely.

m training images. Van Rooyen, Menon and Williamson (Learning with Symmetric Label Noise, NeurIPS 2015); Patrini, Rozza,
Menon, Nock and Qu (Making Deep Neural Networks Robust to Label Noise, CVPR 2017). There each label is changed with the
rate as its probability; here the rate is the exact share of each class, so that arms do not differ by chance.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.noise.entries import check_share, generator


def draw_class_noise(targets: np.ndarray, classes: int, rate: float, seed: int) -> NDArray[np.int16]:
    """Draw symmetric noise: the share `rate`, in [0, 1], of the images of each class gets another of `classes` classes.

    The images that are wrong at a lower rate are wrong at a higher one too, with the same wrong class. The draw for a
    class depends on the seed, the class and the number of its images.

    Args:
        targets: (m,) integers in [0, classes); not modified.
        classes: number of classes.
        rate: share of each class, rounded to whole images.
        seed: of the draw.

    Returns:
        The noisy targets, (m,) int16.

    Raises:
        DataError: the rate is out of range, or there is no other class.
    """
    try:
        check_share(rate)
    except ValueError as error:
        raise DataError(str(error)) from None
    noisy = targets.astype(np.int16)
    if not rate:
        return noisy
    if classes < 2:
        raise DataError(f"noise needs another class, and there is {classes}; set its rate to 0")
    for number in np.unique(targets).tolist():
        order = generator("symmetric/select", str(number), seed).permutation(np.flatnonzero(targets == number))
        shifts = generator("symmetric/replace", str(number), seed).integers(1, classes, size=len(order))
        wrong = round(rate * len(order))
        noisy[order[:wrong]] = (number + shifts[:wrong]) % classes
    return noisy
