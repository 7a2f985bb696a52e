"""Oracle weights from the true noise in each label: a reference for what weighting can gain.

If the present entries of a label are recorded as absent with probability rho_plus, and the absent ones as present with
probability rho_minus, the noisy label has the signal of the clean one, multiplied by 1 - rho_plus - rho_minus. To
correct for this multiplies the standard error of what is learnt from the label by the inverse (Natarajan, Dhillon,
Ravikumar, Tewari: Learning with Noisy Labels, NeurIPS 2013, lemma 1 and theorem 3). The noise also changes the variance
of the label itself, from pi (1 - pi) to q (1 - q), where pi and q are its prevalences before and after: fair coins make
a rare label frequent, and its entries much more variable. The information about the label's signal in one image,
relative to the clean label, is the squared signal over the variance:

    information   (1 - rho_plus - rho_minus)^2  pi (1 - pi) / (q (1 - q))
    signal        (1 - rho_plus - rho_minus)^2

Tasks are weighted by one of the two, `information` by default: the weights are inverse variances. For a label with pi =
2 % and 20 % coins, information is 0.12 and signal 0.64. If a share p of the entries is replaced by random ones, 1 -
rho_plus - rho_minus is 1 - p; if entries are flipped with probability p, it is 1 - 2p. The oracle knows more than any
other rule, but this does not prove that no other weights are better.

Shapes: n rows, k tasks.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.weighting.base import FixedWeights, RuleSettings

Formula = Literal["information", "signal"]


class OracleSettings(RuleSettings):
    """Oracle weights, from the true noise in each label: the reference for what weighting can gain."""

    kind: Literal["oracle"] = Field("oracle", description="weights from the true noise that was added to the labels")
    formula: Formula = Field(
        "information",
        description="weight of a label: information (per image, relative to the clean label), or signal (without the "
        "change of the label's variance; the formula of earlier versions)",
    )


class LabelNoise(NamedTuple):
    """The noise in each label.

    Attributes:
        signal: (k,) float64 in [0, 1], 1 - rho_plus - rho_minus: what noise leaves of the label's signal.
        before: (k,) float64 in [0, 1], prevalence of the clean label, pi.
        after: (k,) float64 in [0, 1], prevalence of the noisy label, q.
    """

    signal: Tensor
    before: Tensor
    after: Tensor


def realised_noise(clean: Tensor, noisy: Tensor) -> LabelNoise:
    """Compute the noise that the labels really have, from the entries that are known in both.

    Args:
        clean: (n, k), 1 present, 0 absent, -1 unknown.
        noisy: (n, k), the same labels with noise.
    """
    known = (clean >= 0) & (noisy >= 0)
    classes = [known & (clean == value) for value in (1, 0)]
    # rho_plus and rho_minus; 0 for a class without entries
    changed = [(each & (noisy != clean)).sum(0).double() / each.sum(0).clamp(min=1) for each in classes]
    entries = known.sum(0).double().clamp(min=1)
    before, after = ((known & (labels == 1)).sum(0) / entries for labels in (clean, noisy))
    return LabelNoise((1 - changed[0] - changed[1]).clamp(min=0), before, after)


def random_share_noise(share: Tensor, after: Tensor, ones: Tensor | None = None) -> LabelNoise:
    """Describe labels of which a share was replaced by random entries.

    Args:
        share: (k,) in [0, 1], p.
        after: (k,) prevalences of the noisy labels, q.
        ones: (k,) share of 1s among the random entries; None: the labels' own prevalence, which stays the same.
    """
    signal = (1 - share.double()).clamp(min=0)
    if ones is None:
        return LabelNoise(signal, after.double(), after.double())
    before = (after.double() - share.double() * ones) / signal.clamp(min=torch.finfo(torch.float64).tiny)
    return LabelNoise(signal, before.clamp(0, 1), after.double())


def noise_weights(noise: LabelNoise, formula: Formula = "information") -> Tensor:
    """Compute weights from the noise in each label; see the module.

    A label that is constant after the noise has weight 0.

    Returns:
        (k,) float64 with sum k; all 1 if no label has signal.
    """
    weights = noise.signal.double() ** 2
    if formula == "information":
        before, after = (prevalence.double() * (1 - prevalence.double()) for prevalence in noise[1:])
        weights = weights * torch.where(after > 0, before / after.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    total = weights.sum()
    return weights * (len(weights) / total) if total > 0 else torch.ones_like(weights)


class Oracle(FixedWeights):
    """Objective: the mean of alpha_i L_i, with alpha from the true noise.

    Args:
        settings: of the oracle.
        tasks: k.
        label_noise: from `realised_noise`.

    Raises:
        SettingError: the noise is missing or has another shape.
    """

    def __init__(self, settings: OracleSettings, tasks: int, label_noise: LabelNoise | None) -> None:
        super().__init__(settings, tasks)
        if label_noise is None:
            raise SettingError(
                "oracle needs the true noise that was added to the labels, which is not known here: "
                "choose another method"
            )
        if label_noise.signal.shape != (tasks,):
            raise SettingError(f"the label noise must be that of {tasks} labels; got {tuple(label_noise.signal.shape)}")
        self._set_weights(noise_weights(label_noise, settings.formula))
