"""Protocols of a study: the labels that each network trains on, and the noise on them.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

* ``all``: networks with all k labels, under each noise model of a list.
* ``pairs``: networks with two labels each, with noise on one of the two. Wu, Zhang and Ré (ICLR 2020, section 3.3)
  use 20 random pairs, and replace the labels of 20 % of the data of one of the two by random labels.
* ``curve``: as ``all``, with one noise model at several rates. The entries selected at a higher rate include those
  selected at a lower rate.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from data_prep.errors import DataError
from data_prep.noise.entries import RandomNoise, Share
from data_prep.noise.registry import AddedNoise, NoiseSettings, NoNoise
from data_prep.noise.rows import ConfusionNoise
from data_prep.settings import Settings, named_once

SEEDS_APART = 1000
"""Distance between the first seeds of two pairs: no two pairs share a seed, so that their results are independent."""


@dataclass(frozen=True)
class Condition:
    """A condition of a study: arms of one condition differ only in their seeds and methods.

    Attributes:
        name: for display, unique.
        labels: labels to train on, in the order of the data.
        noise: with its labels named.
        first_seed: of the arms' consecutive seeds.
    """

    name: str
    labels: tuple[str, ...]
    noise: NoiseSettings
    first_seed: int


@dataclass(frozen=True)
class Plan:
    """The conditions of a study.

    Attributes:
        conditions: the conditions.
        population_size: size of the population from which the conditions are a random sample, so that methods are
            compared over all conditions at once; None: methods are compared in each condition separately.
    """

    conditions: tuple[Condition, ...]
    population_size: int | None = None


class _OnSomeLabels(Settings):
    noisy_labels: int = Field(
        3,
        ge=1,
        le=10_000,
        description="number of labels disturbed by noise that names none: those with the most positives",
    )

    def name_labels(self, noise: NoiseSettings, targets: np.ndarray, labels: Sequence[str]) -> NoiseSettings:
        """Return the noise with its labels named; confusion gets an even number of labels."""
        if isinstance(noise, NoNoise) or noise.labels:
            return noise
        count = self.noisy_labels
        if isinstance(noise, ConfusionNoise):
            count = max(2, count - count % 2)
        frequent = np.argsort(-(targets == 1).sum(axis=0), kind="stable")[:count]
        named = tuple(labels[i] for i in sorted(frequent))
        return type(noise).model_validate(noise.model_dump() | {"labels": named})


class AllProtocol(_OnSomeLabels):
    """Protocol ``all``: all labels in one network, under each noise model."""

    kind: Literal["all"] = Field("all", description="all labels in one network, under each noise model")
    noise: tuple[NoiseSettings, ...] = Field(
        (NoNoise(), RandomNoise(rate=0.2)),
        min_length=1,
        max_length=100,
        description="noise models on the training labels",
    )

    @field_validator("noise")
    @classmethod
    def _noise_is_named_once(cls, noise: tuple[NoiseSettings, ...]) -> tuple[NoiseSettings, ...]:
        return named_once(noise)

    @property
    def name(self) -> str:
        """A short name for runs."""
        return " / ".join(noise.name for noise in self.noise)

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """Return the conditions, see `plan` of this module."""
        named = [self.name_labels(noise, targets, labels) for noise in self.noise]
        return Plan(tuple(Condition(noise.name, tuple(labels), noise, seed) for noise in named))


class CurveProtocol(_OnSomeLabels):
    """Protocol ``curve``: all labels in one network, under one noise model at several rates."""

    kind: Literal["curve"] = Field(
        "curve", description="all labels in one network, under one noise model at several rates"
    )
    levels: tuple[Share, ...] = Field(
        (0.0, 0.1, 0.2, 0.4, 0.6),
        min_length=2,
        max_length=100,
        description="rates of the noise, each in [0, 1]; 0: no noise",
    )
    noise: AddedNoise = Field(
        RandomNoise(rate=1), description="noise model on the training labels; the levels replace its rate"
    )

    @field_validator("noise", mode="before")
    @classmethod
    def _noise_needs_no_rate(cls, noise: Any) -> Any:
        return {"rate": 1} | noise if isinstance(noise, dict) else noise

    @model_validator(mode="after")
    def _levels_differ(self) -> "CurveProtocol":
        names = [noise.name for noise in self._noises()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two levels give the same noise, {sorted(twice)[0]!r}: give each level once, and no rate that "
                "overrides the levels"
            )
        return self

    @property
    def name(self) -> str:
        """A short name for runs."""
        return f"{self.noise.kind} at {', '.join(f'{100 * level:g}' for level in self.levels)} %"

    def _noises(self) -> list[NoiseSettings]:
        return [self.noise.model_copy(update={"rate": level}) if level else NoNoise() for level in self.levels]

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """Return the conditions, see `plan` of this module."""
        named = [self.name_labels(noise, targets, labels) for noise in self._noises()]
        return Plan(tuple(Condition(noise.name, tuple(labels), noise, seed) for noise in named))


class PairsProtocol(Settings):
    """Protocol ``pairs``: random pairs of labels, a network for each pair, noise on one of the two labels."""

    kind: Literal["pairs"] = Field("pairs", description="random pairs of labels, with noise on one of the two")
    pairs: int = Field(
        20, ge=1, le=10_000, description="number of different pairs; a smaller number takes the first of a larger one"
    )
    noise: AddedNoise = Field(RandomNoise(rate=0.2), description="noise model on the training labels of one of the two")
    min_positives: int = Field(
        25,
        ge=1,
        le=1_000_000_000,
        description="minimum number of positive training images of a label that is drawn into a pair",
    )

    @field_validator("noise")
    @classmethod
    def _noise_names_no_label(cls, noise: AddedNoise) -> AddedNoise:
        if noise.labels:
            raise ValueError(f"the labels of the pairs are drawn; remove {', '.join(noise.labels)} from the noise")
        return noise

    @property
    def name(self) -> str:
        """A short name for runs."""
        return f"{self.pairs} pairs · {self.noise.name}"

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """Return the conditions, see `plan` of this module.

        Raises:
            DataError: there are fewer pairs of labels with enough positives.
        """
        enough = [label for label, n in zip(labels, (targets == 1).sum(axis=0), strict=True) if n >= self.min_positives]
        every = list(combinations(enough, 2))
        if len(every) < self.pairs:
            raise DataError(
                f"{self.pairs} pairs asked for, and only {len(every)} can be made of the {len(enough)} labels with at "
                f"least {self.min_positives} positive training images: ask for fewer pairs, or fewer positives"
            )
        order = _generator("pairs", seed).permutation(len(every))[: self.pairs]
        drawn = [self._condition(every[which], seed, number) for number, which in enumerate(order)]
        return Plan(tuple(drawn), population_size=len(every))

    def _condition(self, pair: tuple[str, str], seed: int, number: int) -> Condition:
        one = pair[_generator(f"which of {'/'.join(pair)}", seed).integers(2)]
        noisy = pair if isinstance(self.noise, ConfusionNoise) else (one,)
        noise = self.noise.model_copy(update={"labels": noisy})
        return Condition(f"{' and '.join(pair)}: {noise.name}", pair, noise, seed + SEEDS_APART * number)


ProtocolSettings = Annotated[AllProtocol | PairsProtocol | CurveProtocol, Field(discriminator="kind")]


def plan(protocol: ProtocolSettings, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
    """Return the conditions of a study.

    Args:
        protocol: of the study.
        targets: (m, k) int8, of the training rows only.
        labels: names of the k labels.
        seed: the first seed of the study.

    Raises:
        DataError: there are not enough labels for the protocol, or two conditions would have one name.
    """
    found = protocol.plan(targets, labels, seed)
    name, times = Counter(condition.name for condition in found.conditions).most_common(1)[0]
    if times > 1:
        raise DataError(f"{times} conditions of the study would be called {name!r}; rename a label")
    return found


def _generator(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(f"protocol/{purpose}".encode())))
