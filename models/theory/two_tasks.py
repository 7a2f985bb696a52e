"""Two linear tasks that share one direction (width r = 1): the optimum, exactly, and the way alternation takes to it.

    minimise over B, a_1, a_2:   w_1 ||X_1 B a_1 - y_1||^2 + w_2 ||X_2 B a_2 - y_2||^2

(Wu, Zhang, Ré, ICLR 2020, section 2.3, where the a_i are eliminated instead.) For a given ratio t = a_2 / a_1 the
best B solves a linear system, so that the loss is a function of t alone. With w_1 G_1 + w_2 G_2 = W W^T and
w_1 G_1 = W diag(mu) W^T, where G_i = X_i^T X_i, it is up to a constant

    F(t) = - sum_j (u_j + t v_j)^2 / (mu_j + t^2 (1 - mu_j)),     u = W^-1 w_1 X_1^T y_1,  v = W^-1 w_2 X_2^T y_2

The minima of F are those of the whole problem, local ones included: B is the only minimiser for its t. In log |t| the
terms are smooth steps of unit width, so that a fine grid sees every minimum, and the best one is the global optimum.

Shapes: p pairs, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import SettingError
from models.theory.linear_tasks import Floats

_REACH, _SPACING = 14.0, 0.04  # of the grid in log |t|; the steps of F are of width 1
_REFINEMENTS = 45  # golden sections: each shortens the bracket by 0.618, to 1e-10 of itself
_SINGULAR = 1e-7  # the square root of float64's precision is 1.5e-8
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class TwoTasks:
    """p pairs of tasks in the coordinates in which both Gram matrices are diagonal.

    basis: (p, d, d), W^-T, by which theta = basis @ z. share: (p, d), mu in [0, 1]. first, second: (p, d), u and v.
    """

    basis: Floats
    share: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(
        cls,
        grams: tuple[Floats, Floats],
        crosses: tuple[Floats, Floats],
        weights: tuple[Floats | float, Floats | float] = (1.0, 1.0),
    ) -> "TwoTasks":
        """From X^T X, (p, d, d), and X^T y, (p, d), of the first and of the second tasks; weights: (p,) or one.

        Raises:
            SettingError: two tasks have fewer samples in all than dimensions.
        """
        w_1, w_2 = (np.asarray(weight, dtype=np.float64)[..., None] for weight in weights)
        first = w_1[..., None] * grams[0]
        try:
            lower = np.linalg.cholesky(first + w_2[..., None] * grams[1])
            scale = lower.diagonal(axis1=-2, axis2=-1)
            if (scale.min(-1) < _SINGULAR * scale.max(-1)).any():
                raise np.linalg.LinAlgError
        except np.linalg.LinAlgError as error:
            raise SettingError("two tasks have fewer samples in all than dimensions: take more of either") from error
        half = np.linalg.solve(lower, first)
        share, turn = np.linalg.eigh(np.linalg.solve(lower, half.swapaxes(-1, -2)))
        basis = np.linalg.solve(lower.swapaxes(-1, -2), turn)
        u, v = (np.einsum("pdj,pd->pj", basis, w * c) for w, c in zip((w_1, w_2), crosses, strict=True))
        return cls(basis, np.clip(share, 0.0, 1.0), u, v)

    def loss(self, ratio: Floats) -> Floats:
        """F at the ratios t (p, n), none of them 0 -> (p, n)."""
        t = ratio[..., None]
        steps = (self.first[:, None] + t * self.second[:, None]) ** 2
        return np.asarray(-(steps / self._pooled(t, self.share[:, None])).sum(-1))

    def parameters(self, ratio: Floats) -> tuple[Floats, Floats]:
        """theta of the first tasks and of the second, (p, d) each, at ratios t (p,)."""
        t = ratio[:, None]
        z = (self.first + t * self.second) / self._pooled(t, self.share)
        found = np.einsum("pij,pj->pi", self.basis, z)
        return found, t * found

    def minima(self) -> list[Floats]:
        """For each pair the ratios at all local minima, the global optimum first."""
        steps = np.arange(-_REACH, _REACH + _SPACING / 2, _SPACING)
        signs = np.repeat([-1.0, 1.0], len(steps))
        logs = np.concatenate([steps[::-1], steps])  # from -infinity by 0 to infinity, which is -infinity again
        found = []
        for pair in (self._take(p) for p in range(len(self.share))):
            loss = pair.loss((signs * np.exp(logs))[None])[0]
            low = np.flatnonzero((loss < np.roll(loss, 1)) & (loss <= np.roll(loss, -1)))
            ratio = pair._refined(logs[low], signs[low])
            found.append(ratio[np.argsort(pair.loss(ratio[None])[0])])
        return found

    def optimum(self) -> tuple[Floats, Floats]:
        """theta of the first tasks and of the second, (p, d) each, at the global optimum."""
        return self.parameters(np.array([ratios[0] for ratios in self.minima()]))

    def alternate(self, sweeps: Sequence[int]) -> list[tuple[Floats, Floats]]:
        """Alternating least squares from the first task's own solution: theta of both tasks after so many sweeps.

        A sweep finds the best a_1, a_2 for B, then the best B for them. Needs a first task that has a solution.
        """
        z = self.first / self.share
        found = {}
        for sweep in range(1, max(sweeps) + 1):
            ratio = np.divide(*reversed(self._heads(z)))[:, None]
            z = (self.first + ratio * self.second) / self._pooled(ratio, self.share)
            if sweep in sweeps:
                b = np.einsum("pij,pj->pi", self.basis, z)
                a_1, a_2 = self._heads(z)
                found[sweep] = (a_1[:, None] * b, a_2[:, None] * b)
        return [found[sweep] for sweep in sweeps]

    def _heads(self, z: Floats) -> tuple[Floats, Floats]:
        """The best a_1 and a_2, (p,) each, for the direction with coordinates z (p, d)."""
        square = z**2
        a_1 = (self.first * z).sum(1) / (self.share * square).sum(1)
        a_2 = (self.second * z).sum(1) / ((1 - self.share) * square).sum(1)
        return a_1, a_2

    @staticmethod
    def _pooled(t: Floats, share: Floats) -> Floats:
        return share + t**2 * (1 - share)

    def _take(self, p: int) -> "TwoTasks":
        return TwoTasks(*(of_all[p : p + 1] for of_all in (self.basis, self.share, self.first, self.second)))

    def _refined(self, logs: Floats, signs: Floats) -> Floats:
        """Ratios at the minima of one pair that lie within a grid step of those given; golden sections."""

        def loss(at: Floats) -> Floats:
            return self.loss((signs * np.exp(at))[None])[0]

        low, high = logs - _SPACING, logs + _SPACING
        for _ in range(_REFINEMENTS):
            left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            falling = loss(left) > loss(right)
            low, high = np.where(falling, left, low), np.where(falling, high, right)
        return np.asarray(signs * np.exp((low + high) / 2))
