"""Example images go into a page as they are, or not at all."""

import numpy as np
import pytest

from tasks.reporting.page import png_data_uri


def test_pictures_must_be_grey_and_eight_bit() -> None:
    assert png_data_uri(np.zeros((4, 4), np.uint8)).startswith("data:image/png;base64,iVBOR")
    with pytest.raises(ValueError, match="float64"):
        png_data_uri(np.zeros((4, 4)))
