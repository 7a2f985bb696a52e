"""Adam on a table of embeddings, at the cost of the rows that a step reads: missed updates are made up later.

Adam updates every row in every step, also rows without a gradient, whose momentum decays. With a vocabulary of 20,000
words this costs more than the gradients of an LSTM. Here a row is not updated until a step reads it; then all missed
updates are made at once. If the last gradient of a row was in step s, its moments in a later step u are m_s β₁ᵘ⁻ˢ and
v_s β₂ᵘ⁻ˢ, so that (up to eps) each missed update has the same direction m_s / √v_s, times a factor that depends on s
and u only:

    Σ_u  lr_u β₁ᵘ⁻ˢ / (1 − β₁ᵘ) · √(1 − β₂ᵘ) / β₂⁽ᵘ⁻ˢ⁾ᐟ²

The sum is stored for every s. This is the arithmetic of Adam in another order, unlike the "lazy" Adam that leaves the
missed updates out; the only difference is that eps (1e-8) decays with √v during the missed steps. (Kingma, Ba: Adam,
ICLR 2015, algorithm 1.)

Shapes: v rows, d features, b rows of a step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

MAX_MISSED = 400
"""Missed steps after which the rest of the momentum, 0.9004 to this power, is negligible in float32."""


class LazyAdam:
    """The optimiser of one (v, d) table with sparse gradients.

    Call `catch_up` for the rows of a step before the step reads them, and for all rows before the table is read.
    """

    def __init__(self, table: Tensor) -> None:
        self.table, self.steps = table, 0
        self._first, self._second = torch.zeros_like(table), torch.zeros_like(table)
        self._last_step = torch.zeros(len(table), dtype=torch.int64)  # up to which each row is updated
        self._factors = np.zeros(1)  # sum of the missed updates' factors, by the row's last step s
        self._decay = (BETA1 / BETA2**0.5) ** np.arange(MAX_MISSED, 0, -1)

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None = None) -> None:
        """Make the missed updates of some rows or of the whole table.

        Args:
            rows: (b,) row numbers, each once; none: all rows.
        """
        behind = self._last_step < self.steps if rows is None else self._last_step[rows] < self.steps
        rows = behind.nonzero()[:, 0] if rows is None else rows[behind]
        last = self._last_step[rows]
        missed = (self.steps - last).double()
        factors = torch.from_numpy(self._factors[last.numpy()])
        device_rows, device = rows.to(self.table.device), self.table.device

        def column(values: Tensor) -> Tensor:
            return values.float().to(device)[:, None]

        first, second = self._first[device_rows], self._second[device_rows]
        # `second` is not bias-corrected here, so eps is scaled by the correction of step s instead
        eps = EPS * (1 - BETA2 ** last.double()).sqrt()
        self.table[device_rows] -= column(factors) * first / (second.sqrt() + column(eps).clamp(min=1e-30))
        self._first[device_rows] = first * column(BETA1**missed)
        self._second[device_rows] = second * column(BETA2**missed)
        self._last_step[rows] = self.steps

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the rows of the table's coalesced sparse gradient; `catch_up` must have been called for them."""
        self.steps += 1
        t = self.steps
        self._add_factors(learning_rate)
        gradient = self.table.grad
        if gradient is None:
            return
        rows, values = gradient._indices()[0], gradient._values()
        first = self._first[rows].lerp_(values, 1 - BETA1)
        second = self._second[rows].mul_(BETA2).addcmul_(values, values, value=1 - BETA2)
        denominator = (second / (1 - BETA2**t)).sqrt_().add_(EPS)
        self.table.index_add_(0, rows, first / denominator, alpha=-learning_rate / (1 - BETA1**t))
        self._first[rows], self._second[rows] = first, second
        self._last_step[rows.cpu()] = t

    def _add_factors(self, learning_rate: float) -> None:
        """Add the current step's factor to the sums of the last `MAX_MISSED` steps."""
        t = self.steps
        factor = learning_rate / (1 - BETA1**t) * (1 - BETA2**t) ** 0.5
        if t >= len(self._factors):
            self._factors = np.concatenate([self._factors, np.zeros(len(self._factors) + MAX_MISSED)])
        recent = slice(max(0, t - MAX_MISSED), t)
        self._factors[recent] += factor * self._decay[-min(t, MAX_MISSED) :]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values and tensors; `catch_up` must have been called for the whole table."""
        return {"steps": self.steps, "first": self._first, "second": self._second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`."""
        self.steps = state["steps"]
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._last_step.fill_(self.steps)
        self._factors = np.zeros(self.steps + 1)
