"""Averaged weights against a naive moving average; what they are used for, and their resumption to the bit."""

import io
from copy import deepcopy

import numpy as np
import pytest
import torch

from models.augmentation.policies import NO_POLICY
from models.data.image_batches import epoch_batches
from models.evaluation.auc import auc_per_label
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_step import Batch, Step, StepSettings
from models.training.image_training import TrainingSettings, fit, predict
from models.training.loop import learning_rate_at
from tests.models.training.test_image_training import (
    LABELS,
    SETTINGS,
    TRAIN,
    VAL,
    Looking,
    results,
    run,
    same_bits,
    toy_network,
    weighting,
)

DECAY = 0.9
AVERAGED = SETTINGS.model_copy(update={"averaging": DECAY, "epochs": 2})


def trained_step_by_step(settings, epochs):
    """The network after every step of the training, as a plain step makes them."""
    network = toy_network().train()
    plain = StepSettings.model_validate(settings.model_dump(include=set(StepSettings.model_fields) - {"averaging"}))
    step = Step(network, weighting("uniform"), plain, "cpu")
    total, made = settings.epochs * 6, []
    for epoch in range(1, epochs + 1):
        for rows in epoch_batches(len(TRAIN), settings.batch_size, seed=0, epoch=epoch):
            step.set_learning_rate(learning_rate_at(len(made), total, settings))
            step(Batch(TRAIN.pixels[rows], TRAIN.targets[rows]))
            made.append(deepcopy(network.state_dict()))
    return made


def moving_average(states):
    """Each floating tensor's moving average over the states, in float64; it begins at the first."""
    average = {name: value.double() for name, value in states[0].items() if value.is_floating_point()}
    for state in states[1:]:
        average = {name: DECAY * mean + (1 - DECAY) * state[name].double() for name, mean in average.items()}
    return average


def test_the_kept_weights_are_a_moving_average_over_the_steps_from_the_first_on():
    """Weights and running statistics alike; the training itself goes on with weights that are not averaged."""
    kept = []
    fitted = run(policy=NO_POLICY, settings=AVERAGED, on_epoch=lambda report, state: kept.append(deepcopy(state)))
    steps = trained_step_by_step(AVERAGED, 2)
    expected = moving_average(steps[: 6 * fitted.best_epoch])
    assert any("running_mean" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(fitted.best_state[name].double(), value, rtol=1e-4, atol=1e-6)
    distance = torch.cat([(expected[name] - steps[-1][name]).flatten() for name in expected]).abs().max()
    assert distance > 1e-3
    for name, value in kept[-1]["network"].items():
        torch.testing.assert_close(value, steps[-1][name], rtol=1e-4, atol=1e-6)


def test_the_average_begins_with_the_weights_of_the_first_step():
    settings = AVERAGED.model_copy(update={"batch_size": 90, "epochs": 1})
    one = run(policy=NO_POLICY, settings=settings)
    assert same_bits(
        one.best_state, run(policy=NO_POLICY, settings=settings.model_copy(update={"averaging": 0.0})).best_state
    )


def test_the_average_is_validated_kept_and_tested():
    network = toy_network()
    fitted = fit(network, weighting("uniform"), TRAIN, VAL, AVERAGED, seed=0, device="cpu")
    assert same_bits(network.state_dict(), fitted.best_state)
    predicted = predict(network, VAL.pixels).numpy()
    best = fitted.history[fitted.best_epoch - 1]
    np.testing.assert_allclose(auc_per_label(VAL.targets.numpy(), predicted), best.val_scores, rtol=0, atol=1e-12)
    plain = run(policy=NO_POLICY, settings=AVERAGED.model_copy(update={"averaging": 0.0}))
    assert [report.val_scores for report in plain.history] != [report.val_scores for report in fitted.history]
    assert [report.losses for report in plain.history] == [report.losses for report in fitted.history]


def test_a_weighting_reads_the_features_of_the_average():
    rule = Looking(None)
    settings = AVERAGED.model_copy(update={"epochs": 1})
    network = toy_network()
    fit(network, rule, TRAIN, VAL, settings, seed=0, device="cpu")
    with torch.inference_mode():
        expected = network.eval().features(TRAIN.pixels)  # the only epoch is the best one
    torch.testing.assert_close(rule.seen[0][0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("survived", [1, 2])
def test_a_killed_training_with_an_average_continues_to_the_same_bits(survived):
    settings = AVERAGED.model_copy(update={"epochs": 3})
    states, file = [], io.BytesIO()
    whole = run("svd", settings, policy=NO_POLICY, on_epoch=lambda report, state: states.append(deepcopy(state)))
    torch.save(states[survived - 1], file)
    file.seek(0)
    ends = []
    resumed = run(
        "svd",
        settings,
        policy=NO_POLICY,
        state=torch.load(file, weights_only=True),
        on_epoch=lambda r, state: ends.append(state),
    )
    assert same_bits(whole.best_state, resumed.best_state)
    assert same_bits(states[-1]["average"], ends[-1]["average"])
    assert [results(report) for report in whole.history] == [results(report) for report in resumed.history]


def test_without_averaging_a_state_holds_no_average():
    states = []
    run(on_epoch=lambda report, state: states.append(state))
    assert "average" not in states[-1]


@pytest.mark.slow
def test_two_processes_keep_the_average_that_they_validated():
    """conv4 has running statistics, which differ from share to share until they are made equal."""
    settings = TrainingSettings(epochs=2, batch_size=30, learning_rate=3e-3, precision="32", devices=2, averaging=0.5)
    network = initial_network(NetworkSettings(), LABELS, TRAIN.pixels, seed=0)
    fitted = fit(network, weighting("uniform"), TRAIN, VAL, settings, seed=0, device="cpu")
    scores = auc_per_label(VAL.targets.numpy(), predict(network, VAL.pixels).numpy())
    np.testing.assert_allclose(scores, fitted.history[fitted.best_epoch - 1].val_scores, rtol=0, atol=1e-12)
