"""How the time of an ingest's steps grows with the number of files, rows and images: by a power of at most 1.15.

    python -m benchmarks.growth [--rows 1000000] [--images 100000] [--repeats 3] [--folder DIR] [--only GROUP]...
        [--json FILE]

Each step is timed at a hundredth, a tenth and all of --rows (decoding: of --images), in processor seconds, which other
work on the machine changes least (decoding, in two processes: by the clock). Its slope is that of log(seconds) against
log(n) over the last decade: 1 is in proportion, 2 is with the square. The table shows the median over the
repeats, with the least and the most; the exit status is 1 if a median is above 1.15.

Files are listed and matched in the shapes that public sets have: NIH's (all in one folder), CheXpert's (all of one
name, in folders of patients and studies; the table leaves out the uppermost folder, or names one more than there is),
DICOM named by UID (no suffix, so the head of every file is read), and names with accents in the other Unicode normal
form. The files are links to a few empty ones (of DICOM: heads), made below --folder and removed afterwards; a memory
disk is quickest.
"""

import csv
import math
import os
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fuzzing.pictures import draw_picture
from benchmarks.report import parser, print_table, publish
from data_prep.labels.patients import compare_patient_ids, patient_keys
from data_prep.labels.splits import SplitSettings, make_split
from data_prep.labels.table import FINDINGS, LabelTable, read_labels
from data_prep.sources.folder import FolderSource
from data_prep.sources.listing import list_files
from data_prep.sources.matching import match_names
from data_prep.store.checks import Expected, check_store
from data_prep.store.decode_items import decode_items
from data_prep.store.recipe import store_key
from data_prep.store.shards import ShardWriter
from data_prep.store.store import PIXELS, TABLE, Store
from data_prep.store.writer import StoreWriter

MOST_SLOPE = 1.15
ROWS_PER_PATIENT = 5
LINKS = 30_000  # to one file; most file systems allow 65,000
LABELS, OTHERS = 10, ("Age", "Width", "Height")  # 15 columns with image and patient
DISTINCT, SIDE = 256, 64  # pictures that are decoded over and over; pixels
SECRET = b"a secret that no file has"

Steps = dict[str, Callable[[], object]]
"""What is timed, by name."""


@dataclass(frozen=True)
class Shape:
    """How a set names its files.

    Attributes:
        path: of file i, below the folder of the set.
        rows: what tables call file i, by how they do it.
        head: the content of every file.
    """

    path: Callable[[int], str]
    rows: Mapping[str, Callable[[int], str]]
    head: bytes = b""


def nih_name(i: int) -> str:
    """Return NIH's name of an image."""
    return f"{i // ROWS_PER_PATIENT + 1:08d}_{i % ROWS_PER_PATIENT:03d}.png"


def chexpert_name(i: int) -> str:
    """Return CheXpert's path of an image, below its uppermost folder."""
    return f"patient{i // ROWS_PER_PATIENT:06d}/study{i % ROWS_PER_PATIENT + 1}/view1_frontal.jpg"


def uid(i: int) -> str:
    """Return a UID."""
    return f"1.2.826.0.1.3680043.8.498.{i}.{i * 7919 % 10_007}"


def accented(i: int) -> str:
    """Return a name with accents."""
    return f"Größe {i:07d} étude.png"


SHAPES = {
    "flat": Shape(lambda i: f"images/{nih_name(i)}", {"names": nih_name}),
    "CheXpert": Shape(
        lambda i: f"train/{chexpert_name(i)}",
        {"without a folder": chexpert_name, "with one more": lambda i: f"CheXpert-v1.0/train/{chexpert_name(i)}"},
    ),
    "UIDs": Shape(lambda i: f"{i // 1000:04d}/{uid(i)}", {"names": lambda i: f"{uid(i)}.dcm"}, bytes(128) + b"DICM"),
    "accents": Shape(
        lambda i: f"{i // 1000:04d}/{unicodedata.normalize('NFD', accented(i))}",
        {"names": lambda i: unicodedata.normalize("NFC", accented(i))},
    ),
}


def prepare_shape(shape: Shape, n: int, folder: Path) -> Steps:
    """Make n files and their tables; listing, matching, and both with all that opening a source does besides."""
    images = folder / "images"
    make_files(images, map(shape.path, range(n)), shape.head)
    files = list_files(images).files
    steps: Steps = {"list": lambda: list_files(images)}
    for way, name in shape.rows.items():
        rows = [name(i) for i in range(n)]
        table = write_table(folder / f"{len(steps)}.csv", rows, labels=2)
        steps[f"match {way}"] = lambda rows=rows: match_names(rows, files)  # type: ignore[misc]
        steps[f"open {way}"] = lambda table=table: FolderSource.open(images, table)  # type: ignore[misc]
    source = FolderSource.open(images, table)
    return steps | {"plan the store": lambda: store_key(source, SIDE, SECRET)}


def make_files(folder: Path, paths: Iterable[str], content: bytes) -> None:
    """Make files of the same content, as links to a few."""
    folder.mkdir()
    made: set[str] = set()
    first = ""
    for number, path in enumerate(paths):
        place = f"{folder}/{path}"
        if (parent := place.rpartition("/")[0]) not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - quicker, of a million
            made.add(parent)
        if number % LINKS == 0:
            Path(place).write_bytes(content)
            first = place
        else:
            os.link(first, place)


def write_table(path: Path, images: Sequence[str], labels: int, others: Sequence[str] = ()) -> Path:
    """Write a table of images with columns of labels and of numbers that are none."""
    random = np.random.default_rng(0)
    cells = random.choice(["0", "1", ""], (len(images), labels), p=[0.6, 0.3, 0.1]).tolist()
    ages = random.integers(0, 90, (len(images), len(others))).tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", *FINDINGS[:labels], *others])
        rows = enumerate(zip(images, cells, ages, strict=True))
        writer.writerows([image, f"P{i // ROWS_PER_PATIENT}", *row, *age] for i, (image, row, age) in rows)
    return path


def prepare_tables(n: int, folder: Path) -> Steps:
    """Read tables of 15 columns, and in NIH's form."""
    wide = write_table(folder / "wide.csv", [nih_name(i) for i in range(n)], LABELS, OTHERS)
    nih = folder / "nih.csv"
    random = np.random.default_rng(1)
    with nih.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Labels", "Patient ID", "View Position"])
        pairs = random.integers(0, len(FINDINGS), (n, 2)).tolist()
        cells = ("|".join({FINDINGS[a], FINDINGS[b]}) for a, b in pairs)
        writer.writerows([nih_name(i), cell, i // ROWS_PER_PATIENT + 1, "PA"] for i, cell in enumerate(cells))
    return {"read 15 columns": lambda: read_labels(wide), "read NIH's form": lambda: read_labels(nih)}


def prepare_patients(n: int, folder: Path) -> Steps:
    """Key the patients, compare them with those of the files, and split the images by them."""
    table = _table(n)
    keys = patient_keys(table.patients, "growth", SECRET)
    in_files = keys.tolist()
    settings = SplitSettings()
    return {
        "key patients": lambda: patient_keys(table.patients, "growth", SECRET),
        "compare patients": lambda: compare_patient_ids(in_files, table.patients),
        "split": lambda: make_split(settings, table.images, keys),
    }


def _table(n: int) -> LabelTable:
    random = np.random.default_rng(2)
    return LabelTable(
        images=np.array([nih_name(i) for i in range(n)]),
        patients=np.array([f"P{i // ROWS_PER_PATIENT}" for i in range(n)]),
        labels=FINDINGS[:LABELS],
        targets=random.integers(-1, 2, (n, LABELS)).astype(np.int8),
        views=np.full(n, "PA", dtype="<U7"),
        layout="columns",
        sha256="",
    )


def prepare_store(n: int, folder: Path) -> Steps:
    """Open a store of tiny images, and check its rules."""
    table = _table(n)
    table = LabelTable(**{**vars(table), "patients": patient_keys(table.patients, "growth", SECRET)})
    side = 8
    writer = StoreWriter(folder / "store", side, {})
    pixels = np.random.default_rng(3).integers(0, 256, (n, side, side), np.uint8)
    with ShardWriter(writer.partial / f"{PIXELS}-00000.npy", n, (side, side)) as shard:
        for name, picture in zip(table.images.tolist(), pixels, strict=True):
            shard.append(name, picture, name, name)
        record = shard.finish()
    facts = {"items": n, "population": "growth", "patients_in_files": {"images": 0, "joined": 0}}
    store = writer.finish(table, facts, [record])
    split = make_split(SplitSettings(), store.images, store.patients)

    def open_anew() -> Store:
        os.utime(store.path / TABLE)  # an opened store is remembered while its files are the same
        return Store.open(store.path)

    return {"open": open_anew, "check": lambda: check_store(store, Expected(images=n, split=split))}


def prepare_images(n: int, folder: Path) -> Steps:
    """Decode small PNGs, in two processes."""
    random = np.random.default_rng(4)
    pictures = [np.rint(255 * draw_picture(random, (SIDE, SIDE))[..., 0]).astype(np.uint8) for _ in range(DISTINCT)]
    files = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]

    def decode() -> None:
        items = ((f"{i}.png", files[i % DISTINCT]) for i in range(n))
        decoded = sum(item.pixels is not None for _, item in decode_items(items, SIDE, 2))
        assert decoded == n, decoded

    return {"decode": decode}


GROUPS: dict[str, Callable[[int, Path], Steps]] = {
    **{name: lambda n, folder, shape=shape: prepare_shape(shape, n, folder) for name, shape in SHAPES.items()},
    "tables": prepare_tables,
    "patients": prepare_patients,
    "store": prepare_store,
    "images": prepare_images,
}


Times = dict[str, dict[int, list[float]]]
"""Seconds of every repeat, by step and n."""


def measure(group: str, most: int, repeats: int, folder: Path | None) -> Times:
    """Time the steps of a group at three sizes."""
    times: Times = {}
    for n in (most // 100, most // 10, most):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
            steps = GROUPS[group](n, Path(place))
            print(f"{group}: {n:,} made in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            for _ in range(repeats):
                for name, step in steps.items():
                    times.setdefault(f"{group}: {name}", {}).setdefault(n, []).append(_seconds(step, group == "images"))
    return times


def _seconds(step: Callable[[], object], in_processes: bool) -> float:
    """Return the processor seconds that a step takes; of the clock, if others do its work."""
    clock = time.perf_counter if in_processes else time.process_time
    begun = clock()
    step()
    return max(clock() - begun, 1e-9)


def slopes(by_size: Mapping[int, Sequence[float]]) -> list[float]:
    """Return the slope of log(seconds) against log(n) over the last two sizes, for every repeat."""
    small, large = sorted(by_size)[-2:]
    pairs = zip(by_size[small], by_size[large], strict=True)
    return [math.log(after / before) / math.log(large / small) for before, after in pairs]


def main() -> int:
    """Run the benchmark; see the top of the file."""
    options_of = parser(__doc__)
    options_of.add_argument("--rows", type=int, default=1_000_000, help="most files and rows")
    options_of.add_argument("--images", type=int, default=100_000, help="most images that are decoded")
    options_of.add_argument("--repeats", type=int, default=3)
    options_of.add_argument("--folder", type=Path, help="for what is made and removed again [that of the system]")
    options_of.add_argument("--only", action="append", choices=list(GROUPS), help="repeatable [all groups]")
    options = options_of.parse_args()
    times: Times = {}
    for group in options.only or GROUPS:
        most = options.images if group == "images" else options.rows
        times |= measure(group, most, options.repeats, options.folder)
    found = {name: slopes(by_size) for name, by_size in times.items()}
    rows = [
        (
            name,
            *(f"{statistics.median(values):.3g}" for values in times[name].values()),
            f"{statistics.median(each):.2f}",
            f"{min(each):.2f} to {max(each):.2f}",
            "" if statistics.median(each) <= MOST_SLOPE else f"ABOVE {MOST_SLOPE}",
        )
        for name, each in found.items()
    ]
    print_table(("step", "s at 1/100", "s at 1/10", "s at all", "slope", "least to most", ""), rows)
    record = {name: {"seconds": times[name], "slopes": each} for name, each in found.items()}
    publish({"rows": options.rows, "images": options.images, "growth": record}, options.json)
    return int(any(statistics.median(each) > MOST_SLOPE for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
