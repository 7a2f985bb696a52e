"""Protocols: what a study trains on, and where it puts the noise.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

* ``all``: networks with all k labels; each noise in the list on some of them.
* ``pairs``: networks with two labels each; noise on one of the two. As in Wu, Zhang and Ré (ICLR 2020, section 3.3):
  20 random pairs, the labels of 20 % of the data of one of the two replaced by random labels.
* ``curve``: as ``all``, with one noise at several rates. A higher rate disturbs all that a lower one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from data_prep.errors import DataError
from data_prep.noise.entries import RandomNoise, check_share
from data_prep.noise.registry import AddedNoise, NoiseSettings, NoNoise
from data_prep.noise.rows import ConfusionNoise
from data_prep.settings import Settings

SEEDS_APART = 1000
"""Pairs train with seeds of their own: what a seed does to one pair must not tell what it does to another."""


@dataclass(frozen=True)
class Condition:
    """What all arms of a condition have in common, but for their seeds and methods.

    name: for people, no two alike. labels: trained on, in the order of the data. noise: its labels are named.
    first_seed: seeds count up from here.
    """

    name: str
    labels: tuple[str, ...]
    noise: NoiseSettings
    first_seed: int


@dataclass(frozen=True)
class Plan:
    """The conditions of a study, and what they say together.

    drawn_from: the conditions are a random sample of so many, and methods are compared over all of them at once;
    None: each condition is a question of its own.
    """

    conditions: tuple[Condition, ...]
    population_size: int | None = None


class _OnSomeLabels(Settings):
    noisy_labels: int = Field(
        3, ge=1, description="noise that names no label goes to so many labels, those with the most positives"
    )

    def name_labels(self, noise: NoiseSettings, targets: np.ndarray, labels: Sequence[str]) -> NoiseSettings:
        """Return the noise with its labels named; confusion gets an even number of them."""
        if isinstance(noise, NoNoise) or noise.labels:
            return noise
        count = self.noisy_labels
        if isinstance(noise, ConfusionNoise):
            count = max(2, count - count % 2)
        frequent = np.argsort(-(targets == 1).sum(axis=0), kind="stable")[:count]
        named = tuple(labels[i] for i in sorted(frequent))
        return type(noise).model_validate(noise.model_dump() | {"labels": named})


class AllProtocol(_OnSomeLabels):
    """All labels in one network, under each noise in turn."""

    kind: Literal["all"] = Field("all", description="all labels together, under each noise in turn")
    noise: tuple[NoiseSettings, ...] = Field(
        (NoNoise(), RandomNoise(rate=0.2)), min_length=1, description="what happens to the training labels"
    )

    @field_validator("noise")
    @classmethod
    def _noise_is_named_once(cls, noise: tuple[NoiseSettings, ...]) -> tuple[NoiseSettings, ...]:
        names = [condition.name for condition in noise]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} stands twice among {', '.join(names)}; name each once")
        return noise

    @property
    def name(self) -> str:
        """Return a short name for runs."""
        return " / ".join(noise.name for noise in self.noise)

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """See `plan`."""
        named = [self.name_labels(noise, targets, labels) for noise in self.noise]
        return Plan(tuple(Condition(noise.name, tuple(labels), noise, seed) for noise in named))


class CurveProtocol(_OnSomeLabels):
    """All labels in one network, under one noise at several rates."""

    kind: Literal["curve"] = Field("curve", description="all labels together, under one noise at several rates")
    levels: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.4, 0.6), min_length=2, description="rates of the noise, each in [0, 1]; 0: no noise"
    )
    noise: AddedNoise = Field(
        RandomNoise(rate=1), description="what happens to the training labels; the levels stand in for its rate"
    )

    @field_validator("noise", mode="before")
    @classmethod
    def _noise_needs_no_rate(cls, noise: Any) -> Any:
        return {"rate": 1} | noise if isinstance(noise, dict) else noise

    @model_validator(mode="after")
    def _levels_differ(self) -> "CurveProtocol":
        for level in self.levels:
            check_share(level)
        names = [noise.name for noise in self._steps()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two levels come to the same noise, {sorted(twice)[0]!r}: give each level once, and no "
                             "rate that stands against them")  # fmt: skip
        return self

    @property
    def name(self) -> str:
        """Return a short name for runs."""
        return f"{self.noise.kind} at {', '.join(f'{100 * level:g}' for level in self.levels)} %"

    def _steps(self) -> list[NoiseSettings]:
        return [self.noise.model_copy(update={"rate": level}) if level else NoNoise() for level in self.levels]

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """See `plan`."""
        named = [self.name_labels(noise, targets, labels) for noise in self._steps()]
        return Plan(tuple(Condition(noise.name, tuple(labels), noise, seed) for noise in named))


class PairsProtocol(Settings):
    """Random pairs of labels, a network for each pair, noise on one of the two."""

    kind: Literal["pairs"] = Field("pairs", description="random pairs of labels, with noise on one of the two")
    pairs: int = Field(20, ge=1, description="number of different pairs; fewer are the first of more")
    noise: AddedNoise = Field(
        RandomNoise(rate=0.2), description="what happens to the training labels of one of the two"
    )
    min_positives: int = Field(
        25, ge=1, description="training images that show a finding, for its label to be drawn into a pair"
    )

    @field_validator("noise")
    @classmethod
    def _noise_names_no_label(cls, noise: AddedNoise) -> AddedNoise:
        if noise.labels:
            raise ValueError(f"the labels of the pairs are drawn; take {', '.join(noise.labels)} out of the noise")
        return noise

    @property
    def name(self) -> str:
        """Return a short name for runs."""
        return f"{self.pairs} pairs · {self.noise.name}"

    def plan(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> Plan:
        """See `plan`.

        Raises:
            DataError: there are not so many pairs of labels with enough positives.
        """
        enough = [label for label, n in zip(labels, (targets == 1).sum(axis=0), strict=True) if n >= self.min_positives]
        every = list(combinations(enough, 2))
        if len(every) < self.pairs:
            raise DataError(
                f"{self.pairs} pairs asked for, and only {len(every)} can be made of the {len(enough)} labels with "
                f"{self.min_positives} positive training images or more: ask for fewer pairs, or fewer positives"
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

    targets: (m, k) int8 of the training rows only; labels: their k names; seed: the study's first.

    Raises:
        DataError: the labels do not suffice for the protocol.
    """
    return protocol.plan(targets, labels, seed)


def _generator(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(f"protocol/{purpose}".encode())))
