"""Covariance alignment (Algorithm 1): the covariance similarity score of two tasks, and trainable alignment matrices.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020,
arXiv:2005.00944), section 2.3, equation 5 (score) and Algorithm 1 (alignment matrices, which are to raise the score).

Shapes: m rows, d features.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

AlignmentKind = Literal["none", "free", "rotation"]

KEPT_SHARE = 0.99
"""Share of the sum of a covariance's singular values that its low-rank approximation must keep."""


class Covariance:
    """XᵀX of a matrix X that is too large for memory, summed batch by batch in float64.

    Float32 sums over many rows have an error of 1e-3.

    Args:
        features: d, the number of columns of X.

    Attributes:
        rows: m, the number of rows added.
        matrix: XᵀX, (d, d) float64 on the CPU.
    """

    def __init__(self, features: int) -> None:
        self.rows = 0.0
        self.matrix = torch.zeros(features, features, dtype=torch.float64)

    def add(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Add rows of X.

        Args:
            x: (m, d) on any device.
            counts: how often each row occurs, (m,); once if None.
        """
        x = x.detach().double()
        weighted = x if counts is None else x * counts.double()[:, None]
        self.matrix += (x.T @ weighted).cpu()
        self.rows += len(x) if counts is None else float(counts.sum())


def covariance_similarity(first: Covariance, second: Covariance) -> float:
    """Compute the covariance similarity score (equation 5), in [0, 1].

        ‖(U_1 D_1^½)ᵀ (U_2 D_2^½)‖_F / (‖U_1 D_1^½‖_F ‖U_2 D_2^½‖_F)

    U_i D_i U_iᵀ is the best approximation of covariance i with rank r_i, the smallest rank that keeps 99 % of the sum
    of singular values. The score is 0 for inputs with disjoint supports. The score of a covariance with itself is
    ‖D‖_F / tr D, which is 1 only if the rank is one. If a covariance is zero, the score is nan.
    """
    a, b = _low_rank_root(first.matrix), _low_rank_root(second.matrix)
    size = torch.linalg.norm(a) * torch.linalg.norm(b)
    return float(torch.linalg.norm(a.T @ b) / size) if size > 0 else math.nan


def kept_rank(singular_values: Tensor) -> int:
    """Return r_i, the smallest rank that keeps 99 % of the sum of the singular values (d,), in descending order.

    It is 0 if all singular values are zero.
    """
    sums = singular_values.cumsum(0)
    if sums[-1] == 0:
        return 0
    # 1e-12: a sum that misses 99 % only by rounding is enough
    return int((sums < KEPT_SHARE * sums[-1] * (1 - 1e-12)).sum()) + 1


def _low_rank_root(covariance: Tensor) -> Tensor:
    """Return U D^½, (d, r), of the best rank-r approximation."""
    largest = covariance.abs().max()
    if largest == 0:
        return covariance[:, :0]
    # the score does not depend on scale; squares could overflow
    values, vectors = torch.linalg.eigh(covariance / largest)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    r = kept_rank(values)
    return vectors[:, :r] * values[:r].sqrt()


class FreeAlignment(nn.Module):
    """A trainable alignment matrix R = I + Δ, initialized as the identity.

    Z = E R is computed as E + E Δ. With Δ = 0 the result is equal to E to the bit in every precision, and weight decay
    pulls R towards the identity.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(features, features))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Multiply the embeddings E (..., d) by R: Z = E R, (..., d)."""
        return embeddings + embeddings @ self.delta

    def matrix(self) -> Tensor:
        """Return R, (d, d)."""
        return torch.eye(len(self.delta), device=self.delta.device) + self.delta


class RotationAlignment(nn.Module):
    """A trainable rotation R (orthogonal, determinant 1) as alignment matrix, initialized as the identity.

    R is parametrized by the Cayley map, which reaches all rotations except those that turn a direction by 180 degrees.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(features))
        parametrizations.orthogonal(self, "weight", "cayley")

    def forward(self, embeddings: Tensor) -> Tensor:
        """Multiply the embeddings E (..., d) by R: Z = E R, (..., d)."""
        rotation = self.matrix()
        # as in FreeAlignment: exact at the identity
        return embeddings + embeddings @ (rotation - torch.eye(len(rotation), device=rotation.device))

    def matrix(self) -> Tensor:
        """Return R, (d, d), in 32 bits even under autocast, since in 16 bits it would not be a rotation."""
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.weight


def make_alignment(kind: AlignmentKind, features: int) -> nn.Module:
    """Make a task's alignment matrix R, (features, features), initialized as the identity; no matrix for kind none."""
    if kind == "none":
        return nn.Identity()
    return FreeAlignment(features) if kind == "free" else RotationAlignment(features)
