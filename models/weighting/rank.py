"""Rules that choose the weighting rank r of Algorithm 2: from the spectrum of Theta, or on the validation set.

The paper uses r = 1 for a pair of tasks and gives no rule for more tasks.

    spectrum    Parallel analysis (Horn: A rationale and test for the number of factors in factor analysis,
                Psychometrika 30, 1965): r is the number of leading singular values of Theta that are above the 95 %
                quantile for labels without signal. Needs no validation labels.
    validation  For every r, linear discriminants in the directions U_r predict the labels of the validation images. r
                is the smallest rank whose AUC is within one standard error of the best (the one-standard-error rule of
                Breiman et al.: Classification and Regression Trees, 1984, section 3.4.3). Trains no network.

Labels without signal are labels whose rows are permuted. In the limit of many rows their Theta (scaling `unit`) is
matrix normal, with covariance S among its rows and R among its columns, divided by n, where S is the covariance of the
features and R the correlation of the labels. It is drawn from this distribution, so that the features need not be kept.

Shapes: b rows of a batch, n rows of the training set, d features, k tasks, r rank.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.evaluation.auc import auc_per_label
from models.weighting.svd import RunningSums

RankRule = Literal["validation", "spectrum"]

_DRAWS, _QUANTILE = 200, 0.95
_RIDGE = 1e-3  # share of the mean variance, added to the features' variances because features may be collinear


class Moments(RunningSums):
    """Running sums over batches of rows, from which the features' covariance and the labels' correlation follow."""

    purpose = "choosing a rank"

    def _sum_batch(self, x: Tensor, y: Tensor, known: Tensor) -> tuple[Tensor, ...]:
        m = known.double()
        rows = torch.tensor(float(len(x)), dtype=torch.float64, device=x.device)
        return rows, x.sum(0), x.T @ x, m.sum(0), y.sum(0), m.T @ m, y.T @ m, y.T @ y

    def feature_covariance(self) -> Tensor:
        """Return S, the covariance of the features, (d, d) float64."""
        rows, x, xx, *_ = self._require_sums()
        return xx / rows - torch.outer(x, x) / rows**2

    def label_correlation(self) -> Tensor:
        """Return R, the correlation of the labels, (k, k) float64.

        Each entry is over the rows where both labels are known. The diagonal is 1; a constant label has correlation 0
        with the others.
        """
        *_, _, _, both, sum_y, sum_yy = self._require_sums()
        n = both.clamp(min=1)
        covariance = sum_yy / n - (sum_y / n) * (sum_y.T / n)
        deviation = covariance.diagonal().clamp(min=0).sqrt()
        scale = torch.where(deviation > 0, 1 / deviation, 0.0)
        correlation = covariance * scale * scale[:, None]
        return correlation - torch.diag(correlation.diagonal()) + torch.eye(len(n), dtype=n.dtype, device=n.device)

    def known(self) -> Tensor:
        """Return the number of known rows of each label, (k,)."""
        return self._require_sums()[3]


def rank_from_spectrum(theta: Tensor, moments: Moments) -> int:
    """Choose r in 1..k by parallel analysis from Theta (d, k), scaling `unit`, and the moments of the same rows."""
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(b"parallel analysis")))
    d, k = theta.shape
    rows = _matrix_root(moments.feature_covariance())
    columns = _matrix_root(moments.label_correlation()) / moments.known().clamp(min=1).sqrt()
    gaussians = torch.as_tensor(rng.standard_normal((_DRAWS, d, k)), device=theta.device)
    null_quantile = torch.linalg.svdvals(rows @ gaussians @ columns).quantile(_QUANTILE, dim=0)
    significant = torch.linalg.svdvals(theta) > null_quantile
    return max(1, int(significant.long().cumprod(0).sum()))


def rank_on_validation(theta: Tensor, moments: Moments, validation: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Choose r by validation AUC.

    For every r, label i is predicted by the linear discriminant (U_r^T S U_r)^-1 U_r^T theta_i on the features U_r^T x.
    The standard error is that of the mean difference in AUC to the best r, over the labels.

    Args:
        theta: (d, k), any scaling, from the same rows as `moments`.
        moments: of the training rows.
        validation: batches of features (b, d) and targets (b, k) int8.

    Returns:
        r in 1..k; 1 if no label has an AUC.
    """
    U, _, _ = torch.linalg.svd(theta, full_matrices=False)
    S = moments.feature_covariance()
    S = S + torch.eye(len(S), dtype=S.dtype, device=S.device) * (_RIDGE * S.diagonal().mean())
    projected, targets = zip(*((features.double() @ U, labels) for features, labels in validation), strict=True)
    Z, y = torch.cat(projected), torch.cat(targets).cpu().numpy()
    auc_by_rank = []
    for r in range(1, U.shape[1] + 1):
        discriminants = torch.linalg.solve(U[:, :r].T @ S @ U[:, :r], U[:, :r].T @ theta)
        auc_by_rank.append(auc_per_label(y, (Z[:, :r] @ discriminants).cpu().numpy()))
    auc = np.array(auc_by_rank)[:, ~np.isnan(auc_by_rank[0])]
    if auc.shape[1] == 0:
        return 1
    shortfall = auc[auc.mean(1).argmax()] - auc
    error = shortfall.std(1, ddof=1) / np.sqrt(auc.shape[1]) if auc.shape[1] > 1 else np.zeros(len(auc))
    return 1 + int(np.argmax(shortfall.mean(1) <= error))


def _matrix_root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
