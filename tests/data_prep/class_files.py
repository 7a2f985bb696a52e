"""Small sets of images of classes, in the forms in which such sets are published."""

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("bird", "cat", "dog")


def random_batch(rows: int, classes: int = 3, seed: int = 0) -> dict[Any, Any]:
    """A batch of random pixels as CIFAR-10's: images are in turn of each class."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return {
        b"batch_label": b"a batch",
        b"labels": [row % classes for row in range(rows)],
        b"data": pixels,
        b"filenames": [f"image_{row}.png".encode() for row in range(rows)],
    }


def write_cifar10(folder: Path, rows: int = 6, protocol: int = 2) -> dict[str, dict[Any, Any]]:
    """Write the batches of a small CIFAR-10 of three classes; return them by file."""
    folder.mkdir(parents=True)
    batches = {f"data_batch_{number}": random_batch(rows, seed=number) for number in range(1, 6)}
    batches["test_batch"] = random_batch(rows, seed=6)
    for name, batch in batches.items():
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    meta = {"label_names": list(CLASSES), "num_vis": 3072, "num_cases_per_batch": rows}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=protocol))
    return batches


def python2_batch(batch: Mapping[bytes, Any]) -> bytes:
    """Pickle a batch as Python 2 and the NumPy of its time did, in which the published files are."""
    data, labels = batch[b"data"], b"".join(b"K" + bytes([label]) for label in batch[b"labels"])
    shape = b"M" + struct.pack("<H", len(data)) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
    names = b"".join(b"U" + bytes([len(name)]) + name for name in batch[b"filenames"])
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + labels
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85"
        + b"U\x01b\x87Rq\t(K\x01"
        + shape
        + b"cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", data.size)
        + data.tobytes()
        + b"tbU\tfilenamesq\x0c]q\r("
        + names
        + b"eu."
    )


def png(seed: int, side: int = 12, colour: bool = True) -> bytes:
    """A PNG of random pixels."""
    shape = (side, side, 3) if colour else (side, side)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def image_files(parts: tuple[str, ...] = ("train", "test"), each: int = 4) -> dict[str, bytes]:
    """Images in folders of classes, `each` a class and part: path -> file."""
    folders = [f"{part}/{name}" if part else name for part in parts for name in CLASSES]
    paths = [f"{folder}/{number:02d}.png" for folder in folders for number in range(each)]
    return {path: png(seed) for seed, path in enumerate(paths)}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files under a folder, with the folders that they need."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_tar(path: Path, files: Mapping[str, bytes], folders: bool = False) -> Path:
    """Write an archive, gzipped if its name says so; with `folders`, it has members for them too."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for folder in sorted({str(Path(name).parent) for name in files}) if folders else ():
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def idx(values: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_mnist(folder: Path, parts: tuple[str, ...] = ("train", "t10k"), rows: int = 12) -> dict[str, np.ndarray]:
    """Write gzipped IDX files of random digits of three classes; return the images of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, part in enumerate(parts):
        written[part] = np.random.default_rng(seed).integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = np.arange(rows, dtype=np.uint8) % 3
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(written[part])))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return written
