"""The chest radiograph among the real DICOM files, beside an independent rendering; makes docs/dicom.png.

    python benchmarks/dicom_picture.py [--file FILE] [--out docs/dicom.png]

Left: the stored values as they are (MONOCHROME1: air bright). Middle, the reference: JPEG 2000 by Pillow, the window
by its formula (DICOM PS3.3, C.11.2.1.2.1), reduced by Pillow's box filter. Right: what an ingest puts into a store.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageOps
from pydicom.encaps import generate_frames

from data_prep.decoding.sandbox import safe_decode

ROOT = Path(__file__).parents[1]
SIDE = 340  # pixels
TITLES = ("stored values", "reference", "in the store")


def squared(grey: np.ndarray) -> np.ndarray:
    """(h, w) of 0 to 1 -> (SIDE, SIDE) uint8 between black bars."""
    picture = Image.fromarray((255 * grey).astype(np.float32))
    inner = ImageOps.contain(picture, (SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(ImageOps.pad(Image.fromarray(np.asarray(inner).round().astype(np.uint8)), (SIDE, SIDE)))


def main() -> None:
    """Run the benchmark; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=ROOT.parent / "shared" / "data" / "dicom" / "RG1_J2KI.dcm")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "dicom.png")
    options = parser.parse_args()

    data = options.file.read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(data))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    aligned = np.asarray(Image.open(io.BytesIO(frame)))  # Pillow shifts 15 bits to the left end of 16
    stored = (aligned >> (16 - dataset.BitsStored)).astype(float)
    center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    reference = squared(1 - np.clip((stored - (center - 0.5)) / (width - 1) + 0.5, 0, 1))
    ours = safe_decode(data, SIDE).pixels
    difference = np.abs(ours.astype(float) - reference.astype(float))
    print(f"mean difference {difference.mean():.2f} grey levels of 255, largest {difference.max():.0f}")

    panels = [squared(stored / (2**dataset.BitsStored - 1)), reference, ours]
    sheet = Image.new("L", (3 * SIDE + 20, SIDE + 20), 255)
    draw = ImageDraw.Draw(sheet)
    for place, (title, panel) in enumerate(zip(TITLES, panels, strict=True)):
        sheet.paste(Image.fromarray(panel), (place * (SIDE + 10), 20))
        draw.text((place * (SIDE + 10), 4), title, fill=0)
    sheet.save(options.out, optimize=True)
    print(f"{options.out.name}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
