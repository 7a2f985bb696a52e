"""Images per second from 1024 px PNGs to a store, on one and two cores, beside other ways and the decoder's ceiling.

    python -m benchmarks.ingest --images DIR [--size 256] [--rounds 5] [--memory TABLE]

All ways meet the same files, already in memory, in turns (a change of the machine's load meets them all); figures
are medians over rounds. Shares compare images per processor second, which a busy machine changes least. "ours" is
all that a process of an ingest does: read the archive as a stream, verify, decode, reduce, hash, write a shard. The
others get their files for nothing. A ceiling is decoding alone. "common practice" opens with Pillow, converts to
grey, reduces with Lanczos and saves a PNG again. What is not installed is left out (the extra `bench` has it all).
diff: mean absolute difference in grey levels from the exact area average of Pillow's pixels, mean over files.

--memory also ingests 200 and 2,000 images (the same files under the names of the label table TABLE) and prints the
peak of anonymous memory (RssAnon of /proc, all processes together). Expected: no growth.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import kornia_rs
import numpy as np
from PIL import Image

from data_prep.decoding.raster import decode
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.table import read_labels
from data_prep.sources.archives import ImageSelection, ReadProgress, open_archive
from data_prep.store.decode_items import decode_item, start_worker
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.store.shards import ShardWriter

Reader = Callable[[bytes, int], Any]


def practice(data: bytes, size: int) -> np.ndarray:
    """Pillow: grey, Lanczos, a PNG again."""
    picture = Image.open(io.BytesIO(data)).convert("L").resize((size, size), Image.Resampling.LANCZOS)
    picture.save(io.BytesIO(), "PNG")
    return np.asarray(picture)


def with_torchvision(data: bytes, size: int) -> np.ndarray:
    """torchvision: decode to grey, antialiased resize."""
    import torch
    from torchvision.io import ImageReadMode, decode_png
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)
    picture = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.GRAY)
    return resize(picture, [size, size], antialias=True)[0].numpy()


def with_torchxrayvision(data: bytes, size: int) -> np.ndarray:
    """Read as torchxrayvision's NIH data set does: skimage, scaled to -1024..1024, its own crop and resize."""
    import torchxrayvision as xrv
    from skimage.io import imread

    picture = xrv.datasets.normalize(imread(io.BytesIO(data)), maxval=255, reshape=True)
    return xrv.datasets.XRayResizer(size)(xrv.datasets.XRayCenterCrop()(picture))[0]


def _opencv(data: bytes, size: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def _kornia(data: bytes, size: int) -> np.ndarray:
    return kornia_rs.io.decode_image_png_u8(data, (1024, 1024), "mono")[:, :, 0]


def _imagecodecs(data: bytes, size: int) -> np.ndarray:
    import imagecodecs

    return imagecodecs.png_decode(data)


def _pyspng(data: bytes, size: int) -> np.ndarray:
    import pyspng

    return pyspng.load(data)


READERS: dict[str, tuple[Reader, str]] = {
    "decode and reduce": (decode, "kornia_rs"),
    "common practice": (practice, "PIL"),
    "torchvision": (with_torchvision, "torchvision"),
    "torchxrayvision": (with_torchxrayvision, "torchxrayvision"),
    "only decode: kornia-rs": (_kornia, "kornia_rs"),
    "only decode: imagecodecs": (_imagecodecs, "imagecodecs"),
    "only decode: OpenCV": (_opencv, "cv2"),
    "only decode: pyspng": (_pyspng, "pyspng"),
}
OURS = "ours"

_files: list[bytes] = []
_archive = Path()


def _start(archive: Path) -> None:
    global _archive
    start_worker()
    _archive = archive
    with open_archive(archive, ReadProgress()) as members:
        _files.extend(member.data for member in members if member.data is not None)


def _work(way: str, size: int) -> float:
    """Processor seconds for all files, in a process of its own."""
    begun = time.process_time()
    if way == OURS:
        _ingest(size)
    else:
        reader = READERS[way][0]
        for data in _files:
            reader(data, size)
    return time.process_time() - begun


def _ingest(size: int) -> None:
    """Do what `data_prep.store.from_archives` does in a process, to a shard that is thrown away."""
    with tempfile.TemporaryDirectory() as folder, open_archive(_archive, ReadProgress()) as members:
        names = {Path(f"{index:08d}_000.png").name for index in range(len(_files))}
        with ShardWriter(Path(folder) / "pixels.npy", len(_files), size) as shard:
            for image, data, _ in ImageSelection(names).select(members):
                item = decode_item(image, data or b"", size, isolate=False)
                if item.pixels is not None:
                    shard.append(image, item.pixels, item.pixels_sha256, item.source_sha256)
            shard.finish()


def write_archive(path: Path, files: Sequence[bytes], names: Sequence[str]) -> Path:
    """Write an archive in NIH's layout."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in zip(names, files, strict=True):
            info = tarfile.TarInfo(f"images/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def rates(archive: Path, images: int, ways: Sequence[str], size: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of each way on one and on two cores, and per processor second on one.

    Medians over rounds in which all take turns.
    """
    found: dict[str, dict[int, list[float]]] = {way: {0: [], 1: [], 2: []} for way in ways}
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, context, _start, (archive,)) for _ in range(2)]
    try:
        for round_ in range(rounds + 1):
            for way in ways:
                for cores in (1, 2):
                    begun = time.perf_counter()
                    works = [pool.submit(_work, way, size) for pool in pools[:cores]]
                    processor_seconds = [work.result() for work in works]
                    if round_:  # the first one warms up
                        found[way][cores].append(images * cores / (time.perf_counter() - begun))
                        if cores == 1:
                            found[way][0].append(images / processor_seconds[0])
    finally:
        for pool in pools:
            pool.shutdown()
    return {way: [statistics.median(found[way][cores]) for cores in (1, 2, 0)] for way in ways}


def difference(files: Sequence[bytes], way: str, size: int) -> float | None:
    """Mean absolute difference from the area average of Pillow's pixels, in grey levels."""
    if 1024 % size != 0 or way.startswith("only decode") or way == "torchxrayvision":
        return None
    reader = decode if way == OURS else READERS[way][0]
    found = []
    for data in files:
        grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
        exact = grey.reshape(size, len(grey) // size, size, -1).mean((1, 3))
        found.append(float(np.abs(reader(data, size).astype(float) - exact).mean()))
    return statistics.mean(found)


def peak_memory(files: Sequence[bytes], table: Path, images: int) -> float:
    """Peak RssAnon, MiB, of an ingest of `images` images in two archives, all its processes together."""
    names = list(islice((name for name in read_labels(table).images.tolist()), images))
    with tempfile.TemporaryDirectory() as folder:
        for part in range(2):
            own = names[part::2]
            write_archive(
                Path(folder) / f"images_{part + 1}.tar.gz", [files[i % len(files)] for i in range(len(own))], own
            )
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.ingest", "--ingest", folder, str(table)])
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_anonymous, _family(process.pid))))
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"the ingest ended with {process.returncode}")
    return peak / 1024


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def ingest_folder(folder: Path, table: Path) -> None:
    """Time an ingest of the folder's archives with two processes."""
    files = tuple(RemoteFile(f.name, "", f.stat().st_size, _md5(f)) for f in sorted(folder.glob("*.tar.gz")))
    source = ArchiveSource.of(read_labels(table), files, {}, ArchiveFiles(lambda file: folder / file.name))
    source = replace(source, complete=False)  # the table has the rows of all images of NIH
    build_from_archives(source, folder / "store", 256, key=b"", workers=2)


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def main() -> None:
    """Print a table, and JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of grey PNGs of 1024 px")
    parser.add_argument("--count", type=int, default=48, help="images a process works on in a round")
    parser.add_argument("--size", type=int, default=256, help="side of the stored images, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=Path, metavar="TABLE", help="also measure memory; NIH's label table")
    parser.add_argument("--ingest", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ingest:
        return ingest_folder(*arguments.ingest)
    every = [file.read_bytes() for file in sorted(arguments.images.glob("*.png"))]
    grey = [data for data in every if data[24:26] == b"\x08\x00"]  # all decoders do the same work on these
    files = grey[: arguments.count]
    ways = [OURS, *(way for way, (_, module) in READERS.items() if importlib.util.find_spec(module))]
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{index:08d}_000.png" for index in range(len(files))]
        archive = write_archive(Path(folder) / "images_1.tar.gz", files, names)
        found = rates(archive, len(files), ways, arguments.size, arguments.rounds)
    ceiling = max((found[way] for way in ways if way.startswith("only decode")), key=lambda rate: rate[2])
    rows = []
    print(
        f"{'way':26} {'1 core/s':>9} {'2 cores/s':>9} {'gain':>5} {'per CPU s':>9} "
        f"{'of ceiling':>10} {'vs practice':>11} {'diff':>6}"
    )
    for way in ways:
        one, two, processor = found[way]
        off = difference(files[:12], way, arguments.size)
        share, versus = processor / ceiling[2], processor / found["common practice"][2]
        shown = "" if off is None else f"{off:6.2f}"
        print(f"{way:26} {one:9.1f} {two:9.1f} {two / one:5.2f} {processor:9.1f} {share:10.0%} {versus:11.2f} {shown}")
        rows.append(
            {
                "way": way,
                "one": one,
                "two": two,
                "processor": processor,
                "of_ceiling": share,
                "vs_practice": versus,
                "diff": off,
            }
        )
    result: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "size": arguments.size,
        "rows": rows,
    }
    if arguments.memory:
        result["rss_anon_mib"] = {n: peak_memory(every, arguments.memory, n) for n in (200, 2000)}
        for count, peak in result["rss_anon_mib"].items():
            print(f"{count:5} images: peak RssAnon {peak:.0f} MiB")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
