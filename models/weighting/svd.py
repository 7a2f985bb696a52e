"""Algorithm 2: SVD-based task reweighting, in one pass over the training set.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020,
arXiv:2005.00944), section 3.3, Algorithm 2. Input: the shared network's features X (n x d) of the training images, the
labels y_i (n) of k tasks, and a rank r.

    1.  Theta = [theta_1, ..., theta_k]  (d x k)   with theta_i = X^T y_i  (d)           `Theta`
    2.  U_r  (d x r)                               top r left singular vectors of Theta  `svd_weights`
    3.  alpha_i = || theta_i^T U_r ||              norm of an r-vector, for each task i  `svd_weights`

A task gets a large weight if its theta_i points in a direction that other tasks share; random labels make theta_i
shorter and turn it away. Finally the weights are scaled to sum k, so that a learning rate means the same as under
uniform weights. When the weights are computed, on which images and with which rank: `models.weighting.svd_rules`.

The paper does not say how the labels y are scaled; here are four choices. With unknown labels each task has its own
rows, n_i of them, and its own means. Every scaling is an average over these rows, so that theta_i stays the same, up to
sampling noise, if labels are missing at random. (A sum would shrink with n_i, as if the label were noisy.) Below, cov_i
is the covariance of x and y_i, and p_i is the share of positives, both over the known rows of task i.

    raw          the mean of x y_i, as printed in the paper: labels 0 and 1, nothing centred. If features are
                 non-negative it measures only prevalence: theta_i is about p_i times the mean feature vector.
    unit         cov_i / sqrt(p_i (1 - p_i)): labels centred and of unit norm. Of two labels whose classes are equally
                 far apart, the rarer gets less weight, in proportion to sqrt(p_i (1 - p_i)).
    effect       cov_i / (p_i (1 - p_i)), which is the difference of the class means. It does not depend on prevalence,
                 but its sampling error does, in proportion to 1 / sqrt(n_i p_i (1 - p_i)): a rare label without signal
                 looks strong.
    permutation  effect, shortened by what permuted labels would give: ||theta_i||^2 minus its expectation under a
                 random permutation of y_i, at least 0; the direction stays. A rare label with a weak signal becomes
                 zero, and the direction of what remains is as noisy as before.

Shapes: b rows of a batch, n rows of the training set, d features, k tasks, r rank.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from models.errors import SettingError

Scaling = Literal["raw", "unit", "effect", "permutation"]

_ROUNDING = 1e-12  # variation below this share of the values' own size is rounding error, in float64


class RunningSums(ABC):
    """Running sums over batches of rows, in float64; float32 sums had errors of 1e-3.

    They are relative to the first row, so that features whose mean is far larger than their spread lose no digits.
    """

    purpose: ClassVar[str]

    def __init__(self) -> None:
        self._sums: tuple[Tensor, ...] | None = None
        self._x0 = self._y0 = torch.empty(0)

    def add(self, features: Tensor, targets: Tensor, known: Tensor) -> Self:
        """Add a batch of rows, and return this object.

        Args:
            features: (b, d), any float type, finite.
            targets: (b, k), any type; unknown entries are ignored.
            known: (b, k) bool.
        """
        x, y = features.double(), torch.where(known, targets.double(), 0.0)
        if self._sums is None:
            self._x0, self._y0 = x[0].clone(), y[0].clone()
        batch = self._sum_batch(x - self._x0, y, known)
        self._sums = batch if self._sums is None else tuple(a + b for a, b in zip(self._sums, batch, strict=True))
        return self

    @abstractmethod
    def _sum_batch(self, x: Tensor, y: Tensor, known: Tensor) -> tuple[Tensor, ...]:
        """Return the sums of a batch: x (b, d) relative to the first row, y (b, k) with 0 where it is not known."""

    def _require_sums(self) -> tuple[Tensor, ...]:
        if self._sums is None:
            raise SettingError(f"{self.purpose} needs at least one training image; got none")
        return self._sums


class Theta(RunningSums):
    """Step 1 of Algorithm 2: running sums over batches of rows, from which Theta follows in every scaling.

    A batch costs one matrix product of (d x b) and (b x 2k). X is never stored as a whole.
    """

    purpose = "Algorithm 2"

    def _sum_batch(self, x: Tensor, y: Tensor, known: Tensor) -> tuple[Tensor, ...]:
        m, y = known.double(), torch.where(known, y - self._y0, 0.0)
        k = m.shape[1]
        products = x.T @ torch.cat([m, y], 1)
        return m.sum(0), y.sum(0), (y * y).sum(0), products[:, :k], products[:, k:], (x * x).sum(1) @ m

    def matrix(self, scaling: Scaling) -> Tensor:
        """Compute Theta.

        Args:
            scaling: of the labels; see the module.

        Returns:
            (d, k) float64. The column of a task without known rows is zero; except for `raw`, so is that of a task with
            constant labels or constant features.

        Raises:
            SettingError: no rows were added.
        """
        n, sum_y, sum_yy, sum_x, sum_xy, sum_xx = self._require_sums()
        rows = n.clamp(min=1)
        mean_x, mean_y = sum_x / rows, sum_y / rows
        if scaling == "raw":
            return (sum_xy + self._x0[:, None] * (sum_y + n * self._y0) + sum_x * self._y0) / rows
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
        chance_square = spread / (variance * (n - 1).clamp(min=1))
        remaining = 1 - chance_square / (effect**2).sum(0).clamp(min=torch.finfo(torch.float64).tiny)
        return effect * remaining.clamp(min=0).sqrt()


def check_rank(rank: int, tasks: int) -> None:
    """Check that the weighting rank is in 1..k, and raise SettingError otherwise."""
    if not 1 <= rank <= tasks:
        raise SettingError(f"the weighting rank must be in 1..{tasks}, the number of labels; got {rank}")


def svd_weights(theta: Tensor, rank: int) -> Tensor:
    """Compute the task weights from Theta: steps 2 and 3 of Algorithm 2, then scaling to sum k.

    Args:
        theta: (d, k), finite.
        rank: r in 1..k; with r = k the weights are proportional to the norms of the columns.

    Returns:
        (k,) float64, at least 0, with sum k; all 1 if theta is zero.

    Raises:
        SettingError: the rank is out of range.
    """
    k = theta.shape[1]
    check_rank(rank, k)
    largest = theta.abs().max()  # divided by it, squares neither overflow nor underflow
    if largest == 0:
        return torch.ones(k, dtype=torch.float64, device=theta.device)
    _, S, Vh = torch.linalg.svd(theta.double() / largest, full_matrices=False)
    alpha = torch.linalg.vector_norm(S[:rank, None] * Vh[:rank], dim=0)  # |theta_i^T U_r|, since U^T Theta = S V^T
    return alpha * (k / alpha.sum())
