"""Algorithm 2, SVD-based task reweighting, in one streaming pass.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020,
arXiv:2005.00944), section 3.3, Algorithm 2:

    1.  theta_i = X^T y_i, stacked as the columns of Theta (d x k)
    2.  U_r = the top r left singular vectors of Theta
    3.  alpha_i = || theta_i^T U_r ||

X holds the shared network's features of the training set. A task whose theta_i points where the other tasks'
point gets weight; random labels shrink theta_i and turn it away. The weights are then scaled to sum to k, so
that learning rates mean the same as with uniform weights.

What the paper leaves open is the scaling of y. With unknown labels each task has its own rows, n_i of them, and
its own means; every scaling is an average over those rows, so that a label that is missing at random keeps its
theta_i, up to sampling noise. (Sums would not: theta_i would shrink with n_i, as if the label were noisy.)
Below, cov_i is the covariance of x and y_i and p_i the share of positives, over the known rows of task i.

    raw          mean of x y_i: the paper's letter, labels 0 and 1, nothing centred. Blind to everything but
                 prevalence where features are non-negative: theta_i is about p_i times the mean feature.
    unit         cov_i / sqrt(p_i (1 - p_i)): labels centred and of unit norm. Of two labels whose classes are equally
                 far apart the rarer gets less weight, in proportion to sqrt(p_i (1 - p_i)).
    effect       cov_i / (p_i (1 - p_i)), the difference of the class means: free of prevalence, but blind to its own
                 sampling error, which grows as 1 / sqrt(n_i p_i (1 - p_i)): a rare label without signal looks strong.
    permutation  effect, shortened by what permuted labels would give: ||theta_i||^2 less its expectation under a
                 random permutation of y_i, at least 0; the direction stays. A rare label with a weak signal is set to
                 zero, and what is left of theta_i's direction is as noisy as before.

Shapes: b rows of a batch, n rows in all, d features, k tasks, r rank.
"""

from typing import Literal, Self

import torch
from torch import Tensor

from models.errors import SettingError

Scaling = Literal["raw", "unit", "effect", "permutation"]

_ROUNDING = 1e-12  # a spread below this share of the values' own size is rounding, in float64


class Theta:
    """Sums over the rows seen so far from which Theta follows in every scaling, in float64.

    Float32 sums were off by 1e-3. Everything is summed relative to the first row, so that features with a mean far
    larger than their spread lose no digits. A batch costs one product of (d x b) and (b x 2k); X is never held.
    """

    def __init__(self) -> None:
        self._sums: tuple[Tensor, ...] | None = None
        self._x0 = self._y0 = torch.empty(0)

    def add(self, features: Tensor, targets: Tensor, known: Tensor) -> Self:
        """Takes in a batch.

        Args:
            features: (b, d), any float type, finite.
            targets: (b, k), any type; entries that are not known are not read.
            known: (b, k) bool.
        """
        x, m = features.double(), known.double()
        y = torch.where(known, targets.double(), 0.0)
        if self._sums is None:
            self._x0, self._y0 = x[0].clone(), y[0].clone()
        x, y = x - self._x0, torch.where(known, y - self._y0, 0.0)
        k = m.shape[1]
        products = x.T @ torch.cat([m, y], 1)
        batch = (m.sum(0), y.sum(0), (y * y).sum(0), products[:, :k], products[:, k:], (x * x).sum(1) @ m)
        self._sums = batch if self._sums is None else tuple(a + b for a, b in zip(self._sums, batch, strict=True))
        return self

    def matrix(self, scaling: Scaling) -> Tensor:
        """Theta as (d, k) float64. The column of a task without known rows, or with constant labels or features
        (but for `raw`), is zero.

        Raises:
            SettingError: nothing was added.
        """
        if self._sums is None:
            raise SettingError("Algorithm 2 needs at least one training image; got none")
        n, sum_y, sum_yy, sum_x, sum_xy, sum_xx = self._sums
        rows = n.clamp(min=1)
        mean_x, mean_y = sum_x / rows, sum_y / rows
        if scaling == "raw":
            whole = sum_xy + self._x0[:, None] * (sum_y + n * self._y0) + sum_x * self._y0
            return whole / rows
        covariance = sum_xy / rows - mean_x * mean_y
        variance = (sum_yy / rows - mean_y**2).clamp(min=0)
        spread = (sum_xx / rows - (mean_x**2).sum(0)).clamp(min=0)  # trace of the features' covariance
        signal = (variance > _ROUNDING * (self._y0**2 + sum_yy / rows)) & (
            spread > _ROUNDING**2 * ((self._x0**2).sum() + sum_xx / rows)
        )
        covariance = torch.where(signal, covariance, 0.0)
        variance = torch.where(signal, variance, 1.0)
        if scaling == "unit":
            return covariance / variance.sqrt()
        effect = covariance / variance
        if scaling == "effect":
            return effect
        # E || (1/n) sum_j x_j y_pi(j) ||^2 = var(y) tr(cov(x)) / (n - 1) over random permutations pi, x and y centred
        by_chance = spread / (variance * (n - 1).clamp(min=1))
        share = 1 - by_chance / (effect**2).sum(0).clamp(min=torch.finfo(torch.float64).tiny)
        return effect * share.clamp(min=0).sqrt()


def check_rank(rank: int, tasks: int) -> None:
    """Raises SettingError unless the weighting rank lies in 1..k."""
    if not 1 <= rank <= tasks:
        raise SettingError(f"the weighting rank must lie in 1..{tasks}, the number of labels; got {rank}")


def svd_weights(theta: Tensor, rank: int) -> Tensor:
    """Steps 2 and 3 of Algorithm 2, normalised.

    Args:
        theta: (d, k), finite.
        rank: r in 1..k; with r = k the weights are the lengths of the columns.

    Returns:
        (k,) float64, at least 0, with sum k; all 1 where theta is zero.

    Raises:
        SettingError: the rank is out of range.
    """
    k = theta.shape[1]
    check_rank(rank, k)
    size = theta.abs().max()
    if size == 0:
        return torch.ones(k, dtype=torch.float64, device=theta.device)
    _, S, Vh = torch.linalg.svd(theta.double() / size, full_matrices=False)
    alpha = torch.linalg.vector_norm(S[:rank, None] * Vh[:rank], dim=0)  # |theta_i^T U_r|, since U^T Theta = S V^T
    return alpha * (k / alpha.sum())
