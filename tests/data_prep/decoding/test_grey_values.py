"""Grey values against the standard's formulas, pydicom's functions and GDCM, over files drawn at random."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import gdcm
import numpy as np
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from data_prep.decoding.dicom import decode_dicom, read_attributes, render
from data_prep.errors import DataError
from tests.data_prep.dicom_files import (
    compressed_by_gdcm,
    dicom_bytes,
    dicom_dataset,
    dicom_file,
    stored_by_gdcm,
    with_lut,
)
from tests.data_prep.random_dicom import RandomDicom, random_dicom

DRAWS = pytest.mark.parametrize(
    ("draws", "seed"), [(400, 0), pytest.param(6000, 1, marks=pytest.mark.long)], ids=["quick", "long"]
)
STORED = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)


def shown(data: bytes) -> np.ndarray:
    """The rendered picture, 0 to 1."""
    return render(read_attributes(data)) / 65_535


def drawn(draws: int, seed: int) -> Iterator[RandomDicom]:
    return (random_dicom(np.random.default_rng((seed, number))) for number in range(draws))


# --- Against the standard's formulas, and other programs ---


@DRAWS
def test_any_file_shows_the_greys_of_the_standards_formulas(draws: int, seed: int) -> None:
    syntaxes = set()
    for number, file in enumerate(drawn(draws, seed)):
        if file.grey is None:
            with pytest.raises(DataError, match="empty image"):
                shown(file.data)
        else:
            assert np.abs(shown(file.data) - file.grey).max() < 2e-5, f"number {number}, {file.syntax}"
            syntaxes.add(file.syntax.split(",")[0])
    assert len(syntaxes) == 8


@DRAWS
def test_where_pydicoms_functions_can_be_used_they_show_the_same(draws: int, seed: int) -> None:
    compared = 0
    for number, file in enumerate(drawn(draws, seed + 100)):
        if file.known_to_pydicom and file.grey is not None:
            difference = np.abs(shown(file.data) - by_pydicom(file))[~file.padded].max()
            assert difference < 2e-5, f"number {number}, {file.syntax}"
            compared += 1
    assert compared > draws / 20


def by_pydicom(file: RandomDicom) -> np.ndarray:
    values = apply_modality_lut(file.stored.astype(np.int32), file.dataset)
    if "VOILUTSequence" in file.dataset:
        white = max(file.dataset.VOILUTSequence[0].LUTData)
        low, high, values = 0, white, apply_voi_lut(np.rint(values).astype(np.int32), file.dataset)
    elif "WindowWidth" in file.dataset:
        low, high = apply_voi_lut(np.array([-1e9, 1e9]), file.dataset)  # black and white lie far outside the window
        values = apply_voi_lut(values, file.dataset)
    else:
        low, high = values[~file.padded].min(), values[~file.padded].max()
    grey = (values - low) / (high - low)
    return 1 - grey if file.dataset.PhotometricInterpretation == "MONOCHROME1" else grey


@DRAWS
def test_gdcm_reads_the_same_stored_values_in_every_syntax(draws: int, seed: int) -> None:
    for number, file in enumerate(drawn(draws // 4, seed + 200)):
        if "unused bits" not in file.syntax:
            assert (stored_by_gdcm(file.data) == file.stored).all(), f"number {number}, {file.syntax}"


def test_a_lossy_jpeg_shows_what_gdcm_decodes() -> None:
    original = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    data = compressed_by_gdcm(dicom_dataset(original), gdcm.TransferSyntax.JPEGBaselineProcess1)
    stored = stored_by_gdcm(data).astype(float)
    assert np.abs(stored - original).max() > 0
    assert np.abs(shown(data) - (stored - stored.min()) / np.ptp(stored)).max() < 1e-4


# --- Published cases ---


@pytest.mark.parametrize("case", ["10-dicom-voi-lut", "12-dicom-window-rescale"])
def test_the_published_cases_of_luts_windows_and_slopes_show_the_right_picture(shared_data: Path, case: str) -> None:
    """All hold one ramp over 64 x 64 pixels; the standard gives its two tones, falling tones, or a reason."""
    falling = (
        "13_lut_and_window",
        "18_mono",
        "13_slope_no",
        "15_neg",
        "16_negative",
        "20_mono1",
        "21_mono1",
        "23_mono1",
    )
    others = {
        "06_short_table_first1024": (2, 255),
        "24_sigmoid": (31, 227),
        "07_descriptor_more_than_data": "damaged: a LUT of 4000 entries; its descriptor says 4096",
        "06_width_1": "% of the image is black or white",
        "12_window_elsewhere": "empty image",
    }
    files = sorted((shared_data / "cases" / case / "in").glob("*.dcm"))
    assert len(files) > 20
    for file in files:
        expected = others.get(file.stem, (190, 61) if file.stem.startswith(falling) else (65, 194))
        if isinstance(expected, str):
            with pytest.raises(DataError, match=expected):
                decode_dicom(file.read_bytes(), 64)
        elif not file.stem.startswith(("27", "28")):
            pixels = decode_dicom(file.read_bytes(), 64).pixels.astype(int)
            assert (pixels[16, 16], pixels[16, 48]) == pytest.approx(expected, abs=1), file.name


def test_the_published_cases_of_oblong_pixels_are_shown_twice_as_tall(shared_data: Path) -> None:
    for name in ("27_tall_pixels", "28_spacing_nonsquare"):
        data = (shared_data / "cases" / "12-dicom-window-rescale" / "in" / f"{name}.dcm").read_bytes()
        assert read_attributes(data).Rows == 64
        assert shown(data).shape == (128, 64)


# --- Damage ---


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("given", [1, 100, 2047, 2049, 4095])
def test_a_table_shorter_than_it_says_is_refused(keyword: str, given: int) -> None:
    table = with_lut(keyword, list(range(4096)), 0, 12)
    table[keyword][0].LUTData = list(range(given))
    with pytest.raises(DataError, match=f"damaged: a LUT of {given} entries; its descriptor says 4096"):
        shown(dicom_file(STORED, BitsStored=12, **table))


@pytest.mark.parametrize("descriptor", [[4096], [4096, 0], [4096, 0, 12, 12]])
def test_a_table_without_the_three_numbers_of_its_descriptor_is_refused(descriptor: list[int]) -> None:
    table = with_lut("VOILUTSequence", list(range(4096)), 0, 12)
    table["VOILUTSequence"][0].LUTDescriptor = descriptor
    with pytest.raises(DataError, match=f"damaged: a LUT Descriptor of {len(descriptor)} values; it has 3"):
        shown(dicom_file(STORED, BitsStored=12, **table))


@pytest.mark.parametrize(("slope", "intercept"), [("1e300", "1e9"), ("1e31", "0"), ("-1e200", "-1e200")])
def test_absurd_slopes_are_refused(slope: str, intercept: str) -> None:
    with pytest.raises(DataError, match=r"damaged: RescaleSlope and RescaleIntercept give numbers beyond 1e\+30"):
        shown(dicom_file(STORED, BitsStored=12, RescaleSlope=slope, RescaleIntercept=intercept))


@pytest.mark.parametrize(
    "window", [("1e300", "1e308"), ("-1e308", "1e308"), ("0", "1e-300"), ("nan", "5"), ("5", "inf")]
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_absurd_windows_show_something_or_are_refused(window: tuple[str, str], function: str) -> None:
    data = dicom_file(STORED, BitsStored=12, WindowCenter=window[0], WindowWidth=window[1], VOILUTFunction=function)
    with contextlib.suppress(DataError):
        assert np.ptp(shown(data)) > 0


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "PixelPaddingValue"])
def test_what_must_be_a_number_and_is_text_is_refused(keyword: str) -> None:
    dataset = dicom_dataset(STORED, BitsStored=12)
    dataset.add_new(keyword, "LO", "Doe^Jane")
    with pytest.raises(DataError, match=f"damaged: {keyword} is not a number"):
        shown(dicom_bytes(dataset))
