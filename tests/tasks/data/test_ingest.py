"""An ingest says how many images it decoded, and how many were decoded before."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.store.store import Store
from tasks.data.classes import ClassDataSettings, prepare_classes
from tasks.data.ingest import DataSettings, StoreRef, decode_images
from tasks.runtime.home import home
from tests.data_prep.class_files import image_files, write_files
from tests.data_prep.conftest import write_nih_table


def ingest(folder: Path) -> StoreRef:
    return decode_images.fn(DataSettings(source=str(folder), size=10), folder)


def write_noise(file: Path, seed: int) -> None:
    cv2.imwrite(str(file), np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8))


def test_a_folder_that_grew_or_got_another_label_decodes_only_what_is_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="medmtl")
    folder, table = tmp_path, tmp_path / "Data_Entry_2017_v2020.csv"
    names = [f"0000000{patient}_00{index}.png" for patient in range(1, 6) for index in range(4)]
    for seed, name in enumerate(names):
        write_noise(folder / name, seed)
    write_nih_table(table, names)
    first = ingest(folder)
    table.write_text(table.read_text().replace("No Finding", "Nodule", 1))
    edited = ingest(folder)
    write_noise(folder / "00000001_009.png", 99)
    table.write_text(table.read_text() + "00000001_009.png,Mass,0,1,50,F,PA,9,9,1,1\n")
    grown, again = ingest(folder), ingest(folder)
    found = [(ref.decoded, ref.reused_images, ref.reused) for ref in (first, edited, grown, again)]
    assert found == [(20, 0, False), (0, 20, False), (1, 20, False), (0, 0, True)]
    said = [line for line in caplog.messages if line.startswith("store:")]
    assert said[2].startswith("store: 1 new images decoded, 20 reused; 21 images of 10 px, 0 quarantined, in ")
    assert said[3].startswith("store: reused, nothing decoded; 21 images")
    assert len({first.fingerprint, edited.fingerprint, grown.fingerprint}) == 3
    sizes = [file.stat().st_size for file in home().pixels.glob("*/*.npy")]
    assert sorted(sizes) == [128 + 100, 128 + 20 * 100]
    assert len(Store.open(grown.path).pixels[:]) == 21


def test_images_by_class_that_grew_decode_only_what_is_new(tmp_path: Path) -> None:
    files = image_files(each=6)
    place = write_files(tmp_path / "set", dict(list(files.items())[::2]))
    few = prepare_classes.fn(ClassDataSettings(source=str(place), size=10))
    write_files(place, files)
    grown = prepare_classes.fn(ClassDataSettings(source=str(place), size=10))
    assert (few.decoded, few.reused_images) == (len(files) // 2, 0)
    assert (grown.decoded, grown.reused_images) == (len(files) // 2, len(files) // 2)
