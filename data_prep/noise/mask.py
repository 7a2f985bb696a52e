"""A noise mask: which entries of the training labels noise selected, which it changed, and to what.

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
    """What a mask did to one label.

    known: entries that were known before. selected, changed: of these. false_negatives, false_positives, lost:
    the changed ones by what happened: present to absent, absent to present, known to unknown.
    rate: selected / known. false_negative_rate: false negatives / those present before; false_positive_rate:
    false positives / those absent before. prevalence_before, prevalence_after: share of 1 among the entries known
    then. All shares lie in [0, 1] and are 0 where nothing is known.
    """

    label: str
    known: int
    selected: int
    changed: int
    false_negatives: int
    false_positives: int
    lost: int
    rate: float
    false_negative_rate: float
    false_positive_rate: float
    prevalence_before: float
    prevalence_after: float


@dataclass(frozen=True)
class NoiseMask:
    """The noisy training labels and how they came about.

    labels: k names. clean, targets: (m, k) int8, before and after. selected: (m, k) bool.
    """

    labels: tuple[str, ...]
    clean: np.ndarray
    selected: np.ndarray
    targets: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """Return (m, k) bool: where a target is not what it was."""
        return self.targets != self.clean

    @property
    def fingerprint(self) -> str:
        """Return "sha256:..." of labels, selected, changed, targets, and what a lost entry was."""
        changed = self.changed
        hash_ = hashlib.sha256(json.dumps([self.labels, self.targets.shape]).encode())
        for bits in (self.selected, changed):
            hash_.update(np.packbits(bits).tobytes())
        hash_.update(np.ascontiguousarray(self.targets, dtype=np.int8).tobytes())
        # every other change can be undone from the targets
        hash_.update(self.clean[changed & (self.targets == UNKNOWN)].astype(np.int8).tobytes())
        return "sha256:" + hash_.hexdigest()

    def summary(self) -> tuple[LabelNoise, ...]:
        """Say what was done to each of the k labels."""
        return tuple(self._of_label(i, label) for i, label in enumerate(self.labels))

    def _of_label(self, i: int, label: str) -> LabelNoise:
        before, after = self.clean[:, i], self.targets[:, i]
        known, selected, changed = before != UNKNOWN, self.selected[:, i], before != after
        missed, invented = changed & (after == 0), changed & (after == 1)
        return LabelNoise(
            label=label,
            known=int(known.sum()),
            selected=int(selected.sum()),
            changed=int(changed.sum()),
            false_negatives=int(missed.sum()),
            false_positives=int(invented.sum()),
            lost=int((changed & (after == UNKNOWN)).sum()),
            rate=_share(selected, known),
            false_negative_rate=_share(missed, before == 1),
            false_positive_rate=_share(invented, before == 0),
            prevalence_before=_share(before == 1, known),
            prevalence_after=_share(after == 1, after != UNKNOWN),
        )

    def save(self, path: Path) -> None:
        """Write the mask to `path` (.npz), whole or not at all; DataError if that cannot be."""
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
            raise DataError(f"{path}: the noise mask cannot be written ({error.strerror}); mend the folder") from error

    @classmethod
    def load(cls, path: Path) -> "NoiseMask":
        """Read a mask that `save` wrote; DataError if it is not there or not what was written."""
        try:
            with np.load(path, allow_pickle=False) as file:
                mask = cls(tuple(file["labels"].tolist()), file["clean"], file["selected"], file["targets"])
                written = str(file["fingerprint"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: no noise mask can be read here; delete it and draw it again") from error
        if mask.fingerprint != written:
            raise DataError(f"{path}: not the mask that was written (its hash differs); delete it and draw it again")
        return mask


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / max(1, whole.sum()))
