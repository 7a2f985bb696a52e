"""Small folders of images in NIH's layout, made afresh for each test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)

FolderMaker = Callable[..., Path]


@pytest.fixture
def nih_folder(tmp_path: Path) -> FolderMaker:
    """Make a folder of `patients` x `images_each` noise PNGs of `side` pixels, with their table."""

    def make(patients: int = 5, images_each: int = 4, side: int = 20, name: str = "data") -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        names = [f"{p:08d}_{i:03d}.png" for p in range(1, patients + 1) for i in range(images_each)]
        for image in names:
            cv2.imwrite(str(folder / "images" / image), rng.integers(0, 256, (side, side), dtype=np.uint8))
        write_nih_table(folder / "Data_Entry_2017_v2020.csv", names)
        return folder

    return make


def write_nih_table(path: Path, images: Sequence[str]) -> None:
    """Label every third image with two findings and the others with none."""
    rows = []
    for row, image in enumerate(images):
        findings = "No Finding" if row % 3 else "Mass|Hernia"
        rows.append(f"{image},{findings},0,{int(image[:8])},50,F,{'AP' if row % 2 else 'PA'},9,9,1,1")
    path.write_text("\n".join([NIH_HEADER, *rows]) + "\n")
