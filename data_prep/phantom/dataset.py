"""The phantom: rendered frontal chest radiographs, written as ChestX-ray14 is.

A folder with ``images/00000001_000.png`` ... (8-bit grey) and ``Data_Entry_2017_v2020.csv`` with NIH's header of
2020, so that it takes the same road as the real thing; and ``phantom.json``, which says what it was made from. Each
patient's images are a pure function of (seed, patient number, size): the number of worker processes and the number
of other patients change nothing. See docs/phantom.md.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import filelock
import numpy as np
from pydantic import Field

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS, NO_FINDING
from data_prep.phantom.anatomy import Body, draw_body, draw_chest, draw_layers
from data_prep.phantom.film import devices, expose, pose
from data_prep.phantom.findings import paint, reshape, strength
from data_prep.phantom.population import Patient, Visit, draw_patient
from data_prep.settings import Settings

PHANTOM_VERSION = 4  # raised whenever a pixel or a label changes
TABLE = "Data_Entry_2017_v2020.csv"
RECORD = "phantom.json"
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_FILM_WIDTH = 380.0  # millimetres
_CHUNK = 8  # patients per message to a worker
# Of zlib's strategies the fastest for such pictures, and the smallest: noise hardly repeats itself.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

Progress = Callable[[int, int], None]


class PhantomSettings(Settings):
    """What is rendered. Equal settings give equal bytes on the same kind of processor."""

    patients: int = Field(1800, ge=1, le=99_999_999, description="number of patients; about 2.9 images each")
    size: int = Field(256, ge=64, le=2048, description="width and height of an image in pixels")
    seed: int = Field(0, ge=0, description="draws the population and every image")


def write_phantom(settings: PhantomSettings, folder: Path, *, workers: int, progress: Progress) -> bool:
    """Render the phantom into `folder` and return True, or return False where it already lies there complete.

    The folder appears at once, complete, under its name; a run that was killed leaves nothing under it. workers:
    processes that render. progress: called with (images done, images in all).

    Raises DataError if the folder holds something else, or cannot be written.
    """
    folder = folder.absolute()
    with _explained(folder), _alone(folder):
        if folder.exists() and _is_complete(folder, settings):
            return False
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write(settings, partial, workers, progress)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def render(patient: Patient, visit: Visit, body: Body, size: int) -> np.ndarray:
    """One radiograph of the patient whose body is `draw_body(patient)`, (size, size) uint8.

    Everything but the findings is drawn from generators of its own: a visit without one of its findings gives the
    same picture without it.
    """
    chest = draw_chest(patient, visit, body)
    amounts = {finding: strength(finding, severity) for finding, severity in visit.severity.items()}
    for finding, amount in amounts.items():
        chest = reshape(finding, chest, amount, patient.generator(finding))
    canvas = pose(patient.generator("pose", visit.number), size, chest.portable)
    layers = draw_layers(canvas, chest, patient.generator("mottle", visit.number))
    for finding, amount in amounts.items():
        paint(finding, layers, amount, patient.generator(finding))
    devices(layers, patient.generator("devices", visit.number))
    return expose(layers, patient.generator("film", visit.number))


def _write(settings: PhantomSettings, folder: Path, workers: int, progress: Progress) -> None:
    (folder / "images").mkdir(parents=True)
    patients = [draw_patient(settings.seed, number) for number in range(1, settings.patients + 1)]
    total = sum(len(patient.visits) for patient in patients)
    digest, done, written = hashlib.sha256(), 0, 0
    for sums in _rendered(patients, folder / "images", settings.size, workers):
        for image_sum, image_bytes in sums:
            digest.update(image_sum)
            written += image_bytes
        done += len(sums)
        progress(done, total)
    table = _table(patients, settings.size)
    digest.update(table)
    (folder / TABLE).write_bytes(table)
    record = _identity(settings) | {"images": total, "image_bytes": written, "content": f"sha256:{digest.hexdigest()}"}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _identity(settings: PhantomSettings) -> dict[str, Any]:
    return {"phantom": PHANTOM_VERSION, "settings": settings.model_dump()}


def _is_complete(folder: Path, settings: PhantomSettings) -> bool:
    """Whether the folder holds all of this phantom; DataError if it holds anything but it or a part of it."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        made_from = {key: record[key] for key in ("phantom", "settings")}
        expected = (record["images"], record["image_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder}: exists and is not a phantom; name another folder, or delete it") from None
    if made_from != _identity(settings):
        raise DataError(f"{folder}: holds a phantom of other settings; name another folder, or delete it")
    if not (folder / TABLE).is_file() or not (folder / "images").is_dir():
        return False
    with os.scandir(folder / "images") as files:
        sizes = [file.stat().st_size for file in files]
    return (len(sizes), sum(sizes)) == expected


def _rendered(patients: list[Patient], images: Path, size: int, workers: int) -> Iterator[list[tuple[bytes, int]]]:
    """Write the patients' images; yields, in order, SHA-256 and number of bytes of each file."""
    chunks = [patients[start : start + _CHUNK] for start in range(0, len(patients), _CHUNK)]
    if workers == 1:
        yield from (_render_patients(chunk, images, size) for chunk in chunks)
        return
    # Spawned, not forked: the caller may run threads.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        futures = [pool.submit(_render_patients, chunk, images, size) for chunk in chunks]
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)  # the workers are the parallelism


def _render_patients(patients: list[Patient], images: Path, size: int) -> list[tuple[bytes, int]]:
    sums = []
    for patient in patients:
        body = draw_body(patient)
        for visit in patient.visits:
            data = cv2.imencode(".png", render(patient, visit, body, size), _PNG)[1].tobytes()
            (images / _image_name(patient, visit)).write_bytes(data)
            sums.append((hashlib.sha256(data).digest(), len(data)))
    return sums


def _image_name(patient: Patient, visit: Visit) -> str:
    return f"{patient.number:08d}_{visit.number:03d}.png"


def _table(patients: list[Patient], size: int) -> bytes:
    text = io.StringIO()
    text.write(_HEADER + "\n")
    rows = csv.writer(text, lineterminator="\n")
    spacing = round(_FILM_WIDTH / size, 6)
    for patient in patients:
        for visit in patient.visits:
            findings = "|".join(name for name in FINDINGS if name in visit.severity) or NO_FINDING
            who = (visit.number, patient.number, visit.age, patient.sex, visit.view)
            rows.writerow([_image_name(patient, visit), findings, *who, size, size, spacing, spacing])
    return text.getvalue().encode()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock on `folder`; the kernel releases it when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{folder}: the phantom cannot be written ({reason}); free space, or name another folder"
        ) from error
