"""Weights that know the noise: what could be won by weighting at best, were the noise in each label known.

A label whose present entries are recorded as absent with probability rho_plus, and the absent ones as present with
probability rho_minus, carries the signal of the clean label shrunk by 1 - rho_plus - rho_minus; undoing that
multiplies the standard error of what is learnt from it by the inverse (Natarajan, Dhillon, Ravikumar, Tewari:
Learning with Noisy Labels, NeurIPS 2013, lemma 1 and theorem 3). The tasks are weighted by their inverse variance:

    alpha_i in proportion to max(0, 1 - rho_plus_i - rho_minus_i)^2

For random labels on a share p of the entries the bracket is 1 - p, drawn by a coin or by the label's own prevalence;
for entries flipped with probability p it is 1 - 2p. It is a bound on what is known, not a proof that no other
weights do better.

Shapes: n rows, k tasks.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.weighting.base import FixedWeights, RuleSettings


class OracleSettings(RuleSettings):
    """Weights that know the noise in each label: the upper bound."""

    kind: Literal["oracle"] = Field("oracle", description="weights from the noise that was put in")


def realised_noise(clean: Tensor, noisy: Tensor) -> Tensor:
    """What happened to the labels: (k, 2) float64, the share of 1s that became 0 and the share of 0s that became 1.

    Args:
        clean, noisy: (n, k), 1 present, 0 absent, -1 unknown in both. A class without an entry has share 0.
    """
    known = (clean >= 0) & (noisy >= 0)
    shares = []
    for value in (1, 0):
        of_class = known & (clean == value)
        shares.append((of_class & (noisy != clean)).sum(0).double() / of_class.sum(0).clamp(min=1))
    return torch.stack(shares, 1)


def noise_weights(noise: Tensor) -> Tensor:
    """Shares of random labels, (k,) -> (k,) float64 weights with sum k; all 1 where no label has signal.

    Args:
        noise: p, or rho_plus + rho_minus, which takes its place for any other noise.
    """
    signal = (1 - noise.double()).clamp(min=0) ** 2
    total = signal.sum()
    return signal * (len(signal) / total) if total > 0 else torch.ones_like(signal)


class Oracle(FixedWeights):
    """Objective: the mean of alpha_i L_i, with alpha from the known noise."""

    def __init__(self, settings: OracleSettings, tasks: int, label_noise: Tensor | None) -> None:
        super().__init__(settings, tasks)
        if label_noise is None:
            raise SettingError("oracle weighs by the noise that was put in, and is not told it here: choose another")
        if label_noise.shape != (tasks, 2):
            raise SettingError(f"the known noise must be given as ({tasks}, 2) shares; got {tuple(label_noise.shape)}")
        self._set(noise_weights(label_noise.sum(1)))
