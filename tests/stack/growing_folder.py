"""A hospital's folder that grows every night: new patients, and old ones who come back."""

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from data_prep.phantom.dataset import TABLE, PhantomSettings, write_phantom

PATIENTS = 380
Row = dict[str, str]


class GrowingFolder:
    """Rendered radiographs of many patients, of which each night some more are copied into the folder `here`."""

    def __init__(self, work: Path) -> None:
        write_phantom(PhantomSettings(patients=PATIENTS, size=64), work / "all", workers=2, progress=lambda _, __: None)
        self.here = work / "hospital"
        self.here.mkdir()
        self._images = work / "all" / "images"
        with (work / "all" / TABLE).open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            self._columns = list(reader.fieldnames or ())
        of_patient: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            of_patient[row["Patient ID"]].append(row)
        # every eighth patient with several images comes back: the last image waits for a later night
        several = [images for images in of_patient.values() if len(images) > 1]
        self._later = [images.pop() for images in several[::8]]
        self._waiting = list(of_patient.values())
        self.arrived: list[Row] = []

    @property
    def table(self) -> Path:
        return self.here / "labels.csv"

    def grow(self, images: int, darken: bool = False) -> int:
        """Let about so many images arrive, of new patients and two of old ones; return how many did."""
        new: list[Row] = []
        if self.arrived:
            new += [self._later.pop(0), self._later.pop(0)]
        while len(new) < images:
            new += self._waiting.pop(0)
        for row in new:
            pixels = cv2.imread(str(self._images / row["Image Index"]), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(self.here / row["Image Index"]), (pixels // 3 if darken else pixels).astype(np.uint8))
        self.arrived += new
        with self.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.arrived)
        return len(new)
