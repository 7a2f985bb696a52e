"""Two linear tasks with shared width r = 1: the exact global optimum, all local minima, alternating least squares.

    minimise over B, a_1, a_2:   w_1 ||X_1 B a_1 - y_1||^2 + w_2 ||X_2 B a_2 - y_2||^2

(Wu, Zhang, Ré, ICLR 2020, section 2.3, where the a_i are eliminated instead.) For a given ratio t = a_2 / a_1 the
best B solves a linear system, so that the loss is a function of t alone. With w_1 G_1 + w_2 G_2 = W W^T and
w_1 G_1 = W diag(mu) W^T, where G_i = X_i^T X_i, it is up to a constant

    F(t) = - sum_j (u_j + t v_j)^2 / (mu_j + t^2 (1 - mu_j)),     u = W^-1 w_1 X_1^T y_1,  v = W^-1 w_2 X_2^T y_2

The local minima of F are those of the whole problem, since the best B for a given t is unique. As functions of log |t|
the terms are smooth steps of unit width, so that a fine grid finds every minimum; the lowest is the global optimum.

Shapes: p pairs of tasks, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import SettingError
from models.theory.linear_tasks import Floats, Pair, Weights

_GRID_LIMIT, _GRID_STEP = 14.0, 0.04  # of log |t|; the steps of F have width 1
_GOLDEN_SECTIONS = 45  # each shortens the bracket by the factor 0.618, all of them to 4e-10 of its length
_SINGULAR = 1e-7  # the square root of float64's precision is 1.5e-8
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class TwoTasks:
    """p pairs of tasks, in the coordinates z in which both Gram matrices are diagonal.

    Attributes:
        basis: W^-T, (p, d, d); theta = basis @ z.
        share: mu, the first task's share of the pooled Gram matrix, in [0, 1], (p, d).
        first: u, (p, d).
        second: v, (p, d).
    """

    basis: Floats
    share: Floats
    first: Floats
    second: Floats

    @classmethod
    def from_grams(cls, grams: Pair, crosses: Pair, weights: Weights = (1.0, 1.0)) -> "TwoTasks":
        """Diagonalise the Gram matrices X^T X, (p, d, d) each, of the pairs, which have X^T y, (p, d) each.

        Raises:
            SettingError: the pooled Gram matrix of a pair is singular.
        """
        w_1, w_2 = (np.asarray(weight, dtype=np.float64)[..., None] for weight in weights)
        first = w_1[..., None] * grams[0]
        try:
            lower = np.linalg.cholesky(first + w_2[..., None] * grams[1])
            scale = lower.diagonal(axis1=-2, axis2=-1)
            if (scale.min(-1) < _SINGULAR * scale.max(-1)).any():
                raise np.linalg.LinAlgError
        except np.linalg.LinAlgError as error:
            raise SettingError(
                "the pooled Gram matrix of two tasks is singular: they need at least as many samples in total as "
                "dimensions; give one of them more samples"
            ) from error
        half = np.linalg.solve(lower, first)
        share, rotation = np.linalg.eigh(np.linalg.solve(lower, half.swapaxes(-1, -2)))
        basis = np.linalg.solve(lower.swapaxes(-1, -2), rotation)
        u, v = (np.einsum("pdj,pd->pj", basis, w * c) for w, c in zip((w_1, w_2), crosses, strict=True))
        return cls(basis, np.clip(share, 0.0, 1.0), u, v)

    def loss(self, ratio: Floats) -> Floats:
        """Return F at the ratios t (p, n), none of them 0; (p, n)."""
        t = ratio[..., None]
        numerators = (self.first[:, None] + t * self.second[:, None]) ** 2
        return np.asarray(-(numerators / self._denominators(t, self.share[:, None])).sum(-1))

    def parameters(self, ratio: Floats) -> Pair:
        """Return theta of the first and of the second tasks, (p, d) each, at the ratios t (p,)."""
        theta = np.einsum("pij,pj->pi", self.basis, self._coordinates(ratio[:, None]))
        return theta, ratio[:, None] * theta

    def _coordinates(self, t: Floats) -> Floats:
        """Return z (p, d) of the best B at the ratios t (p, 1)."""
        return np.asarray((self.first + t * self.second) / self._denominators(t, self.share))

    def local_minima(self) -> list[Floats]:
        """Return for each pair the ratios t at all local minima, the lowest (the global optimum) first."""
        steps = np.arange(-_GRID_LIMIT, _GRID_LIMIT + _GRID_STEP / 2, _GRID_STEP)
        signs = np.repeat([-1.0, 1.0], len(steps))
        logs = np.concatenate([steps[::-1], steps])  # t from -inf over 0 to inf; a circle, as F(-inf) = F(inf)
        minima = []
        for pair in (self._pair(p) for p in range(len(self.share))):
            loss = pair.loss((signs * np.exp(logs))[None])[0]
            low = np.flatnonzero((loss < np.roll(loss, 1)) & (loss <= np.roll(loss, -1)))
            ratio = pair._refine(logs[low], signs[low])
            minima.append(ratio[np.argsort(pair.loss(ratio[None])[0])])
        return minima

    def optimum(self) -> Pair:
        """Return theta of the first and of the second tasks, (p, d) each, at the global optimum."""
        return self.parameters(np.array([ratios[0] for ratios in self.local_minima()]))

    def alternating_least_squares(self, sweeps: Sequence[int]) -> list[Pair]:
        """Run alternating least squares from the single-task solution of the first tasks.

        A sweep finds the best a_1, a_2 for B, then the best B for them. The Gram matrix of the first task must have
        full rank. Returned are theta of the first and of the second tasks, (p, d) each, for every number of sweeps.
        """
        z = self.first / self.share
        thetas = {}
        for sweep in range(1, max(sweeps) + 1):
            a_1, a_2 = self._heads(z)
            z = self._coordinates((a_2 / a_1)[:, None])
            if sweep in sweeps:
                b = np.einsum("pij,pj->pi", self.basis, z)
                a_1, a_2 = self._heads(z)
                thetas[sweep] = (a_1[:, None] * b, a_2[:, None] * b)
        return [thetas[sweep] for sweep in sweeps]

    def _heads(self, z: Floats) -> Pair:
        """Return the best a_1 and a_2, (p,) each, for B with the coordinates z (p, d)."""
        square = z**2
        a_1 = (self.first * z).sum(1) / (self.share * square).sum(1)
        a_2 = (self.second * z).sum(1) / ((1 - self.share) * square).sum(1)
        return a_1, a_2

    @staticmethod
    def _denominators(t: Floats, share: Floats) -> Floats:
        return share + t**2 * (1 - share)

    def _pair(self, p: int) -> "TwoTasks":
        return TwoTasks(*(array[p : p + 1] for array in (self.basis, self.share, self.first, self.second)))

    def _refine(self, logs: Floats, signs: Floats) -> Floats:
        """Return one pair's ratios at the minima within a grid step of the given ones, by golden-section search."""

        def loss(log_ratio: Floats) -> Floats:
            return self.loss((signs * np.exp(log_ratio))[None])[0]

        low, high = logs - _GRID_STEP, logs + _GRID_STEP
        for _ in range(_GOLDEN_SECTIONS):
            left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            falling = loss(left) > loss(right)
            low, high = np.where(falling, left, low), np.where(falling, high, right)
        return np.asarray(signs * np.exp((low + high) / 2))
