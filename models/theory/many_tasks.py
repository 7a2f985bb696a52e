"""Any number of linear tasks with a shared module of any width: the best solution that many starts find.

    minimise over B (d x r), A_1 .. A_k (r):   sum_i w_i ||X_i B A_i - y_i||^2

(Wu, Zhang, Ré, ICLR 2020, arXiv:2005.00944, equation 1 with linear activations.) With r >= k the tasks' own solutions
reach the optimum, B A_i = theta_i (Proposition 1): nothing is transferred, and that solution is returned as it is.
With r < k the problem is not convex. For given heads the best B solves one linear system, and the loss as a function of
the heads is minimised by BFGS from many random starts; alternating least squares then settles the last digits.

Shapes: k tasks, d dimensions, r width.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from models.theory.linear_tasks import Floats, stream

_SWEEPS = 5000
_SETTLED = 1e-14  # relative change of the parameters in a sweep


@dataclass(frozen=True)
class SharedSolution:
    """shared: B (d, r). heads: A (r, k), a column per task. loss: without the labels' own sum of squares."""

    shared: Floats
    heads: Floats
    loss: float

    @property
    def parameters(self) -> Floats:
        """(d, k), the column of task i is B A_i."""
        return self.shared @ self.heads


def own_solutions(grams: Floats, crosses: Floats) -> Floats:
    """Each task alone: grams (k, d, d), crosses (k, d) -> (d, k), least squares."""
    return np.asarray(np.linalg.solve(grams, crosses[..., None])[..., 0].T)


def solve_shared(
    grams: Floats, crosses: Floats, width: int, seed: int, starts: int = 12, weights: Floats | None = None
) -> SharedSolution:
    """The best of `starts` descents; the optimum itself where width >= k.

    Args:
        grams: X_i^T X_i, (k, d, d), each of full rank. crosses: X_i^T y_i, (k, d).
        width: r, at least 1.
        weights: (k,), positive; none for all 1.
    """
    k, d = crosses.shape
    weight = np.ones(k) if weights is None else np.asarray(weights, dtype=np.float64)
    problem = _Problem(weight[:, None, None] * grams, weight[:, None] * crosses, width)
    if width >= k:
        shared, heads = np.zeros((d, width)), np.eye(width, k)
        shared[:, :k] = own_solutions(grams, crosses)
        return SharedSolution(shared, heads, problem.loss(shared, heads))
    generator = stream(seed, "starts of a shared solution")
    descents = [
        minimize(problem.loss_and_slope, generator.standard_normal(width * k), jac=True, method="BFGS")
        for _ in range(starts)
    ]
    best = min(descents, key=lambda descent: descent.fun)
    return problem.settle(best.x.reshape(width, k))


@dataclass(frozen=True)
class _Problem:
    """Weighted grams (k, d, d) and crosses (k, d)."""

    grams: Floats
    crosses: Floats
    width: int

    def best_shared(self, heads: Floats) -> Floats:
        """B (d, r) for the heads (r, k): sum_i G_i B A_i A_i^T = sum_i c_i A_i^T."""
        d, r = self.crosses.shape[1], self.width
        system = np.einsum("ipq,ai,bi->paqb", self.grams, heads, heads).reshape(d * r, d * r)
        return np.asarray(np.linalg.solve(system, (self.crosses.T @ heads.T).ravel()).reshape(d, r))

    def best_heads(self, shared: Floats) -> Floats:
        """A (r, k) for B (d, r)."""
        small = np.einsum("pa,ipq,qb->iab", shared, self.grams, shared)
        return np.asarray(np.linalg.solve(small, (self.crosses @ shared)[..., None])[..., 0].T)

    def loss(self, shared: Floats, heads: Floats) -> float:
        found = shared @ heads
        return float(np.einsum("pi,ipq,qi->", found, self.grams, found) - 2 * (self.crosses.T * found).sum())

    def loss_and_slope(self, flat: Floats) -> tuple[float, Floats]:
        """The loss with the best B, as a function of the heads alone, and its gradient (B's own is zero there)."""
        heads = flat.reshape(self.width, -1)
        shared = self.best_shared(heads)
        residual = np.einsum("ipq,qi->pi", self.grams, shared @ heads) - self.crosses.T
        return self.loss(shared, heads), 2 * (shared.T @ residual).ravel()

    def settle(self, heads: Floats) -> SharedSolution:
        """Alternating least squares from these heads until nothing moves."""
        shared, found = self.best_shared(heads), np.zeros(())
        for _ in range(_SWEEPS):
            heads = self.best_heads(shared)
            before, found = found, shared @ heads
            if np.linalg.norm(found - before) <= _SETTLED * np.linalg.norm(found):
                break
            shared = np.linalg.qr(self.best_shared(heads))[0]  # the same span, without a drift of its scale
        return SharedSolution(shared, heads, self.loss(shared, heads))
