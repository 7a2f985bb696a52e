"""Oracle weights from the true noise in each label: a reference for how much weighting can gain at most.

If the present entries of a label are recorded as absent with probability rho_plus, and the absent ones as present with
probability rho_minus, the noisy label has the signal of the clean one, multiplied by 1 - rho_plus - rho_minus. To
correct for this multiplies the standard error of what is learnt from the label by the inverse (Natarajan, Dhillon,
Ravikumar, Tewari: Learning with Noisy Labels, NeurIPS 2013, lemma 1 and theorem 3). Tasks are weighted by their inverse
variance:

    alpha_i in proportion to max(0, 1 - rho_plus_i - rho_minus_i)^2

If a share p of the entries is replaced by random ones (from a fair coin or from the label's own prevalence), the factor
1 - rho_plus - rho_minus is 1 - p; if entries are flipped with probability p, it is 1 - 2p. The oracle knows more than
any other rule, but this does not prove that no other weights are better.

Shapes: n rows, k tasks.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.weighting.base import FixedWeights, RuleSettings


class OracleSettings(RuleSettings):
    """Oracle weights, from the true noise in each label: the reference for what weighting can gain."""

    kind: Literal["oracle"] = Field("oracle", description="weights from the true noise that was added to the labels")


def realised_noise(clean: Tensor, noisy: Tensor) -> Tensor:
    """Compute the noise rates that the labels really have, rho_plus and rho_minus.

    Args:
        clean: (n, k), 1 present, 0 absent, -1 unknown.
        noisy: (n, k), the same labels with noise.

    Returns:
        (k, 2) float64: the share of 1s that became 0, and the share of 0s that became 1, among the entries known in
        both; 0 for a class without entries.
    """
    known = (clean >= 0) & (noisy >= 0)
    classes = [known & (clean == value) for value in (1, 0)]
    return torch.stack([(each & (noisy != clean)).sum(0).double() / each.sum(0).clamp(min=1) for each in classes], 1)


def noise_weights(noise: Tensor) -> Tensor:
    """Compute weights from the noise in each label.

    Args:
        noise: (k,), the share p of random entries, or rho_plus + rho_minus for any other noise.

    Returns:
        (k,) float64 with sum k; all 1 if no label has signal.
    """
    signal = (1 - noise.double()).clamp(min=0) ** 2
    total = signal.sum()
    return signal * (len(signal) / total) if total > 0 else torch.ones_like(signal)


class Oracle(FixedWeights):
    """Objective: the mean of alpha_i L_i, with alpha from the true noise.

    Args:
        settings: of the oracle.
        tasks: k.
        label_noise: (k, 2) from `realised_noise`.

    Raises:
        SettingError: the noise is missing or has another shape.
    """

    def __init__(self, settings: OracleSettings, tasks: int, label_noise: Tensor | None) -> None:
        super().__init__(settings, tasks)
        if label_noise is None:
            raise SettingError(
                "oracle needs the true noise that was added to the labels, which is not known here: "
                "choose another method"
            )
        if label_noise.shape != (tasks, 2):
            raise SettingError(f"the label noise must have shape ({tasks}, 2); got {tuple(label_noise.shape)}")
        self._set_weights(noise_weights(label_noise.sum(1)))
