"""Adam on a table of embeddings, at the cost of the rows that a step reads.

Adam moves every row in every step, also those without a gradient: their momentum fades. On a vocabulary of 20,000
words that costs more than an LSTM's gradients. Here a row is left as it is until a step reads it, and then caught
up in one go. With u steps without a gradient after step s, moments are m βˢ⁺ᵘ⁻ˢ, so that up to eps each of these steps
moves the row along the same direction m_s / √v_s by a factor that depends on s and u alone:

    Σ_u  lr_u β₁ᵘ⁻ˢ / (1 − β₁ᵘ) · √(1 − β₂ᵘ) / β₂⁽ᵘ⁻ˢ⁾ᐟ²

The sum is kept for every s. It is Adam's own arithmetic, in another order, not the "lazy" Adam that forgets those
steps; only eps (1e-8) fades along with √v while a row waits. (Kingma, Ba: Adam, ICLR 2015, algorithm 1.)

Shapes: v rows, d features, b rows of a step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

MEMORY = 400
"""Steps after which what is left of the momentum, 0.9004 to this power, is nothing in float32."""


class LazyAdam:
    """The optimiser of one (v, d) table whose gradients are sparse.

    Before a step reads rows, and before anyone reads the whole table, these must be caught up.
    """

    def __init__(self, table: Tensor) -> None:
        self.table, self.steps = table, 0
        self._first, self._second = torch.zeros_like(table), torch.zeros_like(table)
        self._at = torch.zeros(len(table), dtype=torch.int64)  # the step that each row has seen last
        self._factors = np.zeros(1)  # by the step s since which a row has waited
        self._decay = (BETA1 / BETA2**0.5) ** np.arange(MEMORY, 0, -1)

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None = None) -> None:
        """Brings (b,) rows, each once, or the whole table to the present step."""
        waiting = self._at < self.steps if rows is None else self._at[rows] < self.steps
        rows = waiting.nonzero()[:, 0] if rows is None else rows[waiting]
        since = self._at[rows]
        steps = (self.steps - since).double()
        factors = torch.from_numpy(self._factors[since.numpy()])
        here, device = rows.to(self.table.device), self.table.device

        def column(values: Tensor) -> Tensor:
            return values.float().to(device)[:, None]

        first, second = self._first[here], self._second[here]
        # eps in √v's own scale at step s, where there is no correction of its bias
        eps = EPS * (1 - BETA2 ** since.double()).sqrt()
        self.table[here] -= column(factors) * first / (second.sqrt() + column(eps).clamp(min=1e-30))
        self._first[here] = first * column(BETA1**steps)
        self._second[here] = second * column(BETA2**steps)
        self._at[rows] = self.steps

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Takes in the table's coalesced sparse gradient; its rows must be caught up."""
        self.steps += 1
        t = self.steps
        self._remember(learning_rate)
        gradient = self.table.grad
        if gradient is None:
            return
        rows, values = gradient._indices()[0], gradient._values()
        first = self._first[rows].lerp_(values, 1 - BETA1)
        second = self._second[rows].mul_(BETA2).addcmul_(values, values, value=1 - BETA2)
        denominator = (second / (1 - BETA2**t)).sqrt_().add_(EPS)
        self.table.index_add_(0, rows, first / denominator, alpha=-learning_rate / (1 - BETA1**t))
        self._first[rows], self._second[rows] = first, second
        self._at[rows.cpu()] = t

    def _remember(self, learning_rate: float) -> None:
        t = self.steps
        moved = learning_rate / (1 - BETA1**t) * (1 - BETA2**t) ** 0.5
        if t >= len(self._factors):
            self._factors = np.concatenate([self._factors, np.zeros(len(self._factors) + MEMORY)])
        recent = slice(max(0, t - MEMORY), t)
        self._factors[recent] += moved * self._decay[-min(t, MEMORY) :]

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors. The whole table must be caught up."""
        return {"steps": self.steps, "first": self._first, "second": self._second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._at.fill_(self.steps)
        self._factors = np.zeros(self.steps + 1)
