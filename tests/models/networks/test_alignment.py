"""Properties of equation 5, also for tall matrices, and alignment matrices that are initialized as the identity."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.networks.alignment import Covariance, FreeAlignment, covariance_similarity, kept_rank, make_alignment


def covariance(x, chunk=None):
    found = Covariance(x.shape[1])
    for part in torch.as_tensor(x).split(chunk or len(x)):
        found.add(part)
    return found


def score(x, y, chunk=None):
    return covariance_similarity(covariance(x, chunk), covariance(y, chunk))


def naive_score(x, y):
    """Equation 5 as printed, with a singular value decomposition of each XᵀX."""
    roots = []
    for matrix in (x, y):
        u, d, _ = np.linalg.svd(matrix.T.astype(np.float64) @ matrix)
        r = next(r for r in range(1, len(d) + 1) if d[:r].sum() >= 0.99 * d.sum() * (1 - 1e-12))
        roots.append(u[:, :r] @ np.diag(np.sqrt(d[:r])))
    a, b = roots
    return np.linalg.norm(a.T @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def draws(d=6):
    """Pairs of matrices of every rank and many scales."""

    def build(arguments):
        seed, rows, ranks, scales = arguments
        rng = np.random.default_rng(seed)
        return tuple(
            scale * rng.normal(size=(m, r)) @ (rng.normal(size=(r, d)) * 10.0 ** rng.uniform(-1, 1, (1, d)))
            for m, r, scale in zip(rows, ranks, scales, strict=True)
        )

    pair = [st.integers(1, 40), st.integers(1, d), st.sampled_from([1e-8, 1.0, 1e8])]
    rows, ranks, scales = (st.tuples(one, one) for one in pair)
    return st.tuples(st.integers(0, 2**32 - 1), rows, ranks, scales).map(build)


@given(draws())
def test_the_score_is_equation_5s_symmetric_and_in_0_to_1(pair):
    x, y = pair
    found = score(x, y)
    assert found == pytest.approx(naive_score(x, y), abs=1e-9)
    assert found == pytest.approx(score(y, x), abs=1e-12)
    assert -1e-12 <= found <= 1 + 1e-12


@given(draws(), st.integers(0, 99))
def test_rotations_of_rows_common_rotations_of_columns_and_scales_change_nothing(pair, seed):
    x, y = pair
    expected = score(x, y)
    assert score(rotation(len(x), seed) @ x, y) == pytest.approx(expected, abs=1e-9)
    common = rotation(6, seed)
    assert score(x @ common, y @ common) == pytest.approx(expected, abs=1e-9)
    assert score(1e3 * x, 1e-3 * y) == pytest.approx(expected, abs=1e-9)


def test_a_rotation_of_only_one_tasks_columns_changes_it():
    x = np.random.default_rng(0).normal(size=(50, 6)) * [9, 1, 1, 1, 1, 1]
    assert abs(score(x, x @ rotation(6, 1)) - score(x, x)) > 0.1


@given(arrays(np.float64, (20, 3), elements=st.floats(-9, 9)), st.integers(0, 9))
def test_disjoint_supports_score_0(block, seed):
    x, y = np.zeros((2, 20, 6))
    x[:, :3], y[:, 3:] = block + rotation(20, 0)[:, :3], np.random.default_rng(seed).normal(size=(20, 3))
    assert score(x, y) == pytest.approx(0, abs=1e-12)


@given(draws())
def test_with_itself_it_is_the_norm_over_the_trace_of_what_is_kept(pair):
    x = pair[0]
    d = np.linalg.svd(x, compute_uv=False) ** 2
    d = d[: kept_rank(torch.as_tensor(d))]
    assert score(x, x) == pytest.approx(np.linalg.norm(d) / d.sum(), abs=1e-9)


def test_a_rank_of_one_scores_1_with_itself():
    x = np.outer(np.random.default_rng(0).normal(size=30), np.arange(1, 7))
    assert score(x, 5 * x) == pytest.approx(1)


def test_tall_matrices_stream_to_the_same_score():
    rng = np.random.default_rng(0)
    x, y = ((rng.normal(size=(200_000, 8)) @ rng.normal(size=(8, 8)) + 3).astype(np.float32) for _ in range(2))
    assert score(x, y, chunk=997) == pytest.approx(naive_score(x, y), abs=1e-9)
    assert score(rotation(8, 0)[[1, 0, 3, 2, 5, 4, 7, 6]] @ np.linalg.qr(x)[1], y) == pytest.approx(
        score(x, y), abs=1e-4
    )


def test_a_row_that_counts_three_times_is_three_rows():
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([3, 1, 0, 2, 1])
    counted, repeated = Covariance(4), covariance(x.repeat_interleave(counts, 0))
    counted.add(x, counts)
    torch.testing.assert_close(counted.matrix, repeated.matrix)
    assert counted.rows == repeated.rows == 7


@pytest.mark.parametrize(
    ("values", "rank"), [([1.0, 0], 1), ([99, 1], 1), ([98.9, 1.1], 2), ([1, 1, 1], 3), ([0.0, 0], 0)]
)
def test_the_rank_is_the_smallest_that_holds_99_percent(values, rank):
    assert kept_rank(torch.tensor(values, dtype=torch.float64)) == rank


def test_a_covariance_of_nothing_has_no_score():
    assert np.isnan(covariance_similarity(Covariance(3), covariance(np.eye(3))))


@pytest.mark.parametrize("kind", ["none", "free", "rotation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_first_every_alignment_returns_its_input_to_the_bit(kind, dtype):
    embeddings = torch.randn(3, 7, 20, generator=torch.Generator().manual_seed(0))
    alignment = make_alignment(kind, 20)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        assert torch.equal(alignment(embeddings), embeddings)


@pytest.mark.parametrize("kind", ["free", "rotation"])
def test_an_alignment_multiplies_by_its_matrix(kind):
    module = trained(kind)
    embeddings = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(module(embeddings), embeddings @ module.matrix())
    assert (module.matrix() - torch.eye(5)).abs().max() > 0.05


def test_a_rotation_stays_one_while_it_learns():
    matrix = trained("rotation").matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(5), atol=1e-5, rtol=0)
    assert torch.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
    free = trained("free").matrix()
    assert (free @ free.T - torch.eye(5)).abs().max() > 0.05


def trained(kind):
    """An alignment after thirty steps towards a matrix that is no rotation."""
    module = make_alignment(kind, 5)
    generator = torch.Generator().manual_seed(0)
    x, goal = torch.randn(50, 5, generator=generator), torch.randn(5, 5, generator=generator)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.03)
    for _ in range(30):
        optimizer.zero_grad()
        (module(x) - x @ goal).square().mean().backward()
        optimizer.step()
    return module.requires_grad_(False)


def test_decay_pulls_a_free_matrix_towards_the_identity():
    module = FreeAlignment(3)
    with torch.no_grad():
        module.delta.fill_(1.0)
    module.delta.grad = torch.zeros(3, 3)
    torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=1.0).step()
    assert torch.all(module.delta < 1)
