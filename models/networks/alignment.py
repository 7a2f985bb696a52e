"""Covariance alignment: the similarity score of two tasks' inputs, and the matrices that raise it.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020,
arXiv:2005.00944), section 2.3 equation 5 (score) and Algorithm 1 (alignment).

Shapes: m rows, d features.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

AlignmentKind = Literal["none", "free", "rotation"]

KEPT = 0.99
"""Share of the sum of singular values that a covariance's low-rank approximation must hold."""


class Covariance:
    """XᵀX of a matrix too tall to hold, summed in float64 (float32 sums of many rows are off by 1e-3).

    Args:
        features: d.
    """

    def __init__(self, features: int) -> None:
        self.rows = 0.0
        self.matrix = torch.zeros(features, features, dtype=torch.float64)

    def add(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Takes in (m, d) rows on any device; counts: (m,), how often each row occurs, once if none."""
        x = x.detach().double()
        weighted = x if counts is None else x * counts.double()[:, None]
        self.matrix += (x.T @ weighted).cpu()
        self.rows += len(x) if counts is None else float(counts.sum())


def covariance_similarity(first: Covariance, second: Covariance) -> float:
    """The covariance similarity score (equation 5), in [0, 1].

    With the best rank-r_i approximations U_i D_i U_iᵀ of the two covariances, r_i the smallest rank that holds 99 %
    of the sum of singular values:

        ‖(U_1 D_1^½)ᵀ (U_2 D_2^½)‖_F / (‖U_1 D_1^½‖_F ‖U_2 D_2^½‖_F)

    It is 0 for inputs with disjoint supports, and for a covariance with itself ‖D‖_F / tr D, which is 1 only if the
    rank is one. nan if a covariance is zero.
    """
    a, b = _low_rank_root(first.matrix), _low_rank_root(second.matrix)
    size = torch.linalg.norm(a) * torch.linalg.norm(b)
    return float(torch.linalg.norm(a.T @ b) / size) if size > 0 else math.nan


def kept_rank(singular_values: Tensor) -> int:
    """r_i: the smallest rank that holds 99 % of the sum of (d,) singular values, which fall; 0 if all are zero."""
    sums = singular_values.cumsum(0)
    if sums[-1] == 0:
        return 0
    # a value that is 99 % but for rounding holds 99 %
    return int((sums < KEPT * sums[-1] * (1 - 1e-12)).sum()) + 1


def _low_rank_root(covariance: Tensor) -> Tensor:
    """U D^½, (d, r), of the best rank-r approximation."""
    largest = covariance.abs().max()
    if largest == 0:
        return covariance[:, :0]
    values, vectors = torch.linalg.eigh(covariance / largest)  # the score knows no scale; squares could overflow
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    r = kept_rank(values)
    return vectors[:, :r] * values[:r].sqrt()


class FreeAlignment(nn.Module):
    """A trainable R = I + Δ, the identity at first.

    Z = E R is computed as E + E Δ: with Δ = 0 it is E to the bit, in every precision, and what decays a weight pulls
    R towards the identity.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(features, features))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., d) E -> (..., d) Z = E R."""
        return embeddings + embeddings @ self.delta

    def matrix(self) -> Tensor:
        """R, (d, d)."""
        return torch.eye(len(self.delta), device=self.delta.device) + self.delta


class RotationAlignment(nn.Module):
    """A trainable R among the rotations (orthogonal, determinant 1), the identity at first; by the Cayley map, which
    reaches all rotations but those that turn a direction by 180 degrees."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(features))
        parametrizations.orthogonal(self, "weight", "cayley")

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., d) E -> (..., d) Z = E R."""
        rotation = self.matrix()
        # as FreeAlignment does: exact at the identity
        return embeddings + embeddings @ (rotation - torch.eye(len(rotation), device=rotation.device))

    def matrix(self) -> Tensor:
        """R, (d, d), in 32 bits under autocast too: in 16 it would be no rotation."""
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self.weight


def make_alignment(kind: AlignmentKind, features: int) -> nn.Module:
    """A task's R, the identity at first; nothing at all where the kind is none."""
    if kind == "none":
        return nn.Identity()
    return FreeAlignment(features) if kind == "free" else RotationAlignment(features)
