import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from models.training.losses import image_losses, known_labels, label_entropy, task_losses


def naive(logits, targets):
    losses = []
    for i in range(logits.shape[1]):
        terms = []
        for z, t in zip(logits[:, i].tolist(), targets[:, i].tolist(), strict=True):
            if t >= 0:
                terms.append(max(z, 0) - z * t + math.log1p(math.exp(-abs(z))))
        losses.append(sum(terms) / len(terms) if terms else 0.0)
    return losses


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_losses_equal_the_loop_over_known_labels(b, k, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(b, k, generator=generator)
    targets = torch.randint(-1, 2, (b, k), generator=generator, dtype=torch.int8)
    torch.testing.assert_close(task_losses(logits, targets).tolist(), naive(logits, targets), rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))
def test_the_losses_of_parts_add_up_to_those_of_the_whole(b, k, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(b, k, generator=generator)
    targets = torch.randint(-1, 2, (b, k), generator=generator, dtype=torch.int8)
    known = known_labels(targets)
    cut = zip(logits.tensor_split(parts), targets.tensor_split(parts), strict=True)
    whole = sum(task_losses(some, labels, known) for some, labels in cut)
    torch.testing.assert_close(whole, task_losses(logits, targets), rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 6), st.integers(1, 12), st.integers(0, 2**31))
def test_the_loss_of_one_class_of_several_is_the_mean_over_known_labels_in_whatever_parts(b, c, parts, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(b, c, generator=generator)
    targets = torch.randint(-1, c, (b, 1), generator=generator, dtype=torch.int8)
    terms = [z.logsumexp(0) - z[t] for z, (t,) in zip(logits.double(), targets.tolist(), strict=True) if t >= 0]
    expected = [float(sum(terms)) / len(terms) if terms else 0.0]
    torch.testing.assert_close(task_losses(logits, targets, classes=c).tolist(), expected, rtol=1e-5, atol=1e-6)
    cut = zip(logits.tensor_split(parts), targets.tensor_split(parts), strict=True)
    whole = sum(task_losses(some, labels, known_labels(targets), classes=c) for some, labels in cut)
    torch.testing.assert_close(whole.tolist(), expected, rtol=1e-5, atol=1e-6)


def test_a_task_without_a_known_label_has_loss_zero_and_sends_no_gradient():
    logits = torch.randn(4, 2, requires_grad=True)
    targets = torch.tensor([[1, -1], [0, -1], [1, -1], [0, -1]], dtype=torch.int8)
    losses = task_losses(logits, targets)
    losses.sum().backward()
    assert losses[1] == 0
    assert not logits.grad[:, 1].any()
    assert logits.grad[:, 0].all()
    assert known_labels(targets).tolist() == [4, 0]


def test_the_loss_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        losses = task_losses(torch.tensor([[1.001]], dtype=torch.bfloat16), torch.ones(1, 1, dtype=torch.int8))
    assert losses.dtype == torch.float32


def test_huge_logits_give_finite_losses():
    targets = torch.tensor([[1, 0]], dtype=torch.int8)
    assert task_losses(torch.tensor([[-1e30, 1e30]]), targets).isfinite().all()


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_the_loss_of_a_mixed_target_is_the_mean_of_the_losses_of_both_labels(b, k, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, share = 3 * torch.randn(b, k, generator=generator), torch.rand(b, 1, generator=generator)
    first, second = (torch.randint(0, 2, (b, k), generator=generator).float() for _ in range(2))
    mixed = image_losses(logits, share * first + (1 - share) * second)[0]
    both = [image_losses(logits, targets)[0] for targets in (first, second)]
    torch.testing.assert_close(mixed, share * both[0] + (1 - share) * both[1], rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**31))
def test_the_loss_of_mixed_classes_is_the_mean_of_the_losses_of_both_classes(b, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, share = 3 * torch.randn(b, classes, generator=generator), torch.rand(b, 1, generator=generator)
    targets = torch.randint(-1, classes, (2, b, 1), generator=generator)
    soft = torch.where(targets >= 0, one_hot(targets.clamp(min=0)[..., 0], classes).float(), -1.0)
    both = torch.where((soft >= 0).all(0), share * soft[0] + (1 - share) * soft[1], -1.0)
    losses, known = image_losses(logits, both, classes=classes)
    single = [image_losses(logits, each, classes=classes)[0] for each in targets]
    expected = torch.where(known, share * single[0] + (1 - share) * single[1], 0.0)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(known, (targets >= 0).all(0))
    assert torch.equal(known_labels(both, classes=classes), known.sum(0))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**31))
def test_no_prediction_has_a_lower_loss_than_the_entropy_of_the_label(b, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(b, classes, generator=generator)
    logits = 3 * torch.randn(b, classes, generator=generator)
    assert (image_losses(logits, target)[0] - label_entropy(target)).min() > -1e-5
    torch.testing.assert_close(image_losses(target.logit(), target)[0], label_entropy(target), rtol=1e-4, atol=1e-4)
    share = target / target.sum(1, keepdim=True)
    losses, _ = image_losses(logits, share, classes=classes)
    assert (losses - label_entropy(share, classes=classes)).min() > -1e-5
    assert not label_entropy((target > 0.5).to(torch.int8)).any()
