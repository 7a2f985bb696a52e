"""Example images go into a page as they are, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from tasks.reporting.page import png_data_uri, without_pictures
from tests.tasks.fake_study import fake_study
from tests.tasks.images.test_report import report


def test_pictures_must_be_grey_and_eight_bit() -> None:
    assert png_data_uri(np.zeros((4, 4), np.uint8)).startswith("data:image/png;base64,iVBOR")
    with pytest.raises(ValueError, match="float64"):
        png_data_uri(np.zeros((4, 4)))


def test_the_page_for_others_has_all_but_the_pictures(tmp_path: Path) -> None:
    page = report(tmp_path, fake_study()).source
    bare = without_pictures(page)
    assert "data:image" in page
    assert "data:" not in bare
    assert bare.count("only in the report beside") == page.count("<img") == 3
    assert len(page.split("<img")[0]) < len(bare)
