"""Plain descent on the two-task linear problem, from a random start: gradient descent with vanishing steps.

    d/ds (B, a_1, a_2) = - gradient of  1/2 sum_i w_i ||X_i B a_i - y_i||^2

Gram matrices with kappa = 100 have condition numbers of millions, and gradient descent proper would need as many
steps. The flow is followed by linearly implicit Euler steps instead, (1/h + H) delta = -gradient with the Hessian H.
Their length h grows by a fifth with each: modes faster than the step have settled, slower ones are resolved. A step
that raised the loss is taken again, shorter. As h grows the steps become Newton's: the flow ends in a stationary
point.

Time is given as the number of gradient steps of the largest stable length 1 / lambda, where lambda is the largest
eigenvalue of the Hessian with respect to B at unit heads: what as many plain steps would have done.

Shapes: p pairs, d dimensions.
"""

from collections.abc import Sequence

import numpy as np

from models.theory.linear_tasks import Floats

_GROWTH, _SHORTER = 1.2, 0.25
_FIRST_STEP = 0.1  # in units of 1 / lambda


def random_starts(generator: np.random.Generator, pairs: int, dimensions: int) -> tuple[Floats, Floats]:
    """B (p, d) of expected length 1 and heads (p, 2), all normal."""
    return generator.standard_normal((pairs, dimensions)) / np.sqrt(dimensions), generator.standard_normal((pairs, 2))


def follow(
    grams: tuple[Floats, Floats],
    crosses: tuple[Floats, Floats],
    start: tuple[Floats, Floats],
    steps: Sequence[float],
    weights: tuple[Floats | float, Floats | float] = (1.0, 1.0),
) -> list[Floats]:
    """theta of the first tasks, (p, d), after so many gradient steps, given in rising order; inf is the flow's end.

    Args:
        grams: X^T X, (p, d, d), of the first and of the second tasks. crosses: X^T y, (p, d) each.
        start: B (p, d) and heads (p, 2). weights: (p,) or one.
    """
    gram = np.stack([np.asarray(w)[..., None, None] * g for w, g in zip(weights, grams, strict=True)], 1)
    cross = np.stack([np.asarray(w)[..., None] * c for w, c in zip(weights, crosses, strict=True)], 1)
    stable = 1 / np.linalg.eigvalsh(gram.sum(1))[:, -1]
    flow = _Flow(gram, cross, *start, stable)
    found = []
    for count in steps:
        flow.advance(count)
        found.append(flow.heads[:, :1] * flow.shared)
    return found


class _Flow:
    """gram (p, 2, d, d), cross (p, 2, d), shared (p, d), heads (p, 2), stable (p,): the unit of time."""

    def __init__(self, gram: Floats, cross: Floats, shared: Floats, heads: Floats, stable: Floats) -> None:
        self.gram, self.cross, self.shared, self.heads = gram, cross, shared.copy(), heads.copy()
        self._unit = stable
        self._time = np.zeros(len(stable))
        self._step = _FIRST_STEP * stable
        self._loss = self._loss_at(np.arange(len(stable)), shared, heads)

    def advance(self, steps: float) -> None:
        """On to the time of so many gradient steps, or, for inf, until nothing moves any more."""
        moving = np.arange(len(self._unit))
        for _ in range(2000):
            if steps < np.inf:
                moving = np.flatnonzero(self._time < steps * self._unit * (1 - 1e-9))
            if not len(moving):
                return
            step = np.minimum(self._step[moving], steps * self._unit[moving] - self._time[moving])
            settled = self._take_step(moving, step)
            if steps == np.inf:
                moving = moving[~settled]

    def _take_step(self, p: np.ndarray, step: Floats) -> np.ndarray:
        """A step of the pairs p; returns which of them have come to rest."""
        d_shared, d_heads = self._direction(p, step)
        shared, heads = self.shared[p] + d_shared, self.heads[p] + d_heads
        loss = self._loss_at(p, shared, heads)
        scale = np.abs(self._loss[p])
        better = loss <= self._loss[p] + 1e-13 * scale
        taken = p[better]
        self.shared[taken], self.heads[taken], self._loss[taken] = shared[better], heads[better], loss[better]
        self._time[taken] += step[better]
        whole = step >= self._step[p] * (1 - 1e-9)  # steps cut short to end at a given time say nothing of the next
        self._step[p] = np.where(better, np.where(whole, self._step[p] * _GROWTH, self._step[p]), step * _SHORTER)
        moved = np.linalg.norm(d_shared, axis=1) / np.linalg.norm(shared, axis=1)
        return (moved < 1e-9) & (step > 1e3 * self._unit[p])

    def _direction(self, p: np.ndarray, step: Floats) -> tuple[Floats, Floats]:
        """Solves (1/h + H) delta = -gradient, by B's block and the two heads that are left."""
        gram, cross, b, a = self.gram[p], self.cross[p], self.shared[p], self.heads[p]
        image = np.einsum("pkij,pj->pki", gram, b)  # G_i B
        pull = a[..., None] * image - cross
        g_shared = (a[..., None] * pull).sum(1)
        g_heads = np.einsum("pki,pi->pk", pull, b)
        block = np.einsum("pk,pkij->pij", a**2, gram)
        block[:, np.arange(b.shape[1]), np.arange(b.shape[1])] += 1 / step[:, None]
        mixed = pull + a[..., None] * image  # (p, 2, d)
        solved = np.linalg.solve(block, np.concatenate([g_shared[:, None], mixed], 1).swapaxes(1, 2)).swapaxes(1, 2)
        own = np.einsum("pki,pi->pk", image, b) + 1 / step[:, None]
        corner = np.einsum("pk,kl->pkl", own, np.eye(2)) - np.einsum("pki,pli->pkl", mixed, solved[:, 1:])
        right = g_heads - np.einsum("pki,pi->pk", mixed, solved[:, 0])
        d_heads = -np.linalg.solve(corner, right[..., None])[..., 0]
        d_shared = -solved[:, 0] - np.einsum("pki,pk->pi", solved[:, 1:], d_heads)
        return d_shared, d_heads

    def _loss_at(self, p: np.ndarray, shared: Floats, heads: Floats) -> Floats:
        """Half the sum of squares, less its constant."""
        curved = np.einsum("pi,pkij,pj->pk", shared, self.gram[p], shared)
        linear = np.einsum("pki,pi->pk", self.cross[p], shared)
        return np.asarray((0.5 * heads**2 * curved - heads * linear).sum(1))
