"""Any number of linear tasks with a shared module of any width: the best solution found from many random starts.

    minimise over B (d x r), A_1 .. A_k (r):   sum_i w_i ||X_i B A_i - y_i||^2

(Wu, Zhang, Ré, ICLR 2020, arXiv:2005.00944, equation 1 with linear activations.) With r >= k the single-task solutions
are optimal, B A_i = theta_i (Proposition 1): nothing is transferred, and that solution is returned without a search.
With r < k the problem is not convex. For given heads the best B solves a linear system, so that the loss is a function
of the heads alone; BFGS minimises it from many random starts, and alternating least squares refines the best result to
machine precision.

Shapes: k tasks, d dimensions, r width.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from models.theory.linear_tasks import Floats, stream

_SWEEPS = 5000
_TOLERANCE = 1e-14  # relative change of the parameters in a sweep


@dataclass(frozen=True)
class SharedSolution:
    """A solution of all tasks.

    Attributes:
        shared: B, (d, r).
        heads: A, (r, k), one column per task.
        loss: without the constant sum_i w_i ||y_i||^2.
    """

    shared: Floats
    heads: Floats
    loss: float

    @property
    def parameters(self) -> Floats:
        """The tasks' parameters, (d, k): column i is B A_i."""
        return self.shared @ self.heads


def single_task_solutions(grams: Floats, crosses: Floats) -> Floats:
    """Return each task's own least squares solution, (d, k), from X_i^T X_i (k, d, d) and X_i^T y_i (k, d)."""
    return np.asarray(np.linalg.solve(grams, crosses[..., None])[..., 0].T)


def solve_shared(
    grams: Floats, crosses: Floats, width: int, seed: int, starts: int = 12, weights: Floats | None = None
) -> SharedSolution:
    """Minimise the loss of all tasks; exact where width >= k, else the best of `starts` descents.

    Args:
        grams: X_i^T X_i, (k, d, d), each of full rank.
        crosses: X_i^T y_i, (k, d).
        width: r, at least 1.
        seed: of the random starts.
        starts: their number.
        weights: of the tasks' losses, (k,), positive; all 1 by default.
    """
    k, d = crosses.shape
    weight = np.ones(k) if weights is None else np.asarray(weights, dtype=np.float64)
    problem = _Problem(weight[:, None, None] * grams, weight[:, None] * crosses, width)
    if width >= k:
        shared, heads = np.zeros((d, width)), np.eye(width, k)
        shared[:, :k] = single_task_solutions(grams, crosses)
        return SharedSolution(shared, heads, problem.loss(shared, heads))
    generator = stream(seed, "starts of a shared solution")
    descents = (
        minimize(problem.loss_and_gradient, generator.standard_normal(width * k), jac=True, method="BFGS")
        for _ in range(starts)
    )
    return problem.refine(min(descents, key=lambda descent: descent.fun).x.reshape(width, k))


@dataclass(frozen=True)
class _Problem:
    """The weighted least squares problem: weighted X_i^T X_i (k, d, d) and X_i^T y_i (k, d), and the width r."""

    grams: Floats
    crosses: Floats
    width: int

    def best_shared(self, heads: Floats) -> Floats:
        """Return the best B (d, r) for the heads (r, k): sum_i G_i B A_i A_i^T = sum_i c_i A_i^T."""
        d, r = self.crosses.shape[1], self.width
        system = np.einsum("ipq,ai,bi->paqb", self.grams, heads, heads).reshape(d * r, d * r)
        return np.asarray(np.linalg.solve(system, (self.crosses.T @ heads.T).ravel()).reshape(d, r))

    def best_heads(self, shared: Floats) -> Floats:
        """Return the best heads (r, k) for B (d, r)."""
        small = np.einsum("pa,ipq,qb->iab", shared, self.grams, shared)
        return np.asarray(np.linalg.solve(small, (self.crosses @ shared)[..., None])[..., 0].T)

    def loss(self, shared: Floats, heads: Floats) -> float:
        """Return the weighted sum of squares, without the constant of the labels."""
        thetas = shared @ heads
        return float(np.einsum("pi,ipq,qi->", thetas, self.grams, thetas) - 2 * (self.crosses.T * thetas).sum())

    def loss_and_gradient(self, flat: Floats) -> tuple[float, Floats]:
        """Return the loss at the best B as a function of the heads, and its gradient.

        The loss has no slope in B at the best B, so that the gradient with respect to the heads is complete.
        """
        heads = flat.reshape(self.width, -1)
        shared = self.best_shared(heads)
        residual = np.einsum("ipq,qi->pi", self.grams, shared @ heads) - self.crosses.T
        return self.loss(shared, heads), 2 * (shared.T @ residual).ravel()

    def refine(self, heads: Floats) -> SharedSolution:
        """Run alternating least squares from these heads until the parameters no longer change."""
        shared, thetas = self.best_shared(heads), np.zeros(())
        for _ in range(_SWEEPS):
            heads = self.best_heads(shared)
            before, thetas = thetas, shared @ heads
            if np.linalg.norm(thetas - before) <= _TOLERANCE * np.linalg.norm(thetas):
                break
            shared = np.linalg.qr(self.best_shared(heads))[0]  # the same span; keeps its scale from drifting
        return SharedSolution(shared, heads, self.loss(shared, heads))
