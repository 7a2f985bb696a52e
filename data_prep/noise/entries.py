"""Noise models that select entries of each label separately: random, shuffled, flipped, missing, class-conditional.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

The random draw for a label depends on the seed, the label's name and the number of its known rows, not on the other
labels. All kinds take entries from the front of the same random order of the known rows, so that the entries selected
at a higher rate include those selected at a lower rate.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from data_prep.errors import DataError, did_you_mean
from data_prep.labels.table import UNKNOWN
from data_prep.settings import Settings

_NAMED_LABELS = 3  # a name with more labels is too long for a legend


def check_share(share: float) -> float:
    """Return `share` after checking it.

    Raises:
        ValueError: it is not in [0, 1]; with a hint where it may be a percentage.
    """
    if not 0 <= share <= 1:
        hint = f". Did you mean {share / 100:g}?" if 1 < share <= 100 else ""
        raise ValueError(f"noise rate must lie in [0, 1]; got {share:g}{hint}")
    return share


Share = Annotated[float, AfterValidator(check_share), Field(json_schema_extra={"minimum": 0, "maximum": 1})]


class Noise(Settings, ABC):
    """A noise model: the base of all kinds, with a rate and the labels it disturbs."""

    kind: str
    rate: Share = Field(description="share of the known training entries to select, in [0, 1]")
    labels: tuple[str, ...] = Field(
        (), max_length=10_000, description="names of the labels to disturb; none means all of them"
    )

    @field_validator("labels")
    @classmethod
    def _labels_are_named_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"label {twice!r} is named twice for the noise; name it once")
        return labels

    @property
    def level(self) -> float:
        """A number in [0, 1] that orders conditions of one kind: the rate."""
        return self.rate

    @property
    def title(self) -> str:
        """The noise without its labels: '20 % random labels'."""
        return f"{100 * self.rate:g} % {self.kind} labels"

    @property
    def name(self) -> str:
        """A short name for runs and figures: 'random 20 % on Effusion, Mass'."""
        return f"{self.kind} {self._rate_text} on {self._labels_text}"

    @property
    def _rate_text(self) -> str:
        return f"{100 * self.rate:g} %"

    @property
    def _labels_text(self) -> str:
        shown = ", ".join(self.labels[:_NAMED_LABELS]) or "all labels"
        more = len(self.labels) - _NAMED_LABELS
        return shown + (f" and {more} more" if more > 0 else "")

    @abstractmethod
    def draw(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the noise.

        Args:
            targets: (m, k) int8; not modified.
            labels: names of the k labels.
            seed: of the draw.

        Returns:
            The selected entries, (m, k) bool, and the noisy targets, (m, k) int8.

        Raises:
            DataError: the noise names a label that is not among `labels`.
        """

    def columns(self, labels: Sequence[str]) -> list[int]:
        """Return the columns of the labels to disturb.

        Raises:
            DataError: one of them is not among `labels`.
        """
        missing = next((label for label in self.labels if label not in labels), None)
        if missing is not None:
            raise DataError(f"noise on unknown label {missing!r}{did_you_mean(missing, labels)}")
        return [list(labels).index(label) for label in self.labels or labels]


def generator(purpose: str, label: str, seed: int) -> np.random.Generator:
    """Return the random generator for one purpose and one label."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(f"noise/{purpose}/{label}".encode())))


class EntryNoise(Noise):
    """Noise on each named label separately: it selects some of the known entries and replaces them."""

    def draw(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Select and replace entries label by label; see the base class."""
        selected, noisy = np.zeros(targets.shape, dtype=bool), targets.copy()
        for column in self.columns(labels):
            known = np.flatnonzero(targets[:, column] != UNKNOWN)
            order = generator("select", labels[column], seed).permutation(known)
            rows = self._select(order, targets[order, column], labels[column])
            selected[rows, column] = True
            noisy[rows, column] = self._replace(targets[rows, column], labels[column], seed)
        return selected, noisy

    def _select(self, order: np.ndarray, values: np.ndarray, label: str) -> np.ndarray:
        """Return the selected rows, given the known rows in random order and their values."""
        return order[: round(self.rate * len(order))]

    def _replace(self, values: np.ndarray, label: str, seed: int) -> np.ndarray:
        """Return the replacement of `values`, both (selected,) int8; here the opposite of each."""
        return 1 - values


class RandomNoise(EntryNoise):
    """Random labels: each selected entry becomes a fair coin, as in Wu, Zhang and Ré (ICLR 2020, section 3.3).

    About half of the selected entries change.
    """

    kind: Literal["random"] = Field("random", description="each selected entry becomes a fair coin")

    def _replace(self, values: np.ndarray, label: str, seed: int) -> np.ndarray:
        return generator(self.kind, label, seed).integers(0, 2, size=len(values), dtype=np.int8)


class ShuffledNoise(EntryNoise):
    """Shuffled labels: the selected entries of a label are permuted, so that its prevalence stays exactly the same."""

    kind: Literal["shuffled"] = Field("shuffled", description="selected entries are permuted; prevalence stays")

    def _replace(self, values: np.ndarray, label: str, seed: int) -> np.ndarray:
        return generator(self.kind, label, seed).permutation(values)


class FlippedNoise(EntryNoise):
    """Flipped labels (symmetric noise): each selected entry becomes its opposite."""

    kind: Literal["flipped"] = Field("flipped", description="each selected entry becomes its opposite")


class MissingNoise(EntryNoise):
    """Missing labels: each selected entry becomes unknown."""

    kind: Literal["missing"] = Field("missing", description="each selected entry becomes unknown")

    def _replace(self, values: np.ndarray, label: str, seed: int) -> np.ndarray:
        return np.full_like(values, UNKNOWN)


_Rate = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]  # checked when the labels are known
Rates = _Rate | Annotated[dict[str, _Rate], Field(max_length=10_000)] | None


class ClassConditionalNoise(EntryNoise):
    """Class-conditional noise: different rates of false negatives and of false positives.

    Natarajan, Dhillon, Ravikumar and Tewari (Learning with noisy labels, NeurIPS 2013): rho(+1) is the rate of
    false negatives, rho(-1) that of false positives. Both are exact shares, of a label's present and absent entries.
    """

    kind: Literal["class_conditional"] = Field(
        "class_conditional", description="false negatives at one rate, false positives at another"
    )
    rate: Share = Field(0.0, description="share of both classes to flip, where the next two settings give no rate")
    false_negatives: Rates = Field(
        None, description="share of the present entries recorded as absent; one number, or one per named label"
    )
    false_positives: Rates = Field(
        None, description="share of the absent entries recorded as present; one number, or one per named label"
    )

    @model_validator(mode="after")
    def _rates_are_shares_of_named_labels(self) -> "ClassConditionalNoise":
        for rates in (self.false_negatives, self.false_positives):
            of_label = rates if isinstance(rates, dict) else {}
            for share in of_label.values() if of_label else [rates]:
                if isinstance(share, float):
                    check_share(share)
            if unknown := sorted(set(of_label) - set(self.labels)):
                raise ValueError(f"a rate is given for {', '.join(unknown)}; name it among the noise's labels too")
        return self

    @property
    def level(self) -> float:
        """The largest rate of any label."""
        return max(rate for label in self.labels or ("",) for rate in self.rates(label))

    @property
    def title(self) -> str:
        """The noise without its labels: 'labels with 20 % false negatives and 0 % false positives'."""
        return f"labels with {self._rate_text.replace(',', ' and', 1)}"

    def rates(self, label: str) -> tuple[float, float]:
        """Return a label's rates of false negatives and of false positives."""
        false_negatives, false_positives = (
            (rates.get(label, self.rate) if isinstance(rates, dict) else self.rate if rates is None else rates)
            for rates in (self.false_negatives, self.false_positives)
        )
        return false_negatives, false_positives

    @property
    def _rate_text(self) -> str:
        false_negatives, false_positives = zip(*(self.rates(label) for label in self.labels or ("",)), strict=True)
        return f"{_percent(false_negatives)} false negatives, {_percent(false_positives)} false positives"

    def _select(self, order: np.ndarray, values: np.ndarray, label: str) -> np.ndarray:
        false_negatives, false_positives = self.rates(label)
        present, absent = order[values == 1], order[values == 0]
        return np.concatenate(
            [present[: round(false_negatives * len(present))], absent[: round(false_positives * len(absent))]]
        )


def _percent(rates: Sequence[float]) -> str:
    """Format the rates: '20 %', or '30/10 %' if labels differ."""
    shown = rates if len(set(rates)) > 1 else rates[:1]
    return f"{'/'.join(f'{100 * rate:g}' for rate in shown)} %"
