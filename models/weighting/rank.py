"""Choosing the weighting rank r of Algorithm 2: from the spectrum of Theta, or on the validation set.

The paper uses r = 1 for a pair of tasks and gives no rule for more.

    spectrum    Parallel analysis (Horn: A rationale and test for the number of factors in factor analysis,
                Psychometrika 30, 1965): r is the number of leading singular values of Theta above what labels
                without any signal give in 95 % of draws. Needs no validation labels.
    validation  The smallest r whose directions U_r carry linear discriminants that rank the validation images as
                well as those of the best r, less one standard error (the rule of Breiman et al.: Classification and
                Regression Trees, 1984, section 3.4.3). Trains nothing.

Labels without signal are those of permuted rows. Their Theta (scaling `unit`) is in the limit of many rows Gaussian
with covariance S over its rows and R over its columns, divided by n, with S the covariance of the features and R the
correlation of the labels; it is drawn from that, so that the features need not be held.

Shapes: b rows of a batch, n rows in all, d features, k tasks, r rank.
"""

from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from models.errors import SettingError
from models.evaluation.auc import auc_per_label

RankRule = Literal["validation", "spectrum"]

_DRAWS, _QUANTILE = 200, 0.95
_RIDGE = 1e-3  # of the mean variance, added to the within-class covariance: features may be collinear


class Moments:
    """Sums over the rows seen so far from which the covariance of the features and the correlation of the labels
    follow, in float64, relative to the first row."""

    def __init__(self) -> None:
        self._sums: tuple[Tensor, ...] | None = None
        self._x0 = torch.empty(0)

    def add(self, features: Tensor, targets: Tensor, known: Tensor) -> Self:
        """Takes in a batch: (b, d) features, (b, k) targets of which those not known are not read, (b, k) bool."""
        x, m = features.double(), known.double()
        y = torch.where(known, targets.double(), 0.0)
        if self._sums is None:
            self._x0 = x[0].clone()
        x = x - self._x0
        rows = torch.tensor(float(len(x)), dtype=torch.float64, device=x.device)
        batch = (rows, x.sum(0), x.T @ x, m.sum(0), y.sum(0), m.T @ m, y.T @ m, y.T @ y)
        self._sums = batch if self._sums is None else tuple(a + b for a, b in zip(self._sums, batch, strict=True))
        return self

    def feature_covariance(self) -> Tensor:
        """S, (d, d)."""
        rows, x, xx, *_ = self._seen()
        return xx / rows - torch.outer(x, x) / rows**2

    def label_correlation(self) -> Tensor:
        """R, (k, k), each entry over the rows where both labels are known; 0 beside the diagonal for a constant."""
        *_, _, _, both, sum_y, sum_yy = self._seen()
        n = both.clamp(min=1)
        covariance = sum_yy / n - (sum_y / n) * (sum_y.T / n)
        size = covariance.diagonal().clamp(min=0).sqrt()
        scale = torch.where(size > 0, 1 / size, 0.0)
        correlation = covariance * scale * scale[:, None]
        return correlation - torch.diag(correlation.diagonal()) + torch.eye(len(n), dtype=n.dtype, device=n.device)

    def known(self) -> Tensor:
        """Number of known rows of each label, (k,)."""
        return self._seen()[3]

    def _seen(self) -> tuple[Tensor, ...]:
        if self._sums is None:
            raise SettingError("a rank can be chosen from at least one training image; got none")
        return self._sums


def rank_from_spectrum(theta: Tensor, moments: Moments) -> int:
    """r by parallel analysis, from 1 to k.

    Args:
        theta: (d, k), scaling `unit`, of the rows that moments has seen.
    """
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"parallel analysis")))
    d, k = theta.shape
    rows = _root(moments.feature_covariance())
    columns = _root(moments.label_correlation()) / moments.known().clamp(min=1).sqrt()
    draws = torch.as_tensor(rng.standard_normal((_DRAWS, d, k)), device=theta.device)
    by_chance = torch.linalg.svdvals(rows @ draws @ columns).quantile(_QUANTILE, dim=0)
    above = torch.linalg.svdvals(theta) > by_chance
    return max(1, int(above.long().cumprod(0).sum()))


def rank_on_validation(theta: Tensor, moments: Moments, validation: Iterable[tuple[Tensor, Tensor]]) -> int:
    """r by validation AUC, from 1 to k; 1 where no label can be scored.

    For every r the label i is predicted by the linear discriminant (U_r^T S U_r)^-1 U_r^T theta_i on the features
    U_r^T x; the standard error is that of the labels' mean difference to the best r.

    Args:
        theta: (d, k), any scaling, of the rows that moments has seen.
        validation: batches of features (b, d) and targets (b, k) int8.
    """
    U, _, _ = torch.linalg.svd(theta, full_matrices=False)
    S = moments.feature_covariance()
    S = S + torch.eye(len(S), dtype=S.dtype, device=S.device) * (_RIDGE * S.diagonal().mean())
    projected, targets = [], []
    for features, labels in validation:
        projected.append(features.double() @ U)
        targets.append(labels)
    Z, y = torch.cat(projected), torch.cat(targets).cpu().numpy()
    of_rank = []
    for r in range(1, U.shape[1] + 1):
        discriminants = torch.linalg.solve(U[:, :r].T @ S @ U[:, :r], U[:, :r].T @ theta)
        of_rank.append(auc_per_label(y, (Z[:, :r] @ discriminants).cpu().numpy()))
    auc = np.array(of_rank)[:, ~np.isnan(of_rank[0])]
    if auc.shape[1] == 0:
        return 1
    loss = auc[auc.mean(1).argmax()] - auc
    error = loss.std(1, ddof=1) / np.sqrt(auc.shape[1]) if auc.shape[1] > 1 else np.zeros(len(auc))
    return 1 + int(np.argmax(loss.mean(1) <= error))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
