"""The loop alone, on a network of one weight whose scores are given."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DivergenceError, SettingError
from models.training.image_training import TrainingSettings
from models.training.loop import EpochReport, Trainer, learning_rate_at
from models.training.text_training import TextTrainingSettings

NAN = float("nan")


@dataclass(frozen=True)
class Report(EpochReport):
    val_scores: float
    note: str


class Counting(Trainer):
    """Each step adds one to the weight; an epoch has two steps, and its score is the given one."""

    report_type = Report
    remedy = "add less"

    def __init__(self, scores, *, higher_is_better=True):
        self.scores, self.higher_is_better = scores, higher_is_better
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.settings = SimpleNamespace(epochs=len(scores), learning_rate=1.0, warmup=0.0, decay="none")
        self.step = SimpleNamespace(state_dict=lambda: {"steps": [self.made]}, load_state_dict=self.load)
        self.total_steps, self.made, self.begun = 2 * len(scores), 0, []

    def load(self, state):
        self.made = state["steps"][0]

    def begin(self, epochs, *, resumed):
        self.begun.append((epochs, resumed))

    def train(self, epoch):
        def add(number):
            self.made += 1
            with torch.no_grad():
                self.network.weight += 1
            return number

        assert self.network.training
        return 20, {"note": str(self.make_steps(range(2 * epoch - 2, 2 * epoch), add))}

    def validate(self, epoch):
        return self.scores[epoch - 1], self.scores[epoch - 1]

    def determinants(self):
        return {"number of epochs": len(self.scores)}

    def go(self, state=None):
        """Train; return the result, the states of all epochs and the progress."""
        states, steps = [], []
        fitted = self.fit(state, lambda report, state: states.append(state), lambda *done: steps.append(done))
        return fitted, states, steps


@pytest.mark.parametrize(
    ("scores", "highest", "lowest"),
    [
        ((0.3, 0.5, 0.4), 2, 1),
        ((0.5, 0.5, 0.5), 1, 1),
        ((0.1, 0.2, 0.3), 3, 1),
        ((NAN, NAN, NAN), 3, 3),
        ((NAN, 0.2, 0.1), 2, 3),
        ((0.2, NAN, NAN), 1, 1),
    ],
)
def test_the_first_epoch_with_the_best_mean_is_selected_and_the_last_if_none_has_one(scores, highest, lowest):
    for better, best in ((True, highest), (False, lowest)):
        trainer = Counting(scores, higher_is_better=better)
        fitted, *_ = trainer.go()
        assert fitted.best_epoch == best
        assert repr(fitted.best_val_mean) == repr(scores[best - 1])
        assert trainer.network.weight.item() == fitted.best_state["weight"].item() == 2 * best
        assert not trainer.network.training


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=2, max_size=5), st.data())
def test_a_resumed_training_makes_the_steps_that_are_left_and_has_the_same_result(scores, data):
    whole, states, steps = Counting(scores).go()
    survived = data.draw(st.integers(1, len(scores)))
    resumed = Counting(scores)
    fitted, more, left = resumed.go(states[survived - 1])
    assert left == steps[2 * survived :]
    assert resumed.begun == [(len(scores) - survived, True)]
    assert resumed.made == 2 * len(scores)
    assert (fitted.best_epoch, fitted.best_val_mean) == (whole.best_epoch, whole.best_val_mean)
    assert fitted.best_state == whole.best_state
    assert [(r.epoch, r.note, r.val_scores) for r in fitted.history] == [
        (r.epoch, r.note, r.val_scores) for r in whole.history
    ]
    assert [state["network"] for state in more] == [state["network"] for state in states[survived:]]


def test_a_state_keeps_what_it_was_when_training_goes_on():
    _, states, _ = Counting((0.3, 0.2, 0.1)).go()
    assert [state["network"]["weight"].item() for state in states] == [2, 4, 6]
    assert [state["best"]["network"]["weight"].item() for state in states] == [2, 2, 2]
    assert [len(state["history"]) for state in states] == [1, 2, 3]


def test_a_state_of_another_training_is_refused():
    _, states, _ = Counting((0.3, 0.2)).go()
    with pytest.raises(SettingError, match="made with another number of epochs"):
        Counting((0.3, 0.2, 0.1)).go(states[0])


def test_what_is_not_finite_is_named_with_its_place_and_a_remedy():
    trainer = Counting((0.3,))
    losses = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, NAN]), torch.tensor([torch.inf, 1.0])]
    assert torch.equal(trainer.read_losses(losses[:1], 4), torch.tensor([[1.0, 2.0]]))
    with pytest.raises(DivergenceError, match=r"the loss is not finite in epoch 4, step 2 of 3: add less"):
        trainer.read_losses(losses, 4)
    with pytest.raises(DivergenceError, match=r"the loss of b is not finite in epoch 1, step 2 of 2: add less"):
        trainer.read_losses([torch.tensor(0.0), torch.tensor(NAN)], 1, ["a", "b"])
    trainer.check_outputs(torch.zeros(3), 1)
    with pytest.raises(DivergenceError, match=r"the network's outputs are not finite after epoch 2: add less"):
        trainer.check_outputs(losses[1], 2)
    with pytest.raises(DivergenceError, match=r"outputs for mood are not finite after epoch 2"):
        trainer.check_outputs(losses[1], 2, "mood")


def test_the_learning_rate_of_images_rises_linearly_and_falls_as_a_cosine_to_zero():
    settings = TrainingSettings(learning_rate=1.0, warmup=0.25)
    rates = [learning_rate_at(step, 100, settings) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 26)
    assert max(rates) == rates[25] == 1
    assert rates[62] == pytest.approx(0.5, abs=0.02)
    assert rates[100] == pytest.approx(0)
    assert learning_rate_at(0, 1, settings.model_copy(update={"warmup": 1.0})) > 0


def test_the_learning_rate_of_texts_rises_and_falls_along_a_line_or_is_constant():
    settings = TextTrainingSettings(learning_rate=5e-3, warmup=0.2, decay="linear")
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    assert max(rates) == 5e-3 == rates[20]
    assert np.allclose(np.diff(rates[:20]), rates[0])
    assert np.allclose(np.diff(rates[20:]), -5e-3 / 80)
    constant = TextTrainingSettings(learning_rate=5e-3)
    assert {learning_rate_at(step, 100, constant) for step in range(100)} == {5e-3}


@given(st.floats(1e-6, 1.0), st.floats(0, 1), st.integers(1, 10_000), st.data())
def test_the_learning_rates_have_the_bits_of_the_formulas_that_images_and_texts_had(rate, warmup, total, data):
    """A state that was written before goes on with the same rates."""
    step = data.draw(st.integers(0, total - 1))
    first = warmup * total
    images, rise = TrainingSettings(learning_rate=rate, warmup=warmup), rate * (step + 1) / (first + 1)
    cosine = rise if step < first else rate * 0.5 * (1 + math.cos(math.pi * (step - first) / (total - first)))
    assert learning_rate_at(step, total, images) == cosine
    for decay in ("linear", "none"):
        texts = TextTrainingSettings(learning_rate=rate, warmup=warmup, decay=decay)
        factor = (total - step) / (total - first) if decay == "linear" and step >= first else 1.0
        assert learning_rate_at(step, total, texts) == (rise if step < first else rate * factor)
