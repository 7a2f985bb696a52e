"""The loop over tasks against a naive one, its phases to the bit, and its resumption to the bit."""

import io
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.data.text_batches import TaskBatches, text_examples
from models.errors import DivergenceError, SettingError
from models.networks.text import TextNetworkSettings, initial_text_network, transfer_network
from models.networks.word_encoders import CnnSettings, LstmSettings, MlpSettings
from models.training import text_training
from models.training.text_training import TextTrainingSettings, fit_text, predict_text

WORDS = 60
TASKS = {"mood": 2, "topic": 3}
SETTINGS = TextTrainingSettings(
    epochs=3, batch_size=8, learning_rate=5e-3, weight_decay=0.01, warmup=0.2, decay="linear", clip=0.5
)
PLAIN = TextTrainingSettings(epochs=2, batch_size=8, learning_rate=5e-3)
ALTERNATING = SETTINGS.model_copy(update={"schedule": "alternating"})


def texts(task, n, seed):
    """Sentences whose class shows in which words they hold."""
    rng = np.random.default_rng([seed, *task.encode()])
    targets = rng.integers(0, TASKS[task], n)
    lengths = rng.integers(2, 12, n)
    ids = [
        1 + (rng.integers(0, 20, length) + 18 * target) % (WORDS - 1)
        for length, target in zip(lengths, targets, strict=True)
    ]
    return text_examples(np.concatenate(ids), np.cumsum([0, *lengths]), targets)


TRAIN = {task: texts(task, n, 0) for task, n in (("mood", 60), ("topic", 36))}
VAL = {task: texts(task, 40, 1) for task in TASKS}


def toy_network(alignment="none", encoder=LstmSettings, seed=0, **changed):
    settings = TextNetworkSettings(encoder=encoder(**({"dimension": 8, "width": 6} | changed)), alignment=alignment)
    return initial_text_network(settings, TASKS, seed=seed, words=WORDS)


def run(settings=SETTINGS, alignment="none", network=None, **kwargs):
    network = toy_network(alignment) if network is None else network
    return fit_text(network, TRAIN, VAL, settings, seed=0, device="cpu", **kwargs)


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def results(report):
    """An epoch's report without its times."""
    return (
        report.epoch, report.losses, report.alignment_losses, report.val_scores, report.val_mean, report.learning_rate,
        report.padding_share,
    )  # fmt: skip


@pytest.mark.parametrize("encoder", [LstmSettings, CnnSettings, MlpSettings])
def test_the_weights_are_those_of_a_naive_loop(encoder):
    """The loop of a tutorial: dense gradients, one Adam for all, texts one after another where they are packed."""
    settings = PLAIN.model_copy(update={"clip": 0.3, "weight_decay": 0.0})
    ours, theirs = (toy_network(encoder=encoder, dropout=0.0) for _ in range(2))
    last = []
    run(settings, network=ours, on_epoch=lambda report, state: last.append(state["network"]))
    theirs.words.sparse = False
    adam = torch.optim.Adam(theirs.parameters(), lr=settings.learning_rate)
    batches = TaskBatches(TRAIN, 8, 1.0, seed=0)
    for epoch in (1, 2):
        for task, rows, _ in batches.epoch(epoch):
            batch = TRAIN[task].batch(rows)
            adam.zero_grad()
            cross_entropy(theirs(task, batch), batch.targets).backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
            adam.step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(last[-1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("schedule", ["joint", "alternating"])
@pytest.mark.parametrize("alignment", ["free", "rotation"])
def test_with_the_identity_held_it_is_the_unaligned_training_to_the_bit(alignment, schedule):
    """Frozen at R = I. An alignment phase then trains heads alone, so it must be absent from the comparison."""
    network = toy_network(alignment)
    for parameter in network.alignment_parameters():
        parameter.requires_grad_(False)
    settings = SETTINGS.model_copy(update={"schedule": schedule, "alignment_share": 1e-9})
    aligned, plain = run(settings, network=network), run(settings)
    shared = {name: value for name, value in aligned.best_state.items() if not name.startswith("alignments")}
    assert same_bits(shared, plain.best_state)
    assert [results(r) for r in aligned.history] == [results(r) for r in plain.history]


class Watched:
    """What stood where before and after each phase: the network's tensors, and the moments of its optimisers."""

    def __init__(self, monkeypatch):
        self.phases = []
        phase = text_training._TextTrainer._phase

        def watched(run, steps, *args):
            before = self.tensors(run)
            losses = phase(run, steps, *args)
            if steps:
                self.phases.append((before, self.tensors(run)))
            return losses

        monkeypatch.setattr(text_training._TextTrainer, "_phase", watched)

    def tensors(self, run):
        names = {id(parameter): name for name, parameter in run.network.named_parameters()}
        found = {name: value.clone() for name, value in run.network.state_dict().items()}
        for parameter, moments in run.step.optimizer.state.items():
            found |= {f"{names[id(parameter)]}: {slot}": value.clone() for slot, value in moments.items()}
        rows = run.step.table_optimizer.state_dict()
        return found | {f"_own_words: {slot}": torch.as_tensor(value).clone() for slot, value in rows.items()}

    def changed(self, number):
        before, after = self.phases[number]
        return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("alignment", ["free", "rotation"])
@pytest.mark.parametrize("encoder", [LstmSettings, CnnSettings, MlpSettings])
def test_an_alignment_phase_changes_no_bit_of_b_nor_of_its_moments(monkeypatch, encoder, alignment):
    watched = Watched(monkeypatch)
    run(ALTERNATING.model_copy(update={"weight_decay": 0.1}), network=toy_network(alignment, encoder))
    assert len(watched.phases) == 2 * 3
    for number in range(6):
        parts = {name.split(".")[0].split(":")[0] for name in watched.changed(number)}
        expected = {"alignments", "heads"} if number % 2 else {"encoder", "_own_words", "heads"}
        assert parts == expected
    learned = {name for name in watched.changed(1) if ":" not in name and name.startswith("alignments")}
    assert len(learned) == len(TASKS)


@pytest.mark.parametrize("settings", [SETTINGS, ALTERNATING])
def test_a_phase_leaves_no_word_waiting_for_its_momentum(monkeypatch, settings):
    phase = text_training._TextTrainer._phase
    tables = []

    def watched(run, *args):
        losses = phase(run, *args)
        tables.append(run.network.words.weight.detach().clone())
        run.step.catch_up()
        assert torch.equal(run.network.words.weight, tables[-1])
        return losses

    monkeypatch.setattr(text_training._TextTrainer, "_phase", watched)
    run(settings, "free")
    assert len(tables) == 2 * 3


def test_joint_training_moves_the_matrices_too():
    network = toy_network("free")
    run(network=network)
    assert all(network.alignment(task).delta.abs().max() > 0 for task in TASKS)


def test_alternating_without_alignment_is_joint():
    assert same_bits(run(ALTERNATING).best_state, run().best_state)


def test_a_frozen_shared_module_stays_to_the_bit():
    network = toy_network("free")
    before = [parameter.clone() for parameter in network.shared_parameters()]
    fitted = run(SETTINGS.model_copy(update={"freeze_shared": True, "weight_decay": 0.1}), network=network)
    assert all(torch.equal(old, new) for old, new in zip(before, network.shared_parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in network.shared_parameters())
    assert fitted.history[-1].losses["mood"] < fitted.history[0].losses["mood"]


@pytest.mark.parametrize(
    ("alignment", "settings"),
    [("none", SETTINGS), ("free", ALTERNATING), ("rotation", SETTINGS),
     ("free", SETTINGS.model_copy(update={"sampling_exponent": 0.3, "micro_batch": 3}))],
)  # fmt: skip
@pytest.mark.parametrize("survived", [1, 2])
def test_a_killed_training_continues_to_the_same_bits(alignment, settings, survived):
    whole_states = []
    whole = run(settings, alignment, on_epoch=lambda report, state: whole_states.append(state))
    file = io.BytesIO()

    def killed(report, state):
        if report.epoch == survived:
            torch.save(state, file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings, alignment, on_epoch=killed)
    file.seek(0)
    states = []
    resumed = run(
        settings, alignment, state=torch.load(file, weights_only=True),
        on_epoch=lambda report, state: states.append(state),
    )  # fmt: skip
    assert len(states) == 3 - survived
    assert same_bits(whole.best_state, resumed.best_state)
    assert same_bits(whole_states[-1]["network"], states[-1]["network"])
    assert torch.equal(whole_states[-1]["rows"]["first"], states[-1]["rows"]["first"])
    for slot, values in whole_states[-1]["optimizer"]["state"].items():
        assert same_bits(values, states[-1]["optimizer"]["state"][slot])
    assert [results(r) for r in whole.history] == [results(r) for r in resumed.history]


@pytest.mark.parametrize("survived", [1, 2, 3])
def test_a_state_of_the_time_before_there_was_one_loop_goes_on_to_the_same_bits(survived):
    states = []
    whole = run(ALTERNATING, "free", on_epoch=lambda report, state: states.append(deepcopy(state)))
    state = states[survived - 1]
    names = (
        "epoch", "losses", "alignment_losses", "val_scores", "val_mean", "learning_rate", "padding_share", "seconds",
        "validation_seconds",
    )  # fmt: skip
    before = {name: state[name] for name in ("determined_by", "network", "optimizer", "rows", "best")} | {
        "history": [
            {name: record[name] for name in names} | {"texts_per_second": record["items_per_second"]}
            for record in state["history"]
        ]
    }
    assert set(before["best"]) == {"epoch", "val_mean", "network"}
    resumed = run(ALTERNATING, "free", state=before)
    assert same_bits(whole.best_state, resumed.best_state)
    assert (resumed.best_epoch, resumed.best_val_mean) == (whole.best_epoch, whole.best_val_mean)
    assert [results(r) for r in resumed.history] == [results(r) for r in whole.history]
    assert list(state["determined_by"]) == ["seed", "training", "network", "tasks", "metrics", "number of texts"]


def test_a_finished_training_resumes_to_its_result_without_a_step():
    states = []
    whole = run(on_epoch=lambda report, state: states.append(state))
    again = run(state=states[-1], progress=lambda done, total: pytest.fail("a step was made"))
    assert same_bits(whole.best_state, again.best_state)
    assert (again.best_epoch, again.history) == (whole.best_epoch, whole.history)


def test_trainings_in_parallel_threads_give_the_bits_of_one_alone():
    before = torch.get_rng_state()
    alone = [run(network=toy_network(seed=seed)).best_state for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda seed: run(network=toy_network(seed=seed)).best_state, range(3)))
    assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_a_state_of_other_settings_is_refused():
    states = []
    run(on_epoch=lambda report, state: states.append(state))
    with pytest.raises(SettingError, match="made with another training"):
        run(PLAIN, state=states[0])
    with pytest.raises(SettingError, match="made with another network"):
        run(alignment="free", state=states[0])


def test_the_network_ends_with_the_best_epoch_by_the_mean_over_tasks():
    network = toy_network()
    fitted = run(network=network)
    means = [report.val_mean for report in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmax(means))
    assert fitted.best_val_mean == max(means)
    assert same_bits(network.state_dict(), fitted.best_state)
    assert not network.training
    for report in fitted.history:
        assert report.val_mean == pytest.approx(np.mean(list(report.val_scores.values())))


def test_it_learns_what_can_be_read_and_predicts_in_the_order_given():
    network = toy_network("free")
    fitted = run(PLAIN.model_copy(update={"epochs": 12}), network=network)
    assert fitted.best_val_mean > 0.8
    for task, examples in VAL.items():
        probabilities = predict_text(network, task, examples)
        assert probabilities.shape == (40, TASKS[task])
        torch.testing.assert_close(probabilities.sum(1), torch.ones(40))
        right = (probabilities.argmax(1) == examples.targets).double().mean()
        assert float(right) == pytest.approx(fitted.history[fitted.best_epoch - 1].val_scores[task])


def test_transfer_fine_tunes_a_target_behind_its_own_matrix():
    source = toy_network()
    run(PLAIN.model_copy(update={"epochs": 12}), network=source)
    target = transfer_network(source, "mood", 2, "rotation", seed=1)
    before = [parameter.clone() for parameter in target.shared_parameters()]
    settings = PLAIN.model_copy(update={"epochs": 8, "learning_rate": 0.03, "freeze_shared": True})
    data = {"mood": TRAIN["mood"]}, {"mood": VAL["mood"]}
    fitted = fit_text(target, *data, settings, seed=1, device="cpu")
    assert fitted.best_val_mean > 0.8
    assert all(torch.equal(old, new) for old, new in zip(before, target.shared_parameters(), strict=True))


def test_every_step_is_reported_once_and_in_order():
    seen = []
    run(ALTERNATING, "free", progress=lambda done, total: seen.append((done, total)))
    per_epoch = (8 + 5) + round(0.5 * (8 + 5))
    assert seen == [(step, 3 * per_epoch) for step in range(1, 3 * per_epoch + 1)]


def test_metrics_choose_the_epoch():
    fitted = run(metrics={"mood": ("f1", "accuracy"), "topic": ("matthews",)})
    assert set(fitted.history[0].val_scores) == set(TASKS)
    accuracies = run().history[0].val_scores
    assert fitted.history[0].val_scores["topic"] != accuracies["topic"]


def test_a_loss_that_is_not_finite_names_task_epoch_and_step():
    """A head's bias becomes infinite in the second epoch: the next step of its task has no finite loss."""
    network = toy_network()
    tasks = [task for task, *_ in TaskBatches(TRAIN, PLAIN.batch_size, 1.0, seed=0).epoch(2)]
    before = next(i for i in range(1, len(tasks) - 1) if tasks[i] == tasks[0] != tasks[i + 1])

    def spoil(done, total):
        if done == 13 + before:  # one more step, of the other task, stays finite
            torch.nn.init.constant_(network.heads[network._module_key(tasks[before + 1])].bias, torch.inf)

    where = f"loss of {tasks[before + 1]} is not finite in epoch 2, step {before + 2} of 13: lower learning_rate"
    with pytest.raises(DivergenceError, match=where):
        run(PLAIN, network=network, progress=spoil)


def test_a_frozen_shared_module_leaves_nothing_to_alternate_with():
    with pytest.raises(SettingError, match="nothing to alternate"):
        run(ALTERNATING.model_copy(update={"freeze_shared": True}))


def test_data_that_are_not_the_networks_are_refused():
    network = toy_network()
    with pytest.raises(SettingError, match="training texts are given for mood"):
        fit_text(network, {"mood": TRAIN["mood"]}, VAL, PLAIN, seed=0)
    with pytest.raises(SettingError, match="f1 is for two classes"):
        run(metrics={"mood": ("f1",), "topic": ("f1",)})
    with pytest.raises(SettingError, match="unknown metric 'auc'"):
        run(metrics={"mood": ("auc",), "topic": ("f1",)})
    with pytest.raises(SettingError, match="has token 99"):
        predict_text(network, "mood", text_examples([99], [0, 1], [0]))
    with pytest.raises(SettingError, match="has class 2"):
        predict_text(network, "mood", text_examples([9], [0, 1], [2]))
    with pytest.raises(SettingError, match="unknown task"):
        predict_text(network, "mode", VAL["mood"])
