"""The phantom data set: rendered frontal chest radiographs in the format of ChestX-ray14.

A folder with ``images/00000001_000.png`` ... (8-bit grey) and ``Data_Entry_2017_v2020.csv`` with NIH's header of
2020, so that it is read by the same code as the real data set; and ``phantom.json`` with the settings and a checksum.
Each patient's images are a pure function of (seed, patient number, size): they do not depend on the number of worker
processes or of other patients. See docs/phantom.md.
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
from pathlib import Path
from typing import Any

import cv2
import filelock
import numpy as np
from pydantic import Field

from data_prep.errors import DataError
from data_prep.json_file import read_json
from data_prep.labels.table import FINDINGS, NO_FINDING
from data_prep.phantom.anatomy import Body, draw_body, draw_chest
from data_prep.phantom.film import add_devices, draw_pose, expose
from data_prep.phantom.findings import paint, reshape, strength
from data_prep.phantom.layers import draw_layers
from data_prep.phantom.population import Patient, Visit, draw_patient
from data_prep.settings import Seed, Settings

PHANTOM_VERSION = 4  # increase it whenever a pixel or a label changes
TABLE = "Data_Entry_2017_v2020.csv"
RECORD = "phantom.json"
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_FILM_WIDTH = 380.0  # millimetres
_CHUNK = 8  # patients per message to a worker
# The fastest of zlib's strategies for such images, with the smallest files: noise hardly contains repetitions.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)

Progress = Callable[[int, int], None]


class PhantomSettings(Settings):
    """Settings of the phantom. Equal settings give equal bytes on the same kind of processor."""

    patients: int = Field(1000, ge=1, le=99_999_999, description="number of patients; about 2.9 images each")
    size: int = Field(256, ge=64, le=2048, description="width and height of an image in pixels")
    seed: Seed = Field(0, description="of the random draws of the population and the images")


def write_phantom(settings: PhantomSettings, folder: Path, *, workers: int, progress: Progress) -> bool:
    """Render the phantom into a folder, unless it is there already.

    The folder gets its name when it is complete; a run that was killed leaves nothing under that name.

    Args:
        settings: of the phantom.
        folder: receives the data set.
        workers: processes that render.
        progress: called with (images done, images in all).

    Returns:
        False if the complete phantom was there already.

    Raises:
        DataError: the folder holds something else, or cannot be written.
    """
    folder = folder.absolute()
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):  # the kernel releases it if its holder dies
            if folder.exists() and _is_complete(folder, settings):
                return False
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _write(settings, partial, workers, progress)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{folder}: the phantom cannot be written ({reason}); free space, or name another folder"
        ) from error
    return True


def render(patient: Patient, visit: Visit, body: Body, size: int) -> np.ndarray:
    """Render the radiograph of one of the patient's visits, (size, size) uint8; `body` is `draw_body(patient)`.

    Each finding has its own random generator, and so has everything else: without a finding, the rest of the image
    is the same.
    """
    chest = draw_chest(patient, visit, body)
    amounts = {finding: strength(finding, severity) for finding, severity in visit.severity.items()}
    for finding, amount in amounts.items():
        chest = reshape(finding, chest, amount, patient.generator(finding))
    canvas = draw_pose(patient.generator("pose", visit.number), size, chest.portable)
    layers = draw_layers(canvas, chest, patient.generator("mottle", visit.number))
    for finding, amount in amounts.items():
        paint(finding, layers, amount, patient.generator(finding))
    add_devices(layers, patient.generator("devices", visit.number))
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
    """Return whether the folder holds this phantom completely.

    Raises:
        DataError: it holds anything else than this phantom or a part of it.
    """
    try:
        record = read_json(folder / RECORD)
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
    """Write the patients' images; yield SHA-256 and number of bytes of each file, in order."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    cv2.setNumThreads(1)  # the processes are the parallelism


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
            columns = (visit.number, patient.number, visit.age, patient.sex, visit.view)
            rows.writerow([_image_name(patient, visit), findings, *columns, size, size, spacing, spacing])
    return text.getvalue().encode()
