"""Rows that wait and are caught up go where Adam takes them step by step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training.lazy_adam import LazyAdam

ROWS, FEATURES = 12, 3


def gradients(seed, steps, share):
    """A sparse gradient (rows, values) per step; a row is read in a share of the steps."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = (torch.rand(ROWS, generator=generator) < share).nonzero()[:, 0]
        values = torch.randn(len(rows), FEATURES, generator=generator) * 10 ** torch.randint(
            -4, 2, (1,), generator=generator
        )
        yield rows, values


def tables():
    table = torch.nn.Parameter(torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(1)))
    return table, torch.nn.Parameter(table.detach().clone())


def sparse(rows, values):
    return torch.sparse_coo_tensor(rows[None], values, (ROWS, FEATURES), is_coalesced=True, check_invariants=True)


def rate(step):
    return 1e-2 * (1 + step % 7)


@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.02, 0.2, 0.7]), st.booleans())
def test_it_moves_the_table_as_adam_does(seed, steps, share, look_often):
    ours, theirs = tables()
    lazy_adam, adam = LazyAdam(ours), torch.optim.Adam([theirs], lr=1.0)
    for step, (rows, values) in enumerate(gradients(seed, steps, share)):
        lazy_adam.catch_up(rows)
        torch.testing.assert_close(ours[rows], theirs[rows], rtol=1e-4, atol=1e-5)
        ours.grad, theirs.grad = sparse(rows, values), sparse(rows, values).to_dense()
        lazy_adam.step(rate(step))
        adam.param_groups[0]["lr"] = rate(step)
        adam.step()
        if look_often and step % 5 == 0:
            lazy_adam.catch_up()
    lazy_adam.catch_up()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_row_that_waits_longer_than_the_memory_is_caught_up():
    ours, theirs = tables()
    lazy_adam, adam = LazyAdam(ours), torch.optim.Adam([theirs], lr=1e-2)
    for step in range(1000):
        rows = torch.tensor([0]) if step % 900 else torch.tensor([0, 1])
        lazy_adam.catch_up(rows)
        ours.grad = sparse(rows, torch.ones(len(rows), FEATURES))
        theirs.grad = ours.grad.to_dense()
        lazy_adam.step(1e-2)
        adam.step()
    lazy_adam.catch_up()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("survived", [1, 7, 20])
def test_it_goes_on_from_a_state_to_the_same_bits(survived):
    results = []
    for breaks in (False, True):
        table, _ = tables()
        optimizer = LazyAdam(table)
        for step, (rows, values) in enumerate(gradients(0, 30, 0.2)):
            if step == survived:
                optimizer.catch_up()
                if breaks:
                    state = optimizer.state_dict()
                    optimizer = LazyAdam(table)
                    optimizer.load_state_dict(state)
            optimizer.catch_up(rows)
            table.grad = sparse(rows, values)
            optimizer.step(rate(step))
        optimizer.catch_up()
        results.append(table.detach())
    assert torch.equal(*results)


def test_rows_that_were_never_read_stay_to_the_bit():
    table, before = tables()
    optimizer = LazyAdam(table)
    for _ in range(3):
        table.grad = sparse(torch.tensor([2, 5]), torch.ones(2, FEATURES))
        optimizer.catch_up(torch.tensor([2, 5]))
        optimizer.step(1e-2)
    optimizer.catch_up()
    changed = (table != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [2, 5]
