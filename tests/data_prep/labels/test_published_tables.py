"""Whole tables as public sets publish them, from the package torchxrayvision: NIH's is read, the others are refused."""

import importlib.util
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS, read_labels

REFUSED = {
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19": "column 'Labels' contains a list; .*columns found: 'ImageID'",
    "chexpert_train": "no column 'Patient ID'; columns found: 'Path', 'Sex'",
    "kaggle_stage_2_train_images_dicom_headers": "no column 'Finding Labels' .*columns found: .*'InstanceNumber'",
    "siim-pneumothorax-train-rle": "no column 'Patient ID'; columns found: 'ImageId', 'EncodedPixels'",
    "vinbigdata-train": "no column 'Patient ID'; columns found: 'image_id', 'class_name'",
    "nlmcxr_dicom_metadata": "columns found: 'imageid'",
    "BBox_List_2017": "no column 'Patient ID'; columns found: 'Image Index', 'Finding Label'",
}


@pytest.fixture(scope="module")
def published() -> Path:
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("the package torchxrayvision, which has the tables, is not installed")
    return Path(found.origin).parent / "data"


def test_the_table_of_nih_is_read(published: Path) -> None:
    table = read_labels(published / "Data_Entry_2017_v2020.csv.gz")
    assert (len(table.images), table.labels) == (112_120, FINDINGS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_published_table_is_refused_in_one_line_with_its_columns(published: Path, name: str) -> None:
    with pytest.raises(DataError, match=REFUSED[name]) as caught:
        read_labels(published / f"{name}.csv.gz")
    assert "\n" not in str(caught.value)
