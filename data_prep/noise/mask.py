"""A noise mask: the entries of the training labels that noise selected and changed, before and after.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.table import UNKNOWN


@dataclass(frozen=True)
class LabelNoise:
    """The effect of a mask on one label: numbers of entries, and shares in [0, 1], 0 where nothing is known."""

    label: str
    known: int  # before
    selected: int
    changed: int
    false_negatives: int  # changed from present to absent
    false_positives: int  # changed from absent to present
    lost: int  # changed from known to unknown
    rate: float  # selected / known
    false_negative_rate: float  # false negatives / entries present before
    false_positive_rate: float  # false positives / entries absent before
    prevalence_before: float  # share of 1 among the entries known before
    prevalence_after: float  # share of 1 among the entries known after


@dataclass(frozen=True)
class NoiseMask:
    """The noisy training labels, with the clean labels and the selected entries.

    Attributes:
        labels: k names.
        clean: (m, k) int8, the targets before.
        selected: (m, k) bool.
        targets: (m, k) int8, the targets after.
    """

    labels: tuple[str, ...]
    clean: np.ndarray
    selected: np.ndarray
    targets: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """(m, k) bool, the entries that differ from the clean ones."""
        return self.targets != self.clean

    @property
    def fingerprint(self) -> str:
        """``sha256:...`` of labels, selected, changed, targets, and the clean values of lost entries."""
        changed = self.changed
        hash_ = hashlib.sha256(json.dumps([self.labels, self.targets.shape]).encode())
        for bits in (self.selected, changed):
            hash_.update(np.packbits(bits).tobytes())
        hash_.update(np.ascontiguousarray(self.targets, dtype=np.int8).tobytes())
        # of every other change the clean value follows from the target
        hash_.update(self.clean[changed & (self.targets == UNKNOWN)].astype(np.int8).tobytes())
        return "sha256:" + hash_.hexdigest()

    def summary(self) -> tuple[LabelNoise, ...]:
        """Summarize the effect on each of the k labels."""
        return tuple(map(_effect, self.labels, self.clean.T, self.selected.T, self.targets.T))

    def save(self, path: Path) -> None:
        """Write the mask to `path` (.npz), whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        content = io.BytesIO()
        np.savez_compressed(
            content,
            labels=np.array(self.labels, dtype=np.str_),
            clean=self.clean,
            selected=self.selected,
            targets=self.targets,
            fingerprint=np.array(self.fingerprint),
        )
        temporary = path.with_name(path.name + ".tmp")
        try:
            temporary.write_bytes(content.getvalue())
            temporary.replace(path)
        except OSError as error:
            raise DataError(
                f"{path}: the noise mask cannot be written ({error.strerror}); repair the folder"
            ) from error

    @classmethod
    def load(cls, path: Path) -> "NoiseMask":
        """Read a mask that `save` wrote.

        Raises:
            DataError: there is none, or it is not what was written.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                mask = cls(tuple(file["labels"].tolist()), file["clean"], file["selected"], file["targets"])
                written = str(file["fingerprint"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: no noise mask can be read here; delete it and draw it again") from error
        if mask.fingerprint != written:
            raise DataError(f"{path}: not the mask that was written (its hash differs); delete it and draw it again")
        return mask


def _effect(label: str, before: np.ndarray, selected: np.ndarray, after: np.ndarray) -> LabelNoise:
    known, changed = before != UNKNOWN, before != after
    false_negatives, false_positives = changed & (after == 0), changed & (after == 1)
    return LabelNoise(
        label=label,
        known=int(known.sum()),
        selected=int(selected.sum()),
        changed=int(changed.sum()),
        false_negatives=int(false_negatives.sum()),
        false_positives=int(false_positives.sum()),
        lost=int((changed & (after == UNKNOWN)).sum()),
        rate=_share(selected, known),
        false_negative_rate=_share(false_negatives, before == 1),
        false_positive_rate=_share(false_positives, before == 0),
        prevalence_before=_share(before == 1, known),
        prevalence_after=_share(after == 1, after != UNKNOWN),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / max(1, whole.sum()))
