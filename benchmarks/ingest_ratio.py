"""How long an ingest takes with this version of the code, divided by another version's time.

    python -m benchmarks.ingest_ratio BEFORE --images DIR [--images-each 1000] [--rounds 10] [--case PNG]...
        [--json FILE]

BEFORE is a checkout of this repository. In each round both versions build a store of the same folder, each in a
process of its own, in turns: of grey PNGs (the files of DIR), of JPEGs and of DICOMs made of their pixels, and of an
archive of the PNGs. Two processes decode; the time begins after the imports. Beside the time by the clock stand the
processor seconds of all processes, which other work on the machine changes less. The interval of a ratio is Student's t
over the rounds, of its logarithm.
"""

import io
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.stats import t

from benchmarks.report import in_turns, parser, print_table, publish

SIZE = 256
BUILD = """
import json, os, resource, sys, tempfile, time
from pathlib import Path
import cv2
from data_prep.decoding.sandbox import _sandbox
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.table import read_labels
from data_prep.sources.folder import FolderSource
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.store.from_source import build_store

def processor_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

def build(folder):
    archives = sorted(folder.glob("*.tar.gz"))
    with tempfile.TemporaryDirectory() as out:
        begun, used = time.perf_counter(), processor_seconds()
        if archives:
            files = tuple(RemoteFile(file.name, "", file.stat().st_size, None) for file in archives)
            local = {file.name: file for file in archives}
            access = ArchiveFiles(lambda file: folder / file.name)
            source = ArchiveSource.of(read_labels(folder / "labels.csv"), files, local, access)
            store = build_from_archives(source, Path(out, "store"), SIZE, key=bytes(32), workers=2)
        else:
            store = build_store(FolderSource.open(folder), Path(out, "store"), SIZE, key=bytes(32), workers=2)
        seconds = time.perf_counter() - begun
        _sandbox(os.getpid()).close()  # so that its processor time is counted
        return seconds, processor_seconds() - used, len(store.images)

if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]))))
"""


@cache
def as_jpeg(data: bytes) -> bytes:
    """Encode a picture as JPEG."""
    return cv2.imencode(".jpg", grey(data), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@cache
def as_dicom(data: bytes) -> bytes:
    """Write a picture as a radiograph of 12 bits, not compressed."""
    pixels = grey(data).astype("<u2") * 16
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def grey(data: bytes) -> np.ndarray:
    """Decode a picture to (h, w) uint8."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


CASES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "PNG": (".png", bytes),
    "JPEG": (".jpg", as_jpeg),
    "DICOM": (".dcm", as_dicom),
    "archive of PNGs": (".tar.gz", bytes),
}


def write_case(folder: Path, suffix: str, encode: Callable[[bytes], bytes], files: list[bytes]) -> Path:
    """Write a folder, or an archive, of the files with a label table."""
    folder.mkdir()
    in_archive = suffix == ".tar.gz"
    names = [f"{number}{'.png' if in_archive else suffix}" for number in range(len(files))]
    rows = [f"{name},p{number // 3},{number % 2}" for number, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["image,patient,Mass", *rows]) + "\n", encoding="utf-8")
    if in_archive:
        with tarfile.open(folder / "images_1.tar.gz", "w:gz", compresslevel=1) as archive:
            for name, data in zip(names, files, strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return folder
    for name, data in zip(names, files, strict=True):
        (folder / name).write_bytes(encode(data))
    return folder


def build_seconds(code: Path, folder: Path, script: Path, images: int) -> tuple[float, float]:
    """Build the store of a folder with the code of a checkout; return the seconds by the clock and of processors."""
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(
        [sys.executable, script, folder], env=environment, cwd=script.parent, capture_output=True, text=True, check=True
    )
    seconds, processor, found = json.loads(done.stdout.splitlines()[-1])
    if found != images:
        raise RuntimeError(f"{code}: {found} of {images} images are in the store")
    return seconds, processor


def row(name: str, unit: str, before: list[float], after: list[float]) -> list[str]:
    """Return a row of the table."""
    middle, low, high = ratio(after, before)
    medians = [f"{statistics.median(each):.2f}" for each in (before, after)]
    return [name, unit, *medians, f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]


def ratio(after: list[float], before: list[float]) -> tuple[float, float, float]:
    """Return the ratio of two ways over the same rounds, with its 95 % interval."""
    logs = [math.log(a / b) for a, b in zip(after, before, strict=True)]
    middle = statistics.mean(logs)
    half = t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def main() -> None:
    """Run the benchmark; see the top of the file."""
    options = parser(__doc__)
    options.add_argument("before", type=Path)
    options.add_argument("--images", type=Path, required=True, help="folder of PNGs")
    options.add_argument("--images-each", type=int, default=1000, help="images of each case; files are repeated")
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--case", action="append", choices=list(CASES), help="all of them by default")
    given = options.parse_args()
    versions = {"before": given.before.resolve(), "after": Path(__file__).parents[1]}
    every = [file.read_bytes() for file in sorted(given.images.glob("*.png"))]
    files = list(islice(cycle(every), given.images_each))
    rows, record = [], {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "build.py")
        script.write_text(BUILD.replace("SIZE", str(SIZE)), encoding="utf-8")
        for name in given.case or CASES:
            suffix, encode = CASES[name]
            case = write_case(Path(folder, name), suffix, encode, files)
            ways = {
                version: lambda code=code, case=case: build_seconds(code, case, script, len(files))
                for version, code in versions.items()
            }
            taken = in_turns(ways, given.rounds)
            rows += [
                row(name if of == 0 else "", unit, *([pair[of] for pair in taken[version]] for version in versions))
                for of, unit in enumerate(("by the clock", "of processors"))
            ]
            record[name] = taken
    print_table([f"{len(files)} images", "seconds", *versions, "after / before", "95 % interval"], rows)
    publish({"rounds": given.rounds, "size": SIZE, "cases": record}, given.json)


if __name__ == "__main__":
    main()
