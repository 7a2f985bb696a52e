"""Gradient descent with vanishing steps (gradient flow) on the two-task linear problem, from a random start.

    d/ds (B, a_1, a_2) = - gradient of  1/2 sum_i w_i ||X_i B a_i - y_i||^2

Gram matrices with kappa = 100 have condition numbers of millions, so that plain gradient descent would need millions of
steps. Instead the flow is integrated by linearly implicit Euler steps, (1/h + H) delta = -gradient, with the Hessian H.
The step size h grows by a fifth after each step: fast modes have converged by then, slower ones are still resolved. A
step that increased the loss is repeated with a smaller h. For large h the steps become Newton steps, and so the flow
ends in a stationary point.

Time is measured in gradient steps of the largest stable size 1 / lambda, where lambda is the largest eigenvalue of the
Hessian with respect to B at unit heads: "after 1000 steps" is where 1000 plain steps of that size would be.

Shapes: p pairs of tasks, d dimensions.
"""

from collections.abc import Sequence

import numpy as np

from models.theory.linear_tasks import Floats, Pair, Weights

_GROWTH, _SHRINKAGE = 1.2, 0.25
_FIRST_STEP = 0.1  # in units of 1 / lambda


def random_starts(generator: np.random.Generator, pairs: int, dimensions: int) -> Pair:
    """Draw normal starting points: B (p, d), with E ||B||^2 = 1 for each pair, and the heads (p, 2)."""
    return generator.standard_normal((pairs, dimensions)) / np.sqrt(dimensions), generator.standard_normal((pairs, 2))


def integrate(
    grams: Pair, crosses: Pair, start: Pair, steps: Sequence[float], weights: Weights = (1.0, 1.0)
) -> list[Floats]:
    """Follow the gradient flow and return the first tasks' theta at given times.

    Args:
        grams: X^T X, (p, d, d) each.
        crosses: X^T y, (p, d) each.
        start: B (p, d) and heads (p, 2).
        steps: times in gradient steps, rising; inf is the end of the flow.
        weights: of the losses.

    Returns:
        theta of the first tasks, (p, d), at each time.
    """
    gram = np.stack([np.asarray(w)[..., None, None] * g for w, g in zip(weights, grams, strict=True)], 1)
    cross = np.stack([np.asarray(w)[..., None] * c for w, c in zip(weights, crosses, strict=True)], 1)
    unit = 1 / np.linalg.eigvalsh(gram.sum(1))[:, -1]
    flow = _Flow(gram, cross, *start, unit)
    thetas = []
    for count in steps:
        flow.advance(count)
        thetas.append(flow.heads[:, :1] * flow.shared)
    return thetas


class _Flow:
    """The state of the flow: weighted X^T X (p, 2, d, d) and X^T y (p, 2, d), B (p, d) and the heads (p, 2).

    The unit of time (p,) is the largest stable step size.
    """

    def __init__(self, gram: Floats, cross: Floats, shared: Floats, heads: Floats, unit: Floats) -> None:
        self.gram, self.cross, self.shared, self.heads = gram, cross, shared.copy(), heads.copy()
        self._unit = unit
        self._time = np.zeros(len(unit))
        self._step = _FIRST_STEP * unit
        self._loss = self._loss_at(np.arange(len(unit)), shared, heads)

    def advance(self, steps: float) -> None:
        """Advance to the time of so many gradient steps; for inf until all pairs have converged."""
        active = np.arange(len(self._unit))
        for _ in range(2000):
            if steps < np.inf:
                active = np.flatnonzero(self._time < steps * self._unit * (1 - 1e-9))
            if not len(active):
                return
            step = np.minimum(self._step[active], steps * self._unit[active] - self._time[active])
            converged = self._take_step(active, step)
            if steps == np.inf:
                active = active[~converged]

    def _take_step(self, p: np.ndarray, step: Floats) -> np.ndarray:
        """Take a step of the pairs with indices p and return which of them have converged."""
        d_shared, d_heads = self._direction(p, step)
        shared, heads = self.shared[p] + d_shared, self.heads[p] + d_heads
        loss = self._loss_at(p, shared, heads)
        scale = np.abs(self._loss[p])
        better = loss <= self._loss[p] + 1e-13 * scale
        accepted = p[better]
        self.shared[accepted], self.heads[accepted] = shared[better], heads[better]
        self._loss[accepted] = loss[better]
        self._time[accepted] += step[better]
        # A step that was cut to end at a given time is no reason to enlarge the next one.
        full = step >= self._step[p] * (1 - 1e-9)
        self._step[p] = np.where(better, np.where(full, self._step[p] * _GROWTH, self._step[p]), step * _SHRINKAGE)
        relative_change = np.linalg.norm(d_shared, axis=1) / np.linalg.norm(shared, axis=1)
        return (relative_change < 1e-9) & (step > 1e3 * self._unit[p])

    def _direction(self, p: np.ndarray, step: Floats) -> Pair:
        """Solve (1/h + H) delta = -gradient by eliminating B, which leaves a 2 x 2 system (Schur complement)."""
        gram, cross, b, a = self.gram[p], self.cross[p], self.shared[p], self.heads[p]
        gram_b = np.einsum("pkij,pj->pki", gram, b)
        residual = a[..., None] * gram_b - cross  # gradient with respect to theta_i = a_i B
        g_shared = (a[..., None] * residual).sum(1)
        g_heads = np.einsum("pki,pi->pk", residual, b)
        block = np.einsum("pk,pkij->pij", a**2, gram)
        block[:, np.arange(b.shape[1]), np.arange(b.shape[1])] += 1 / step[:, None]
        mixed = residual + a[..., None] * gram_b  # second derivatives by a_i and B, (p, 2, d)
        solved = np.linalg.solve(block, np.concatenate([g_shared[:, None], mixed], 1).swapaxes(1, 2)).swapaxes(1, 2)
        head_diagonal = np.einsum("pki,pi->pk", gram_b, b) + 1 / step[:, None]
        schur = np.einsum("pk,kl->pkl", head_diagonal, np.eye(2)) - np.einsum("pki,pli->pkl", mixed, solved[:, 1:])
        right_side = g_heads - np.einsum("pki,pi->pk", mixed, solved[:, 0])
        d_heads = -np.linalg.solve(schur, right_side[..., None])[..., 0]
        d_shared = -solved[:, 0] - np.einsum("pki,pk->pi", solved[:, 1:], d_heads)
        return d_shared, d_heads

    def _loss_at(self, p: np.ndarray, shared: Floats, heads: Floats) -> Floats:
        """Return half the sum of squares of the pairs with indices p, without the constant ||y||^2 / 2."""
        quadratic = np.einsum("pi,pkij,pj->pk", shared, self.gram[p], shared)
        linear = np.einsum("pki,pi->pk", self.cross[p], shared)
        return np.asarray((0.5 * heads**2 * quadratic - heads * linear).sum(1))
