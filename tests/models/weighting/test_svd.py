"""Algorithm 2 compared with explicit matrices, and checks of what it should and should not detect."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingError
from models.weighting.svd import Theta, svd_weights

SCALINGS = ["raw", "unit", "effect", "permutation"]


def explicit_theta(X, Y, known, scaling):
    """Theta from the explicit matrices in float64, one task at a time."""
    columns = []
    for i in range(Y.shape[1]):
        rows = known[:, i]
        x, y = X[rows].double(), Y[rows, i].double()
        n = len(x)
        if scaling == "raw":
            columns.append(x.T @ y / n)
            continue
        x, y = x - x.mean(0), y - y.mean()
        if y.abs().max() < 1e-12:
            columns.append(torch.zeros(X.shape[1], dtype=torch.float64))
        elif scaling == "unit":
            columns.append(x.T @ (y / y.norm()) / n**0.5)
        else:
            effect = x.T @ y / (y @ y)
            by_chance = (x * x).sum() / (y @ y) / (n - 1)
            shorter = (1 - by_chance / (effect @ effect)).clamp(min=0).sqrt() if scaling == "permutation" else 1.0
            columns.append(effect * shorter)
    return torch.stack(columns, 1)


def explicit_weights(theta, rank):
    """Algorithm 2 as printed: top left singular vectors as eigenvectors, then a norm per task."""
    _, vectors = torch.linalg.eigh(theta @ theta.T)
    alpha = (theta.T @ vectors[:, -rank:]).norm(dim=1)
    return alpha / alpha.sum() * theta.shape[1]


def streamed(X, Y, known=None, batch=37):
    known = torch.ones_like(Y, dtype=torch.bool) if known is None else known
    theta = Theta()
    for part in torch.arange(len(X)).split(batch):
        theta.add(X[part], Y[part], known[part])
    return theta


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def noisy_data(generator):
    """Features far from the origin, labels of every prevalence, a third of them unknown."""
    X = torch.randn(500, 20, generator=generator, dtype=torch.float64) + 30
    chance = torch.sigmoid(
        (X - 30) @ torch.randn(20, 6, generator=generator, dtype=torch.float64) - torch.arange(6) / 2
    )
    Y = (torch.rand(500, 6, generator=generator, dtype=torch.float64) < chance).to(torch.int8)
    return X, Y, torch.rand(500, 6, generator=generator) < 0.67


@pytest.mark.parametrize("scaling", SCALINGS)
def test_one_pass_equals_explicit_matrices_in_float64(noisy_data, scaling):
    X, Y, known = noisy_data
    ours = streamed(X, torch.where(known, Y, -1), known).matrix(scaling)
    reference = explicit_theta(X, Y, known, scaling)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10 * reference.abs().max().item())
    for rank in range(1, 7):
        torch.testing.assert_close(svd_weights(ours, rank), explicit_weights(reference, rank), rtol=1e-10, atol=1e-10)


def test_with_every_label_known_raw_gives_the_weights_of_the_printed_algorithm(noisy_data):
    X, Y, _ = noisy_data
    ours = svd_weights(streamed(X, Y).matrix("raw"), 2)
    torch.testing.assert_close(ours, explicit_weights(X.T @ Y.double(), 2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_batch_size_of_the_pass_does_not_matter(noisy_data, scaling):
    X, Y, known = noisy_data
    small, large = (streamed(X, Y, known, batch).matrix(scaling) for batch in (1, 500))
    torch.testing.assert_close(small, large, rtol=1e-9, atol=1e-11)


@settings(deadline=None, max_examples=60)
@given(
    rank_of_theta=st.integers(0, 5),
    scale=st.sampled_from([0.0, 1e-150, 1e-15, 1.0, 1e15, 1e150]),
    d=st.integers(1, 12),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_weights_sum_to_k_follow_the_tasks_and_ignore_scale(rank_of_theta, scale, d, seed, data):
    k = 5
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(d, rank_of_theta, generator=generator, dtype=torch.float64)
    theta = left @ torch.randn(rank_of_theta, k, generator=generator, dtype=torch.float64)
    rank = data.draw(st.integers(1, k))
    weights = svd_weights(scale * theta, rank)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(k)
    order = torch.randperm(k, generator=generator)
    torch.testing.assert_close(svd_weights(scale * theta[:, order], rank), weights[order], rtol=1e-6, atol=1e-6)
    if scale:
        torch.testing.assert_close(svd_weights(theta, rank), weights, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    scaling=st.sampled_from(SCALINGS),
    scale=st.sampled_from([0.0, 1e-15, 1.0, 1e15]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_features_and_labels_give_finite_weights(scaling, scale, share, seed):
    generator = torch.Generator().manual_seed(seed)
    X = scale * (torch.randn(40, 6, generator=generator, dtype=torch.float64) + 1)
    Y = torch.randint(0, 2, (40, 4), generator=generator, dtype=torch.int8)
    Y[:, 0] = 1  # constant
    known = torch.rand(40, 4, generator=generator) < share
    known[:, 3] = False  # nothing known
    weights = svd_weights(streamed(X, Y, known).matrix(scaling), 2)
    assert weights.isfinite().all()
    assert weights.sum().item() == pytest.approx(4)


@pytest.mark.parametrize("scaling", ["unit", "effect", "permutation"])
def test_a_constant_label_gets_no_weight_and_constant_features_give_none(noisy_data, scaling):
    X, Y, _ = noisy_data
    Y = torch.cat([Y, torch.ones(500, 1, dtype=torch.int8)], 1)
    assert svd_weights(streamed(X, Y).matrix(scaling), 3)[-1] == 0
    constant = torch.full_like(X, 1 / 3)
    assert torch.equal(svd_weights(streamed(constant, Y).matrix(scaling), 3), torch.ones(7, dtype=torch.float64))


def test_unit_weights_do_not_change_when_a_label_vector_is_scaled(generator):
    X = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    Y = X[:, :3] + torch.randn(200, 3, generator=generator, dtype=torch.float64)
    weights = svd_weights(streamed(X, Y).matrix("unit"), 1)
    scaled = svd_weights(streamed(X, Y * torch.tensor([1e15, 1e-9, 1.0])).matrix("unit"), 1)
    torch.testing.assert_close(weights, scaled)


def test_a_rank_outside_1_to_k_is_refused():
    for rank in (0, 4):
        with pytest.raises(SettingError, match=f"must be in 1..3, the number of labels; got {rank}"):
            svd_weights(torch.ones(5, 3, dtype=torch.float64), rank)


def test_a_pass_over_nothing_is_refused():
    with pytest.raises(SettingError, match="at least one training image"):
        Theta().matrix("unit")


def test_labels_missing_at_random_do_not_turn_the_weights(generator):
    """With sums instead of means, 90 % missing turned 1.00 / 1.00 into 1.52 / 0.48."""
    X = torch.randn(20_000, 10, generator=generator, dtype=torch.float64)
    Y = (X[:, :1] + 0.5 * torch.randn(20_000, 2, generator=generator, dtype=torch.float64) > 0).to(torch.int8)
    known = torch.ones(20_000, 2, dtype=torch.bool)
    known[:, 1] = torch.rand(20_000, generator=generator) < 0.1
    for scaling in SCALINGS[1:]:
        weights = svd_weights(streamed(X, Y, known).matrix(scaling), 1)
        assert (weights - 1).abs().max() < 0.05, scaling
    summed = streamed(X, Y, known).matrix("unit") * known.sum(0).double().sqrt()
    assert svd_weights(summed, 1)[0] > 1.4


def test_the_scalings_see_prevalence_as_their_documentation_says(generator):
    """Equally separated classes, 40 % and 2 % positives: effect is even, unit and raw favour the common label."""
    Y = (torch.rand(40_000, 2, generator=generator) < torch.tensor([0.4, 0.02])).to(torch.int8)
    noise = torch.randn(40_000, 12, generator=generator, dtype=torch.float64)
    X = noise + 0.8 * Y.double().sum(1, keepdim=True) * torch.eye(12, dtype=torch.float64)[0] + 1
    weights = {scaling: svd_weights(streamed(X, Y).matrix(scaling), 1) for scaling in SCALINGS}
    assert (weights["effect"] - 1).abs().max() < 0.1
    assert (weights["permutation"] - 1).abs().max() < 0.1
    expected = torch.tensor([(0.4 * 0.6) ** 0.5, (0.02 * 0.98) ** 0.5], dtype=torch.float64)
    torch.testing.assert_close(weights["unit"], 2 * expected / expected.sum(), rtol=0.1, atol=0.02)
    assert weights["raw"][0] > 1.85


def test_permutation_takes_away_what_chance_gives_a_rare_label(generator):
    """A label of pure noise has a larger effect the rarer it is; permutation more than halves it, on average."""
    kept = {"effect": 0.0, "permutation": 0.0}
    for _ in range(20):
        X = torch.randn(1000, 30, generator=generator, dtype=torch.float64)
        Y = torch.stack([X[:, 0] > 0, torch.rand(1000, generator=generator) < 0.02], 1).to(torch.int8)
        for scaling in kept:
            kept[scaling] += svd_weights(streamed(X, Y).matrix(scaling), 2)[1].item() / 20
    print(f"\nweight of a label without signal, 2 % positive: {kept}")
    assert kept["permutation"] < 0.5 * kept["effect"]


def linear_tasks(seed):
    """Section 1.4's check: X (m, d), Y (m, 2), and the true coefficients (d, 2); the first task is the noisy one."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    X, b = normal(300, 30), normal(30)
    truth = torch.stack([0.95 * normal(1) * b + 0.05 * normal(30) for _ in range(2)], 1)
    truth = truth / truth.norm(dim=0)
    Y = X @ truth + 0.5 * normal(300, 2)
    Y[:, 0] += 3.0 * normal(300)
    return X, Y, truth


def weighted_minimiser(X, Y, alpha, width):
    """The exact minimiser of sum_i alpha_i ||X B a_i - y_i||^2 over B (d, width) and a_i: reduced-rank regression."""
    root = alpha.sqrt()
    free = torch.linalg.lstsq(X, Y * root).solution
    V = torch.linalg.svd(X @ free, full_matrices=False).Vh[:width].T
    return free @ V @ V.T / root


def test_the_linear_check_of_the_paper_notes():
    """Weights about 0.53 and 1.47, error 0.44 to 0.20 at shared width 1; about 0.49 both ways at width 2."""
    weights, errors = [], {(width, kind): [] for width in (1, 2) for kind in ("uniform", "svd")}
    for seed in range(20):
        X, Y, truth = linear_tasks(seed)
        alpha = svd_weights(streamed(X, Y).matrix("unit"), 1)
        weights.append(alpha)
        for width, kind in errors:
            used = alpha if kind == "svd" else torch.ones_like(alpha)
            found = weighted_minimiser(X, Y, used, width)
            errors[width, kind].append(((found - truth) ** 2).sum(0).mean().item())
    noisy, clean = torch.stack(weights).mean(0).tolist()
    error = {key: sum(values) / len(values) for key, values in errors.items()}
    print(f"\nweights: noisy {noisy:.2f}, clean {clean:.2f}; errors by (width, weighting): {error}")
    assert noisy == pytest.approx(0.53, abs=0.06)
    assert clean == pytest.approx(1.47, abs=0.06)
    assert error[1, "uniform"] == pytest.approx(0.44, abs=0.08)
    assert error[1, "svd"] == pytest.approx(0.20, abs=0.05)
    assert error[2, "svd"] == pytest.approx(error[2, "uniform"], rel=1e-6)
    # the expectation is 30 / 269 * (9.25 + 0.25) / 2 = 0.53; twenty seeds give it with a standard error of 0.03
    assert error[2, "uniform"] == pytest.approx(0.49, abs=0.1)


def test_a_predictable_label_unrelated_to_the_others_is_seen_by_the_svd_but_not_by_the_norm(generator):
    X = torch.randn(5000, 20, generator=generator, dtype=torch.float64)
    shared, unrelated = X[:, 0], X[:, 1]
    Y = torch.stack([shared, shared, unrelated], 1) + 0.3 * torch.randn(
        5000, 3, generator=generator, dtype=torch.float64
    )
    theta = streamed(X, Y).matrix("unit")
    by_norm, by_direction = svd_weights(theta, 3), svd_weights(theta, 1)
    print(f"\nrank 3: {by_norm.tolist()}; rank 1: {by_direction.tolist()}")
    assert (by_norm - 1).abs().max() < 0.05
    assert by_direction[2] < 0.2
    assert by_direction[:2].min() > 1.4
