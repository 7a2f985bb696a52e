"""Sampling of texts: candidates that depend on nothing but their keys, and a choice that changes nothing else."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from models.augmentation.word_replacement import WORD_OPERATIONS, UncertainWordPolicy, WordPolicy
from models.data.text_batches import TaskBatches, TaskStep
from models.errors import SettingError
from models.networks.pretrained_encoder import PretrainedSettings
from models.networks.text import TextNetworkSettings, initial_text_network
from models.networks.word_encoders import CnnSettings, MlpSettings
from models.training import text_training
from models.training.selection import chosen_over_drawn
from models.training.text_selection import TextSelection
from models.training.text_step import TextStep
from models.training.text_training import TextTrainingSettings, fit_text
from tests.models.training.test_text_training import ALTERNATING, TASKS, TRAIN, VAL, results, same_bits

SETTINGS = TextTrainingSettings(epochs=3, batch_size=8, learning_rate=5e-3)
UNCERTAIN = UncertainWordPolicy(probability=0.8)


def network(encoder=MlpSettings, alignment="none", **changed):
    made = encoder(**({"dimension": 8, "width": 6} | changed))
    return initial_text_network(TextNetworkSettings(encoder=made, alignment=alignment), TASKS, seed=0, words=60)


def run(settings=SETTINGS, *, net=None, **how):
    return fit_text(network() if net is None else net, TRAIN, VAL, settings, seed=0, device="cpu", **how)


def bits(fitted):
    return [(name, value.tolist()) for name, value in fitted.best_state.items()] + list(map(results, fitted.history))


def batches(monkeypatch, policy, settings=SETTINGS, **how):
    """Every candidate of a training, by task, seed of the phase, pass, text and number: its words."""
    seen = {}

    class Recording(TextSelection):
        def _candidates(self, policy, step, batch, seed, count):
            found = super()._candidates(policy, step, batch, seed, count)
            for i in range(count * len(step.rows)):
                c, row = i // len(step.rows), int(step.rows[i % len(step.rows)])
                words = found[0].ids[i, : found[0].lengths[i]].tolist()
                assert seen.setdefault((step.task, seed, step.passes, row, c), words) == words
            return found

    monkeypatch.setattr(text_training, "TextSelection", Recording)
    run(settings, policy=policy, **how)
    return seen


@pytest.mark.parametrize("schedule", ["joint", "alternating"])
def test_candidates_do_not_depend_on_batch_size_or_resumption(monkeypatch, schedule):
    settings = ALTERNATING.model_copy(update={"schedule": schedule, "alignment_share": 1.0})
    whole = batches(monkeypatch, UNCERTAIN, settings, net=network(alignment="free"))
    assert len(whole) == 4 * 3 * (60 + 36) * (2 if schedule == "alternating" else 1)
    smaller = settings.model_copy(update={"batch_size": 5})
    assert batches(monkeypatch, UNCERTAIN, smaller, net=network(alignment="free")) == whole
    states = []
    run(settings, net=network(alignment="free"), policy=UNCERTAIN, on_epoch=lambda _, state: states.append(state))
    resumed = batches(monkeypatch, UNCERTAIN, settings, net=network(alignment="free"), state=states[0])
    assert resumed == {key: words for key, words in whole.items() if key[2] > 0}


def test_the_first_candidate_is_that_of_composed_whatever_the_number_of_candidates(monkeypatch):
    composed = batches(monkeypatch, WordPolicy(probability=0.8))
    for candidates in (2, 5):
        found = batches(monkeypatch, UNCERTAIN.model_copy(update={"candidates": candidates}))
        assert {key: words for key, words in found.items() if key[-1] == 0} == composed


def test_a_text_visited_twice_in_an_epoch_is_drawn_anew(monkeypatch):
    tempered = SETTINGS.model_copy(update={"sampling_exponent": 0.0, "epochs": 1})
    found = batches(monkeypatch, UNCERTAIN, tempered)
    again = [(task, seed, passes, *key) for task, seed, passes, *key in found if task == "topic" and passes == 1]
    assert again
    assert any(found[task, seed, 0, *key] != found[task, seed, 1, *key] for task, seed, _, *key in again)


def test_a_single_candidate_and_a_whole_warm_up_are_composed_to_the_bit():
    composed = bits(run(policy=WordPolicy()))
    assert bits(run(policy=UncertainWordPolicy(candidates=1))) == composed
    assert bits(run(policy=UncertainWordPolicy(warmup=1.0))) == composed
    half = run(policy=UncertainWordPolicy(warmup=0.5))
    assert half.history[0].losses == run(policy=WordPolicy()).history[0].losses
    assert [bool(report.drawn) for report in half.history] == [False, True, True]


def test_a_replacement_that_replaces_nothing_is_no_policy_to_the_bit():
    plain = bits(run())
    for nothing in ({"share": 0}, {"probability": 0}):
        assert bits(run(policy=WordPolicy(**nothing))) == plain
        for selection in ("highest", "lowest", "proportional"):
            assert bits(run(policy=UncertainWordPolicy(selection=selection, **nothing))) == plain


@pytest.mark.parametrize("selected", [1, 3])
def test_a_batch_holds_the_candidates_of_highest_loss_with_their_targets(selected):
    net = network(dropout=0.3)
    policy = UNCERTAIN.model_copy(update={"selected": selected})
    selecting = TextSelection(TextStep(net, SETTINGS, "cpu"), policy, TRAIN, steps=39)
    step = TaskBatches(TRAIN, 8, 1.0, seed=0).epoch(1)[0]
    batch = TRAIN[step.task].batch(step.rows)
    candidates, operations = selecting._candidates(policy, step, batch, 0, 4)
    net.eval()
    losses = cross_entropy(net(step.task, candidates), candidates.targets, reduction="none").view(4, -1)
    net.train()
    found = selecting(step, seed=0, number=0)
    b = len(step.rows)
    best = losses.argsort(dim=0, descending=True, stable=True)[:selected]
    for s in range(selected):
        for i in range(b):
            assert torch.equal(found.ids[s * b + i], candidates.ids[best[s, i] * b + i])
    assert found.targets.tolist() == batch.targets.tolist() * selected
    assert found.lengths.tolist() == batch.lengths.tolist() * selected
    drawn, chosen = (selecting.counts()[name] for name in ("drawn", "chosen"))
    assert list(drawn) == torch.bincount(operations, minlength=3).tolist()
    assert sum(chosen) == selected * b


def test_scoring_leaves_gradients_modes_masks_and_generators_as_they_are():
    net = network(CnnSettings, dropout=0.5)
    step = TextStep(net, SETTINGS, "cpu")
    net.train()
    net.mask_source.begin_step(3, 4)
    net.output_dropout.eval()  # a part in another mode than the whole keeps it
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes, state, seed = [m.training for m in net.modules()], torch.get_rng_state(), net.mask_source._seed
    logits = step.evaluate("mood", TRAIN["mood"].batch(torch.arange(9)))
    assert not logits.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert net.mask_source._seed == seed


def test_scores_are_of_the_words_as_they_are_with_their_missed_updates():
    net = network()
    step = TextStep(net, SETTINGS, "cpu")
    for number, rows in enumerate((torch.arange(20), torch.arange(40, 50))):
        step("mood", TRAIN["mood"].batch(rows), 0.1, seed=0, number=number)
    batch = TRAIN["mood"].batch(torch.arange(20))
    found = step.evaluate("mood", batch)
    step.catch_up()
    torch.testing.assert_close(found, net.eval()("mood", batch).detach())


def test_micro_batches_score_alike():
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-12})
    whole, split = (
        run(settings.model_copy(update={"micro_batch": size}), net=network(dropout=0.0), policy=UNCERTAIN)
        for size in (None, 3)
    )
    assert [report.chosen for report in whole.history] == [report.chosen for report in split.history]


@pytest.mark.parametrize("alignment", ["none", "free"])
def test_a_killed_training_with_selection_continues_to_the_same_bits(alignment):
    states, policy = [], UncertainWordPolicy(candidates=3, selected=2, selection="proportional", warmup=0.2)
    whole = run(ALTERNATING, net=network(alignment=alignment), policy=policy, on_epoch=lambda _, s: states.append(s))
    resumed = run(ALTERNATING, net=network(alignment=alignment), policy=policy, state=states[0])
    assert same_bits(whole.best_state, resumed.best_state)
    assert bits(whole) == bits(resumed)
    assert [report.chosen for report in whole.history] == [report.chosen for report in resumed.history]
    with pytest.raises(SettingError, match="made with another policy"):
        run(ALTERNATING, net=network(alignment=alignment), state=states[0])


def test_chosen_over_drawn_names_the_operations_on_words():
    ratios = chosen_over_drawn(UNCERTAIN, [((), ()), ((10, 20, 10), (1, 4, 5))], WORD_OPERATIONS)
    assert ratios == {"tf_idf": 0.8, "uniform": 2.0}


def test_an_encoder_of_subwords_is_refused_in_one_line():
    pytest.importorskip("transformers", reason="transformers is not installed")
    config = {
        "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 24, "type_vocab_size": 2,
    }  # fmt: skip
    net = initial_text_network(TextNetworkSettings(encoder=PretrainedSettings()), TASKS, seed=0, config=config)
    with pytest.raises(SettingError, match="policy composed replaces words, but a pretrained encoder reads subwords"):
        run(net=net, policy=WordPolicy())


def test_tasks_and_phases_are_drawn_independently(monkeypatch):
    """The first text of one task is not changed as the first of another, nor alike in both phases of an epoch."""
    same = {task: TRAIN["mood"] for task in TASKS}
    selecting = TextSelection(TextStep(network(), SETTINGS, "cpu"), UNCERTAIN, same, steps=39)
    rows = torch.arange(20)
    found = [
        selecting._candidates(UNCERTAIN, TaskStep(task, rows, 0), same[task].batch(rows), 0, 1)[0].ids for task in TASKS
    ]
    assert not torch.equal(*found)
    settings = ALTERNATING.model_copy(update={"alignment_share": 1.0, "epochs": 1})
    seen = batches(monkeypatch, UNCERTAIN, settings, net=network(alignment="free"))
    first, second = dict.fromkeys(seed for _, seed, *_ in seen)
    assert any(words != seen[task, second, *rest] for (task, seed, *rest), words in seen.items() if seed == first)
