"""Label noise: seeded, content-addressed masks over the training labels.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

A noise model selects a share of the known entries of each named label, and replaces what it selected:

* ``random``: each by a fair coin, as in Wu, Zhang and Ré (ICLR 2020, section 3.3): about half of them change;
* ``shuffled``: by a permutation of themselves, so that the label keeps its prevalence exactly;
* ``flipped``: each by its opposite.

What is drawn for a label depends on the seed, the label's name and the number of its known rows, not on the other
labels; the three kinds select the same entries, and a higher rate selects all that a lower one does.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.errors import DataError, did_you_mean
from data_prep.labels import UNKNOWN

_NAMED_LABELS = 3  # a name that lists more is too long for a legend


class NoNoise(BaseModel):
    """Train on the labels as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none"] = Field("none", description="no noise")

    @property
    def name(self) -> str:
        """Return a short name for runs and figures."""
        return "clean"


class _Noise(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "shuffled", "flipped"]
    rate: float = Field(
        ..., description="share of the known training entries to select", json_schema_extra={"minimum": 0, "maximum": 1}
    )
    labels: tuple[str, ...] = Field((), description="names of the labels to disturb; none means all of them")

    @field_validator("rate")
    @classmethod
    def _rate_is_a_share(cls, rate: float) -> float:
        if not 0 <= rate <= 1:
            hint = f". Did you mean {rate / 100:g}?" if 1 < rate <= 100 else ""
            raise ValueError(f"noise rate must lie in [0, 1]; got {rate:g}{hint}")
        return rate

    @field_validator("labels")
    @classmethod
    def _labels_are_named_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"label {twice!r} is named twice for the noise; name it once")
        return labels

    @property
    def name(self) -> str:
        """Return a short name for runs and figures: 'random 20 % on Effusion, Mass'."""
        shown = ", ".join(self.labels[:_NAMED_LABELS]) or "all labels"
        more = len(self.labels) - _NAMED_LABELS
        return f"{self.kind} {100 * self.rate:g} % on {shown}" + (f" and {more} more" if more > 0 else "")


class RandomNoise(_Noise):
    """Replace each selected entry by a fair coin."""

    kind: Literal["random"] = Field("random", description="each selected entry becomes a fair coin")


class ShuffledNoise(_Noise):
    """Permute the selected entries of a label among themselves."""

    kind: Literal["shuffled"] = Field("shuffled", description="selected entries are permuted; prevalence stays")


class FlippedNoise(_Noise):
    """Turn each selected entry into its opposite."""

    kind: Literal["flipped"] = Field("flipped", description="each selected entry becomes its opposite")


NoiseSettings = Annotated[NoNoise | RandomNoise | ShuffledNoise | FlippedNoise, Field(discriminator="kind")]


@dataclass(frozen=True)
class LabelNoise:
    """What a mask did to one label.

    selected, changed: numbers of entries. rate: selected / known entries (0 if none is known).
    prevalence_before, prevalence_after: share of 1 among the known entries, in [0, 1] (0 if none is known).
    """

    label: str
    selected: int
    changed: int
    rate: float
    prevalence_before: float
    prevalence_after: float


@dataclass(frozen=True)
class NoiseMask:
    """The noisy training labels and how they came about.

    labels: k names. selected, changed: (m, k) bool. targets: (m, k) int8, noisy.
    fingerprint: "sha256:..." of all of these.
    """

    labels: tuple[str, ...]
    selected: np.ndarray
    changed: np.ndarray
    targets: np.ndarray

    @property
    def fingerprint(self) -> str:
        """Return "sha256:..." of labels, selected, changed and targets."""
        hash_ = hashlib.sha256(json.dumps([self.labels, self.targets.shape]).encode())
        for bits in (self.selected, self.changed):
            hash_.update(np.packbits(bits).tobytes())
        hash_.update(np.ascontiguousarray(self.targets, dtype=np.int8).tobytes())
        return "sha256:" + hash_.hexdigest()

    def summary(self) -> tuple[LabelNoise, ...]:
        """Say what was done to each of the k labels."""
        known = self.targets != UNKNOWN
        clean = np.where(self.changed, 1 - self.targets, self.targets)
        entries = np.maximum(known.sum(axis=0), 1)
        return tuple(
            LabelNoise(
                label=label,
                selected=int(self.selected[:, i].sum()),
                changed=int(self.changed[:, i].sum()),
                rate=float(self.selected[:, i].sum() / entries[i]),
                prevalence_before=float((clean[:, i] == 1).sum() / entries[i]),
                prevalence_after=float((self.targets[:, i] == 1).sum() / entries[i]),
            )
            for i, label in enumerate(self.labels)
        )

    def save(self, path: Path) -> None:
        """Write the mask to `path` (.npz), whole or not at all; DataError if that cannot be."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            labels=np.array(self.labels, dtype=np.str_),
            selected=self.selected,
            changed=self.changed,
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
                mask = cls(tuple(file["labels"].tolist()), file["selected"], file["changed"], file["targets"])
                written = str(file["fingerprint"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: no noise mask can be read here; delete it and draw it again") from error
        if mask.fingerprint != written:
            raise DataError(f"{path}: not the mask that was written (its hash differs); delete it and draw it again")
        return mask


def draw_noise(settings: NoiseSettings, targets: np.ndarray, labels: Sequence[str], seed: int) -> NoiseMask:
    """Draw the noise for the training rows.

    targets: (m, k) int8 of the training rows only. Unknown entries are never selected. Of each named label
    round(rate * known entries) are selected, exactly. Raises DataError for a label that is not there.
    """
    selected = np.zeros(targets.shape, dtype=bool)
    noisy = targets.copy()
    if not isinstance(settings, NoNoise):
        for label in settings.labels or tuple(labels):
            column = _column(label, labels)
            rows = _select(targets[:, column], settings.rate, label, seed)
            selected[rows, column] = True
            noisy[rows, column] = _replace(settings.kind, targets[rows, column], label, seed)
    return NoiseMask(tuple(labels), selected, noisy != targets, noisy)


def _column(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise DataError(f"noise on unknown label {label!r}{did_you_mean(label, labels)}")
    return list(labels).index(label)


def _generator(purpose: str, label: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(f"noise/{purpose}/{label}".encode())))


def _select(column: np.ndarray, rate: float, label: str, seed: int) -> np.ndarray:
    """Return the selected rows of one label, in the order drawn: the first ones are those of any lower rate."""
    known = np.flatnonzero(column != UNKNOWN)
    return _generator("select", label, seed).permutation(known)[: round(rate * len(known))]


def _replace(kind: Literal["random", "shuffled", "flipped"], values: np.ndarray, label: str, seed: int) -> np.ndarray:
    """Return what stands in place of `values`: (selected,) int8 of 0 and 1."""
    if kind == "flipped":
        return 1 - values
    rng = _generator(kind, label, seed)
    if kind == "shuffled":
        return rng.permutation(values)
    return rng.integers(0, 2, size=len(values), dtype=np.int8)
