"""Predict files of images with a registered model: decode as for training, predict in batches, write row by row.

n files, k outputs of the model, s side of its images in pixels, b files of a batch.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.sources.image_files import ImageFiles, find_images
from data_prep.store.decode_items import DecodedItem, decode_items
from tasks.images.exported_program import batch_images
from tasks.prediction.examples import Examples
from tasks.prediction.records import PredictionCounts, PredictionRecord, PredictionsHead
from tasks.prediction.registered import RegisteredModel, load_registered
from tasks.prediction.report import report_predictions
from tasks.prediction.row_writer import TABLE, row_writer, shortest
from tasks.prediction.training_patients import TrainingPatients
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.versions import git_commit

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")  # reasons that differ in sizes only are counted together
_TRAINED_ON = "the model was trained on this patient: here its probabilities do not show how it does on other patients"


def predict_files(
    given: Sequence[str], reference: str, chest: bool, page: bool, config: Mapping[str, Any], folder: Path
) -> Path:
    """Predict images with a registered model, and write predictions.csv and predictions.json into a folder.

    Args:
        given: files, and folders that are searched.
        reference: of the model, as NAME@ALIAS or NAME/VERSION.
        chest: the user vouches that a DICOM file shows the chest where it does not say what it shows.
        page: write report.html too, with pictures.
        config: the complete settings.
        folder: for the files.

    Returns:
        The path of predictions.csv.

    Raises:
        DataError: there is no image, no such model, or all files were refused (predictions.csv has the reasons).
    """
    files = find_images(given)
    model = load_registered(reference)
    patients = TrainingPatients(model.facts, home().patient_key)
    head = PredictionsHead(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        model=model.record(patients.known),
        decoder=model.facts.decoder_now,
    )
    _say_versions(head)
    predictor = _Predictor(model, patients)
    with row_writer(folder, head) as writer, progress("predicting") as update:
        for batch in predictor.batches(files, chest):
            writer.write(batch)
            update(predictor.done, len(files.files))
        counts = predictor.counts(files)
        writer.end(counts)
    for line in _told(counts):
        LOGGER.info(line)
    if page:
        report_predictions(head, counts, predictor.examples, folder)
    LOGGER.info("predictions: %s", folder / TABLE)
    if counts.refused == counts.files:
        reasons = " | ".join(list(counts.reasons)[:3])
        raise DataError(f"all {counts.files} files were refused ({reasons}): {folder / TABLE} has the reason of each")
    return folder / TABLE


class _Predictor:
    """Predicts files, and counts what becomes of them.

    Attributes:
        done: number of files so far.
        examples: pictures for the page.
    """

    def __init__(self, model: RegisteredModel, patients: TrainingPatients) -> None:
        self._model, self._patients, self._begun = model, patients, time.monotonic()
        self._statuses, self._reasons = Counter[str](), Counter[str]()
        self._positive = Counter[str](dict.fromkeys(model.facts.operating_points, 0))
        self.done = 0
        self.examples = Examples(model.facts.outputs)

    def batches(self, files: ImageFiles, chest: bool) -> Iterator[list[PredictionRecord]]:
        """Yield the predictions of b files at a time, in their order."""
        facts = self._model.facts
        channels = facts.channels if facts.classes else None
        most = batch_images(facts.channels, facts.size)
        with closing(decode_items(files.files, facts.size, processors(), chest, channels)) as decoded:
            while batch := list(islice(decoded, most)):
                yield self._predict(batch)

    def counts(self, files: ImageFiles) -> PredictionCounts:
        """Return what became of the files."""
        of_status = {status: self._statuses[status] for status in ("predicted", "trained_on", "refused")}
        return PredictionCounts(
            files=self.done,
            **of_status,
            positive=dict(self._positive),
            others=files.others,
            unreadable=files.unreadable,
            reasons=dict(self._reasons.most_common()),
            seconds=time.monotonic() - self._begun,
        )

    def _predict(self, batch: Sequence[tuple[str, DecodedItem]]) -> list[PredictionRecord]:
        pixels = [item.pixels for _, item in batch if item.pixels is not None]
        probabilities = iter(self._probabilities(pixels))
        records = []
        for name, item in batch:
            if item.pixels is None:
                record = PredictionRecord(file=name, status="refused", reason=item.reason)
                self._reasons[_NUMBER.sub("N", item.reason)] += 1
            else:
                record = self._record(name, item, next(probabilities))
                self._positive.update(record.positive or ())
                self.examples.add(self.done + 1, item.pixels, record)
            self._statuses[record.status] += 1
            self.done += 1
            records.append(record)
        return records

    def _probabilities(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Compute (b, k) float32 of b images, (s, s) or (3, s, s) uint8."""
        facts = self._model.facts
        shape = (-1, facts.channels, facts.size, facts.size)
        return self._model.program.predict(np.stack(pixels).reshape(shape)) if pixels else np.empty((0, 0), np.float32)

    def _record(self, name: str, item: DecodedItem, probabilities: np.ndarray) -> PredictionRecord:
        by_label = {
            label: float(shortest(value))
            for label, value in zip(self._model.facts.outputs, probabilities.tolist(), strict=True)
        }
        points = self._model.facts.operating_points
        is_known = self._patients.includes(Path(name).name, item.patient_id)
        return PredictionRecord(
            file=name,
            status="trained_on" if is_known else "predicted",
            reason=_TRAINED_ON if is_known else "",
            probabilities=by_label,
            positive=tuple(label for label in points if by_label[label] >= points[label].threshold),
        )


def _say_versions(head: PredictionsHead) -> None:
    """Say which model predicts, and what the user should know of it."""
    model = head.model
    LOGGER.info("model: %s version %s, run %s, images of %d px", model.name, model.version, model.run_id, model.size)
    if model.decoder is None:
        LOGGER.info("decoder: the model does not say which version decoded its training images; version %d decodes now",
                    head.decoder.version)  # fmt: skip
    elif model.decoder != head.decoder:
        LOGGER.warning(
            "decoder: the model's training images were decoded by version %d, these are by version %d, which may give "
            "other pixels: train a model anew",
            model.decoder.version,
            head.decoder.version,
        )
    if not model.knows_patients:
        LOGGER.info(
            "patients: those of the model's training are not known on this machine, so no file is said to be of one"
        )


def _told(counts: PredictionCounts) -> Iterator[str]:
    """Say what became of the files, in lines that name none of them."""
    yield (
        f"{counts.predicted + counts.trained_on} of {counts.files} files predicted, {counts.refused} refused; "
        f"{counts.files / max(counts.seconds, 1e-3):.0f} files a second"
    )
    for reason, number in list(counts.reasons.items())[:10]:
        yield f"refused, {number}: {reason}"
    if counts.trained_on:
        yield f"files of patients on whom the model was trained: {counts.trained_on}; their status is trained_on"
    if counts.others:
        yield f"files that are no images, and were left out: {counts.others}"
    if counts.unreadable:
        yield f"folders that cannot be read, and were left out with all that is in them: {counts.unreadable}"
