"""Uncertainty-based sampling: candidates that depend on nothing but their keys, and a choice that changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.stats import chisquare

from models.augmentation.draws import IDENTITY
from models.augmentation.operations import NAMES
from models.augmentation.policies import ComposedPolicy, PolicySettings, UncertaintyPolicy
from models.data.image_batches import examples
from models.networks.multitask import NetworkSettings, initial_network
from models.training import image_training, selection
from models.training.image_step import Step
from models.training.image_training import TrainingSettings, fit
from models.training.losses import image_losses, label_entropy
from models.training.selection import Selection, chosen_over_drawn, score, select
from models.weighting.registry import UniformSettings, WeightingSettings, make_weighting
from tests.models.training.test_distributed import WITHOUT_NORMALISATION

POLICY: TypeAdapter = TypeAdapter(PolicySettings)
LABELS = ("a", "b", "c")
SETTINGS = TrainingSettings(epochs=3, batch_size=16, learning_rate=3e-3, precision="32")
NATURAL = {"operations": "paper", "then": "paper"}


def images(n, seed, first=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(-1, 2, (n, 3), generator=generator, dtype=torch.int8)
    pixels = torch.randint(0, 200, (n, 16, 16), generator=generator) + 50 * (targets[:, :1, None] == 1)
    return examples(pixels.to(torch.uint8), targets, tuple(str(first + i) for i in range(n)))


TRAIN, VAL = images(50, 0), images(30, 1, first=1000)


def network(backbone="conv4"):
    return initial_network(NetworkSettings(backbone=backbone), LABELS, TRAIN.pixels, seed=0)


def run(policy, settings=SETTINGS, method="uniform", backbone="conv4", **how):
    rule = make_weighting(TypeAdapter(WeightingSettings).validate_python({"kind": method}), 3)
    return fit(
        network(backbone),
        rule,
        TRAIN,
        VAL,
        settings,
        seed=0,
        device="cpu",
        policy=POLICY.validate_python(policy),
        **how,
    )


def bits(fitted):
    return [(name, value.tolist()) for name, value in fitted.best_state.items()] + [
        report.losses for report in fitted.history
    ]


def batches(monkeypatch, policy, settings=SETTINGS, **how):
    """Every image that a training trains on: (epoch, row) -> the pixels and targets of its candidates, as bytes."""
    seen = {}

    class Recording(Selection):
        def __call__(self, candidates, number):
            count = len(candidates.pixels) // len(candidates.samples)
            rows = candidates.samples.repeat(count).tolist()
            for i, row in enumerate(rows):
                key = self._epoch, row, i // len(candidates.samples)
                seen[key] = candidates.pixels[i].numpy().tobytes(), candidates.targets[i].tolist()
            return super().__call__(candidates, number)

    monkeypatch.setattr(image_training, "Selection", Recording)
    run(policy, settings, **how)
    return seen


UNCERTAIN = {"kind": "uncertainty", **NATURAL}


def test_candidates_do_not_depend_on_batch_size_placement_or_resumption(monkeypatch):
    whole = batches(monkeypatch, UNCERTAIN)
    assert len(whole) == 3 * 50 * 4
    assert len({value[0] for value in whole.values()}) > 550
    of_size = SETTINGS.model_copy(update={"batch_size": 7})
    assert batches(monkeypatch, UNCERTAIN, of_size) == whole
    streamed = SETTINGS.model_copy(update={"device_memory": 0.0})
    assert batches(monkeypatch, UNCERTAIN, streamed) == whole
    states = []
    run(UNCERTAIN, on_epoch=lambda report, state: states.append(state))
    resumed = batches(monkeypatch, UNCERTAIN, state=states[0])
    assert resumed == {key: value for key, value in whole.items() if key[0] > 1}


def test_the_first_candidate_is_that_of_composed_whatever_the_number_of_candidates(monkeypatch):
    composed = batches(monkeypatch, {"kind": "composed", **NATURAL})
    for candidates in (2, 4):
        found = batches(monkeypatch, {**UNCERTAIN, "candidates": candidates})
        assert {key: value for key, value in found.items() if key[2] == 0} == composed


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_what_is_chosen():
    """Batch normalisation would see a process's share only; this network has none."""
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-12, "epochs": 2})
    one, two = (
        run(UNCERTAIN, settings.model_copy(update={"devices": devices}), backbone=WITHOUT_NORMALISATION)
        for devices in (1, 2)
    )
    assert [report.drawn for report in one.history] == [report.drawn for report in two.history]
    assert sum(one.history[0].drawn) > 0
    assert [report.chosen for report in one.history] == [report.chosen for report in two.history]


def test_a_single_candidate_is_composed():
    assert bits(run({**UNCERTAIN, "candidates": 1})) == bits(run({"kind": "composed", **NATURAL}))


def test_before_the_end_of_the_warm_up_it_is_composed():
    assert bits(run({**UNCERTAIN, "warmup": 1.0})) == bits(run({"kind": "composed", **NATURAL}))
    half = run({**UNCERTAIN, "warmup": 0.5})
    assert half.history[0].losses == run({"kind": "composed", **NATURAL}).history[0].losses
    assert [bool(report.drawn) for report in half.history] == [False, True, True]


def chooser(steps=12, **policy):
    """The selection of a training, without the training."""
    rule, net = make_weighting(UniformSettings(), 3), network()
    made = UncertaintyPolicy(operations="paper", then="paper", **policy)
    return Selection(Step(net, rule, SETTINGS, "cpu"), made, rule, seed=0, steps=steps, n=len(TRAIN))


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 0), (0.5, 6), (1.0, 12)])
def test_selection_begins_after_its_share_of_the_steps(warmup, first):
    selecting = chooser(warmup=warmup, selected=2)
    candidates = [len(selecting.draw(torch.arange(5), 1, number).operations) // 5 for number in range(12)]
    assert candidates == [2] * first + [4] * (12 - first)


@pytest.mark.parametrize("selected", [1, 3])
def test_the_batch_holds_the_chosen_candidates_with_their_targets(monkeypatch, selected):
    selecting, rows = chooser(selected=selected), torch.tensor([31, 4, 17, 40, 8])
    drawn = selecting.draw(rows, 1, 0)
    used = torch.cat((rows, drawn.partner_rows))
    candidates = selecting.augment(drawn, TRAIN.pixels[used], TRAIN.targets[used], used)
    scores = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(selection, "score", lambda *given, **how: scores.flatten())
    batch = selecting(candidates, 0)
    for s in range(selected):
        for i in range(5):
            chosen = scores[:, i].argsort(descending=True)[s]
            assert torch.equal(batch.pixels[s * 5 + i], candidates.pixels[chosen * 5 + i])
            assert torch.equal(batch.targets[s * 5 + i], candidates.targets[chosen * 5 + i])
    assert len(batch.pixels) == len(batch.targets) == selected * 5


def test_all_candidates_are_trained_without_a_score(monkeypatch):
    monkeypatch.setattr(Step, "evaluate", None)
    everything = run({**UNCERTAIN, "candidates": 3, "selected": 3})
    assert everything.history[-1].drawn == ()


def test_candidates_that_are_all_alike_make_no_difference():
    """With the same images in every candidate, four of them train as one does."""
    alike = {"operations": ["identity"]}
    one = bits(run({"kind": "uncertainty", "candidates": 1, **alike}))
    for selection_rule in ("highest", "lowest", "proportional"):
        assert bits(run({"kind": "uncertainty", "candidates": 4, "selection": selection_rule, **alike})) == one


def test_scoring_leaves_buffers_gradients_modes_and_generators_as_they_are():
    net = network()
    step = Step(net, make_weighting(UniformSettings(), 3), SETTINGS, "cpu")
    net.train()
    for parameter in net.parameters():
        parameter.grad = torch.rand_like(parameter)
    net.trunks[0].eval()  # a part in another mode than the whole keeps it
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()
    logits = step.evaluate(TRAIN.pixels)
    assert not logits.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["pcgrad", "svd_dynamic", "uncertainty", "famo"])
def test_rules_of_every_form_train_on_selected_candidates(method):
    fitted = run({**UNCERTAIN, "candidates": 3, "selected": 2, "task_weights": "current"}, method=method)
    assert sum(fitted.history[-1].chosen) <= sum(fitted.history[-1].drawn)


def test_a_split_batch_is_scored_alike():
    whole, split = (
        run(
            UNCERTAIN,
            SETTINGS.model_copy(update={"micro_batch": size, "learning_rate": 1e-12}),
            backbone=WITHOUT_NORMALISATION,
        )
        for size in (None, 5)
    )
    assert [report.drawn for report in whole.history] == [report.drawn for report in split.history]
    assert [report.chosen for report in whole.history] == [report.chosen for report in split.history]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.data())
def test_highest_and_lowest_are_those_of_a_sort(candidates, b, data):
    selected = data.draw(st.integers(1, candidates))
    values = data.draw(st.lists(st.integers(0, 4), min_size=candidates * b, max_size=candidates * b))
    scores = torch.tensor(values, dtype=torch.float32).view(candidates, b)
    for rule, sign in (("highest", -1), ("lowest", 1)):
        policy = UncertaintyPolicy(candidates=candidates, selected=selected, selection=rule)
        found = select(policy, scores, seed=0, epoch=1, samples=torch.arange(b))
        for i in range(b):
            column = scores[:, i].tolist()
            assert found[:, i].tolist() == sorted(range(candidates), key=lambda c: (sign * column[c], c))[:selected]


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
def test_proportional_choice_has_the_scores_as_shares(scores):
    n = 40_000
    policy = UncertaintyPolicy(selection="proportional", selected=2)
    found = select(policy, torch.tensor(scores)[:, None].expand(4, n), seed=0, epoch=1, samples=torch.arange(n))
    shares = torch.tensor(scores) / sum(scores) if sum(scores) else torch.full((4,), 0.25)
    counts = torch.bincount(found.flatten(), minlength=4)
    assert not counts[shares == 0].any()
    assert chisquare(counts[shares > 0], shares[shares > 0] * 2 * n).pvalue > 1e-4
    assert abs((found[0] == found[1]).float().mean() - (shares**2).sum()) < 0.01  # with replacement


def test_a_random_score_chooses_every_operation_as_often_as_it_is_drawn(monkeypatch):
    def random_score(policy, logits, targets, weights, *, classes):
        random_score.seed += 1
        return torch.rand(len(targets), generator=torch.Generator().manual_seed(random_score.seed))

    random_score.seed = 0
    monkeypatch.setattr(selection, "score", random_score)
    fitted = run({**UNCERTAIN, "then": "nothing"}, SETTINGS.model_copy(update={"epochs": 40}))
    drawn, chosen = (torch.tensor([getattr(r, name) for r in fitted.history]).sum(0) for name in ("drawn", "chosen"))
    listed = drawn > 0
    listed[IDENTITY] = False
    assert listed.sum() == 16
    assert chisquare(chosen[listed], drawn[listed] * chosen[listed].sum() / drawn[listed].sum()).pvalue > 1e-4


def test_chosen_over_drawn_is_a_ratio_of_shares_of_candidates():
    policy = UncertaintyPolicy(candidates=4, selected=2)
    drawn, chosen = [0] * len(NAMES), [0] * len(NAMES)
    drawn[IDENTITY], drawn[NAMES.index("rotate")], drawn[NAMES.index("invert")] = 9, 40, 10
    chosen[NAMES.index("rotate")], chosen[NAMES.index("invert")] = 20, 10
    found = chosen_over_drawn(policy, [((), ()), (drawn, chosen), (drawn, chosen)])
    assert found == {"rotate": 1.0, "invert": 2.0}
    assert chosen_over_drawn(policy, [((), ())]) == {}
    assert chosen_over_drawn(ComposedPolicy(), []) == {}


def naive_score(policy, logits, targets, weights):
    total, weight = 0.0, 0.0
    for logit, target, alpha in zip(logits.tolist(), targets.tolist(), weights.tolist(), strict=True):
        if target >= 0 and alpha > 0:
            p = torch.tensor(logit, dtype=torch.float64).sigmoid()
            loss = -(target * p.log() + (1 - target) * (1 - p).log()).item()
            if policy.score == "kl_divergence" and 0 < target < 1:
                t = torch.tensor(target, dtype=torch.float64)
                loss += (t * t.log() + (1 - t) * (1 - t).log()).item()
            total, weight = total + alpha * loss, weight + alpha
    return total / weight if weight else 0.0


@settings(deadline=None)
@given(st.integers(0, 2**20), st.sampled_from(["cross_entropy", "kl_divergence"]))
def test_the_score_is_the_weighted_mean_over_known_labels(seed, kind):
    generator = torch.Generator().manual_seed(seed)
    logits, weights = torch.randn(6, 4, generator=generator), 2 * torch.rand(4, generator=generator) - 0.3
    targets = torch.rand(6, 4, generator=generator)
    targets = torch.where(torch.rand(6, 4, generator=generator) < 0.3, -1.0, targets)
    targets[0] = -1
    policy = UncertaintyPolicy(score=kind)
    found = score(policy, logits, targets, weights, classes=None)
    assert found.tolist() == pytest.approx(
        [naive_score(policy, *each, weights) for each in zip(logits, targets, strict=True)], abs=1e-5
    )


def test_the_divergence_of_a_perfect_prediction_of_a_mixed_label_is_zero():
    share = torch.tensor([[0.3], [0.9], [0.0], [1.0]])
    perfect = torch.logit(share.clamp(1e-7, 1 - 1e-7))
    assert score(UncertaintyPolicy(score="kl_divergence"), perfect, share, torch.ones(1), classes=None).max() < 1e-5
    assert score(UncertaintyPolicy(), perfect, share, torch.ones(1), classes=None)[0] > 0.5
    distribution = torch.tensor([[0.2, 0.3, 0.5]])
    classes = {"classes": 3}
    losses, _ = image_losses(distribution.log(), distribution, **classes)
    torch.testing.assert_close(losses, label_entropy(distribution, **classes))


def test_the_mask_of_chosen_candidates_counts(monkeypatch):
    """A partner with an unknown label makes the mixed label unknown; the step's loss leaves it out."""
    fitted = run({"kind": "composed", "operations": ["mixup"], "length": 1})
    assert all(torch.tensor(report.losses).isfinite().all() for report in fitted.history)
    assert ComposedPolicy(operations=("mixup",)).mixes
    assert NAMES[IDENTITY] == "identity"
