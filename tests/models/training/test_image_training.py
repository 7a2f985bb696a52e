"""The loop against a naive one, its golden losses, and its resumption to the bit.

`python -m tests.models.training.test_image_training` writes the golden file anew: only for a change that means to
change the losses.
"""

import io
import json
import pickle
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from models.augmentation.policies import NO_POLICY, JitterPolicy, UncertaintyPolicy
from models.data.image_batches import examples
from models.errors import DivergenceError, SettingError
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import NetworkSettings, initial_network
from models.randomness import epoch_order
from models.training import image_training, loop
from models.training.image_training import ACCURACY, TrainingSettings, ValidationMetric, fit, predict
from models.training.loop import learning_rate_at
from models.training.losses import task_losses
from models.training.recipes import recipe
from models.weighting.registry import Uniform, UniformSettings, WeightingSettings, make_weighting

GOLDEN = Path(__file__).with_name("golden_losses.json")
LABELS = ("bright", "left", "rare")
SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    weight_decay=0.02,
    warmup=0.2,
    precision="32",
)
JITTER = JitterPolicy(flip=0.5, rotation=10, shift=0.05, scale=0.05, brightness=0.05, contrast=0.1)


def images(n, seed, first_patient=0):
    """n images of 16 px with three findings; a tenth of the labels unknown."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 3)) < [0.5, 0.4, 0.2]).astype(np.int8)
    pixels = rng.normal(110, 20, (n, 16, 16)) + 30 * targets[:, 0, None, None]
    pixels[:, :, :6] += 40 * targets[:, 1, None, None]
    pixels[:, 10:13, 10:13] += 60 * targets[:, 2, None, None]
    known = rng.random((n, 3)) >= 0.1
    patients = hashed_patients("toy", [str(first_patient + i) for i in range(n)])
    numbers = np.random.default_rng(seed).permutation(n) // 2  # two images of a patient
    return examples(
        pixels.clip(0, 255).astype(np.uint8), np.where(known, targets, -1), patients, patient_numbers=numbers
    )


TRAIN, VAL = images(90, 0), images(60, 1, first_patient=1000)


class Recording(Uniform):
    """Uniform weighting that keeps the losses of every step."""

    def __init__(self):
        super().__init__(UniformSettings(), 3)
        self.steps = []

    def backward(self, fabric, losses, present, features, network):
        self.steps.append(losses.detach().tolist())
        super().backward(fabric, losses, present, features, network)


def toy_network(seed=0):
    return initial_network(NetworkSettings(), LABELS, TRAIN.pixels[:, 0], seed=seed)


def weighting(kind):
    """The rule of a kind; that of Algorithm 2 acts in the middle of the training."""
    values = {"kind": kind, "features": "running"} if kind == "svd" else {"kind": kind}
    return make_weighting(TypeAdapter(WeightingSettings).validate_python(values), 3)


def run(kind="uniform", settings=SETTINGS, policy=JITTER, **kwargs):
    return fit(toy_network(), weighting(kind), TRAIN, VAL, settings, seed=0, device="cpu", policy=policy, **kwargs)


def step_losses(settings, policy=NO_POLICY):
    rule = Recording()
    fit(toy_network(), rule, TRAIN, VAL, settings, seed=0, device="cpu", policy=policy)
    return rule.steps


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def results(report):
    """An epoch's report without its times."""
    return (report.epoch, report.losses, report.val_scores, report.val_mean, report.weights, report.learning_rate)


class InOrder(torch.utils.data.Dataset):
    """What a DataLoader wants: one image and its labels at a time."""

    def __init__(self, data, order):
        self.data, self.order = data, order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, i):
        return self.data.pixels[self.order[i]], self.data.targets[self.order[i]]


def naive_losses(network, train, settings):
    """The loop of a tutorial: a DataLoader in the same order, an optimiser that is not fused."""
    network.train()
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, foreach=False, fused=False)
    assert len(train) % settings.batch_size == 0
    losses, steps = [], settings.epochs * len(train) // settings.batch_size
    for epoch in range(1, settings.epochs + 1):
        order = epoch_order(0, epoch, len(train))
        for pixels, targets in torch.utils.data.DataLoader(InOrder(train, order), settings.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(len(losses), steps, settings)
            loss = task_losses(network(pixels), targets)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).tolist()


@pytest.mark.parametrize("backbone", ["conv4", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_the_first_twenty_losses_are_those_of_a_naive_loop(monkeypatch, backbone):
    """In float64, where `Tensor.float()` gives it too.

    In float32 AdamW turns a rounding error of a gradient near zero into a step of the learning rate's size, and
    training amplifies it to 1e-5 (conv4) or 1e-2 (resnet18), depending on the processor's kernels. In float64 it stays
    below 1e-13, while a change of order, schedule, decay or objective shows as in float32.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    train = images(80, 0)
    settings = SETTINGS.model_copy(update={"epochs": 4, "batch_size": 16, "channels_last": False, "compile": "off"})
    networks = [
        initial_network(NetworkSettings(backbone=backbone), LABELS, train.pixels, seed=0).double() for _ in range(2)
    ]
    rule = Recording()
    fit(networks[0], rule, train, VAL, settings, seed=0, device="cpu")
    assert len(rule.steps) == 20
    assert {parameter.dtype for parameter in networks[0].parameters()} == {torch.float64}
    torch.testing.assert_close(rule.steps, naive_losses(networks[1], train, settings), rtol=0, atol=1e-10)


def test_channels_last_changes_rounding_alone():
    rounded = step_losses(SETTINGS.model_copy(update={"channels_last": False}))
    torch.testing.assert_close(step_losses(SETTINGS)[:6], rounded[:6], rtol=0, atol=1e-4)


def test_the_losses_of_every_step_are_the_committed_ones():
    """The tolerance leaves room for another CPU's order of summation, amplified over 18 steps; a change of order,
    initial weights, augmentation, learning rate or objective is off by far more."""
    golden = json.loads(GOLDEN.read_text())["losses"]
    torch.testing.assert_close(step_losses(SETTINGS, JITTER), golden, rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("kind", ["uniform", "svd", "uncertainty"])
@pytest.mark.parametrize("survived", [1, 2])
def test_a_killed_training_continues_to_the_same_bits(kind, survived):
    whole_states = []
    whole = run(kind, on_epoch=lambda report, state: whole_states.append(state))
    file = io.BytesIO()

    def killed(report, state):
        if report.epoch == survived:
            torch.save(state, file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kind, on_epoch=killed)
    file.seek(0)
    states = []
    resumed = run(kind, state=torch.load(file, weights_only=True), on_epoch=lambda report, state: states.append(state))
    assert len(states) == 3 - survived
    assert same_bits(whole.best_state, resumed.best_state)
    assert same_bits(whole_states[-1]["network"], states[-1]["network"])
    assert same_bits(whole_states[-1]["weighting"], states[-1]["weighting"])
    for slot, values in whole_states[-1]["optimizer"]["state"].items():
        assert same_bits(values, states[-1]["optimizer"]["state"][slot])
    assert [results(r) for r in whole.history] == [results(r) for r in resumed.history]


def test_a_finished_training_resumes_to_its_result_without_a_step():
    states = []
    whole = run(on_epoch=lambda report, state: states.append(state))
    again = run(state=states[-1], progress=lambda done, total: pytest.fail("a step was made"))
    assert same_bits(whole.best_state, again.best_state)
    assert again.best_epoch == whole.best_epoch


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    assert same_bits(run().best_state, run().best_state)
    assert torch.equal(before, torch.get_rng_state())


def test_a_state_of_other_settings_is_refused():
    states = []
    run(on_epoch=lambda report, state: states.append(state))
    with pytest.raises(SettingError, match="made with another training"):
        run(settings=SETTINGS.model_copy(update={"epochs": 4}), state=states[0])
    with pytest.raises(SettingError, match="made with another policy"):
        run(policy=NO_POLICY, state=states[0])
    with pytest.raises(SettingError, match="made with another weighting"):
        run("uncertainty", state=states[0])


def test_the_network_ends_with_the_best_epoch_and_remembers_its_patients():
    network = toy_network()
    fitted = fit(network, weighting("uniform"), TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu")
    means = [report.val_mean for report in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmax(means))
    assert fitted.best_val_mean == max(means)
    assert same_bits(network.state_dict(), fitted.best_state)
    assert network.trained_on == TRAIN.patients
    assert not network.training


def test_it_learns_what_can_be_seen():
    report = run(policy=NO_POLICY, settings=SETTINGS.model_copy(update={"epochs": 8})).history[-1]
    assert report.val_mean > 0.8
    assert all(np.isfinite(report.losses))


def test_every_step_is_reported_once_and_in_order():
    seen = []
    run(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 18) for step in range(1, 19)]


def test_time_that_a_progress_callback_waits_is_none_of_the_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    def wait(done, total):
        now[0] += 100.0

    rule = Recording()
    rule.backward = lambda *given: (now.__setitem__(0, now[0] + 1.0), Recording.backward(rule, *given))
    fitted = fit(toy_network(), rule, TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu", progress=wait)
    assert [report.seconds for report in fitted.history] == [len(rule.steps) / SETTINGS.epochs] * SETTINGS.epochs


def test_patients_in_both_sets_are_refused():
    with pytest.raises(SettingError, match="trained on"):
        fit(toy_network(), weighting("uniform"), TRAIN, TRAIN, SETTINGS, seed=0, policy=JITTER)


def test_an_svd_refresh_that_would_come_too_late_is_refused():
    with pytest.raises(SettingError, match="no epoch would use them"):
        run("svd", settings=SETTINGS.model_copy(update={"epochs": 1}))


def test_a_loss_that_is_not_finite_names_epoch_step_and_remedy():
    """A head's bias becomes infinite after two steps of the second epoch: the third has no finite loss."""
    network = toy_network()

    def spoil(done, total):
        if done == 6 + 2:
            torch.nn.init.constant_(network.heads[0].bias, torch.inf)

    with pytest.raises(DivergenceError, match=r"epoch 2, step 3 of 6: lower learning_rate"):
        fit(network, weighting("uniform"), TRAIN, VAL, SETTINGS, seed=0, device="cpu", progress=spoil)


def brier(targets, probabilities):
    """Mean squared error of each label's known targets."""
    errors = np.where(targets >= 0, (probabilities - targets) ** 2, np.nan)
    return np.nanmean(errors, axis=0)


def test_a_metric_of_which_less_is_better_selects_its_lowest_mean():
    settings = SETTINGS.model_copy(update={"epochs": 5, "learning_rate": 0.03})
    fitted = run(policy=NO_POLICY, settings=settings, metric=ValidationMetric(brier, higher_is_better=False))
    means = [report.val_mean for report in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmin(means))
    assert fitted.best_val_mean == min(means) < max(means)
    highest = run(policy=NO_POLICY, settings=settings, metric=ValidationMetric(brier))
    assert highest.best_epoch == 1 + int(np.argmax(means))
    network = toy_network()
    network.load_state_dict(fitted.best_state)
    scores = brier(VAL.targets.numpy(), predict(network, VAL.pixels).numpy())
    np.testing.assert_allclose(scores, fitted.history[fitted.best_epoch - 1].val_scores, rtol=1e-5)


def test_labels_that_cannot_be_scored_are_left_out_of_the_mean():
    metric = ValidationMetric(lambda targets, probabilities: np.array([0.5, np.nan, 0.25]))
    report = run(metric=metric).history[0]
    assert report.val_scores == pytest.approx((0.5, np.nan, 0.25), nan_ok=True)
    assert report.val_mean == 0.375


def test_accuracy_is_the_share_of_the_most_probable_classes_that_are_right():
    targets = np.array([[0], [1], [2], [-1], [2]], np.int8)
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [1, 0, 0], [0.3, 0.3, 0.4]])
    assert ACCURACY.values(targets, probabilities) == pytest.approx([3 / 4])
    assert ACCURACY.higher_is_better
    assert pickle.loads(pickle.dumps(ACCURACY)) == ACCURACY  # as new processes get it


def test_accuracy_without_a_known_class_is_no_score():
    assert np.isnan(ACCURACY.values(np.array([[-1]], np.int8), np.ones((1, 3)))).tolist() == [True]


def test_one_class_of_several_is_trained_and_scored_by_accuracy():
    """Three classes, told by the brightness; a tenth unknown."""

    def shades(n, seed, first_patient):
        rng = np.random.default_rng(seed)
        shade = rng.integers(0, 3, n)
        pixels = rng.normal(60 + 60 * shade[:, None, None], 15, (n, 16, 16)).clip(0, 255).astype(np.uint8)
        targets = np.where(rng.random(n) < 0.1, -1, shade)[:, None]
        return examples(pixels, targets, hashed_patients("toy", [str(first_patient + i) for i in range(n)]))

    train, val = shades(90, 0, 0), shades(60, 1, 1000)
    network = toy_network()
    network.classes, network.probabilities = 3, lambda logits: logits.softmax(1)
    rule = make_weighting(UniformSettings(), 1)
    fitted = fit(network, rule, train, val, SETTINGS, seed=0, device="cpu", metric=ACCURACY)
    first, last = fitted.history[0], fitted.history[-1]
    assert len(last.losses) == len(last.val_scores) == len(last.weights) == 1
    assert last.losses[0] < first.losses[0] < 2 * np.log(3)
    probabilities = predict(network, val.pixels).numpy()
    assert probabilities.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert fitted.best_val_mean == ACCURACY.values(val.targets.numpy(), probabilities)[0] > 0.8


@pytest.mark.parametrize(
    ("size", "policy"), [(28, NO_POLICY), (32, UncertaintyPolicy(operations="paper", candidates=2))]
)
def test_conv4_learns_classes_of_small_colour_images_by_its_own_recipe(size, policy):
    def colours(n, seed):
        rng = np.random.default_rng(seed)
        classes = rng.integers(0, 10, n)
        shades = np.random.default_rng(2).uniform(60, 200, (10, 3, 1, 1))[classes]
        pixels = rng.normal(shades, 40, (n, 3, size, size)).clip(0, 255).astype(np.uint8)
        return examples(pixels, classes[:, None], hashed_patients("toy", [f"{seed} {i}" for i in range(n)]))

    train, val = colours(160, 0), colours(100, 1)
    network = initial_network(NetworkSettings(), ("class",), train.pixels, seed=0, classes=10, targets=train.targets)
    settings = TrainingSettings(**recipe("conv4", pretrained=False), precision="32", compile="off")
    rule = make_weighting(UniformSettings(), 1)
    fitted = fit(network, rule, train, val, settings, seed=0, device="cpu", policy=policy, metric=ACCURACY)
    assert (settings.optimizer, settings.learning_rate, settings.batch_size) == ("adamw", 4e-3, 32)
    assert fitted.best_val_mean > 0.7


def as_written_before(state):
    """The state as it was written while images had a loop of their own."""
    history = [
        {
            "epoch": record["epoch"],
            "losses": record["losses"],
            "val_auc": record["val_scores"],
            "val_mean_auc": record["val_mean"],
            "weights": record["weights"],
            "learning_rate": record["learning_rate"],
            "seconds": record["seconds"],
            "images_per_second": record["items_per_second"],
            "validation_seconds": record["validation_seconds"],
            "weighting_seconds": record["weighting_seconds"],
        }
        for record in state["history"]
    ]
    best = state["best"]
    names = ("determined_by", "network", "optimizer", "weighting")
    return {name: state[name] for name in names} | {
        "history": history,
        "best": {"epoch": best["epoch"], "val_mean_auc": best["val_mean"], "network": best["network"]},
    }


@pytest.mark.parametrize("survived", [1, 2, 3])
def test_a_state_of_the_time_before_there_was_one_loop_goes_on_to_the_same_bits(survived):
    states = []
    whole = run("svd", policy=NO_POLICY, on_epoch=lambda report, state: states.append(deepcopy(state)))
    resumed = run("svd", policy=NO_POLICY, state=as_written_before(states[survived - 1]))
    assert same_bits(whole.best_state, resumed.best_state)
    assert (resumed.best_epoch, resumed.best_val_mean) == (whole.best_epoch, whole.best_val_mean)
    assert [results(r) for r in resumed.history] == [results(r) for r in whole.history]
    assert [r.items_per_second for r in resumed.history[:survived]] == [
        r.items_per_second for r in whole.history[:survived]
    ]
    assert states[0]["determined_by"] == {
        "seed": 0,
        "training": SETTINGS.determining(),
        "network": NetworkSettings().model_dump(mode="json"),
        "weighting": weighting("svd").settings.model_dump(mode="json"),
        "labels": list(LABELS),
        "number of images": 90,
    }


def test_validation_without_a_scorable_label_keeps_the_last_epoch():
    blank = examples(VAL.pixels[:, 0], torch.zeros(60, 3), VAL.patients)
    fitted = fit(toy_network(), weighting("uniform"), TRAIN, blank, SETTINGS, seed=0, policy=JITTER, device="cpu")
    assert fitted.best_epoch == 3
    assert np.isnan(fitted.history[0].val_scores).all()


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingError, match="finds no GPU"):
        fit(toy_network(), weighting("uniform"), TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cuda")


def mapped(tmp_path, data, name):
    """The same examples, in a file, among rows of others."""
    n = len(data)
    array = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.uint8, (n + 7, 16, 16))
    rows = np.random.default_rng(0).permutation(n + 7)[:n]
    array[rows] = data.pixels[:, 0].numpy()
    array.flush()
    return examples(np.load(tmp_path / f"{name}.npy", mmap_mode="r"), data.targets, data.patients, rows)


@pytest.mark.parametrize(
    ("place", "device_share", "main_share"),
    [("device", None, None), ("main memory", 1 / 3, None), ("store", 1 / 3, 1 / 3), ("store", 0, 0)],
)
@pytest.mark.parametrize("kind", ["uniform", "svd"])
def test_a_training_gives_the_same_bits_wherever_the_images_lie(tmp_path, kind, place, device_share, main_share):
    gib = TRAIN.pixels.numel() / 2**30
    limits = {
        name: share if share is None else share * gib
        for name, share in (("device_memory", device_share), ("main_memory", main_share))
    }
    train, val = mapped(tmp_path, TRAIN, "train"), mapped(tmp_path, VAL, "val")
    settings = SETTINGS.model_copy(update=limits)
    fitted = fit(toy_network(), weighting(kind), train, val, settings, seed=0, policy=JITTER, device="cpu")
    expected = run(kind)
    assert fitted.placement == place
    assert same_bits(fitted.best_state, expected.best_state)
    assert [results(r) for r in fitted.history] == [results(r) for r in expected.history]


def test_a_training_may_go_on_with_its_images_elsewhere(tmp_path):
    states = []
    whole = run(on_epoch=lambda report, state: states.append(state))
    settings = SETTINGS.model_copy(update={"device_memory": 0.0, "main_memory": 0.0})
    train = mapped(tmp_path, TRAIN, "train")
    how = {"seed": 0, "policy": JITTER, "device": "cpu"}
    resumed = fit(toy_network(), weighting("uniform"), train, VAL, settings, state=states[0], **how)
    assert same_bits(whole.best_state, resumed.best_state)


class Looking(Uniform):
    """Uniform weighting that keeps what its feature passes gave."""

    def __init__(self, *wanted):
        super().__init__(UniformSettings(), 3)
        self.wanted, self.seen = wanted, []

    def after_epoch(self, epoch, feature_pass, *_):
        if epoch == 1:
            for rows in self.wanted:
                self.seen.append([torch.cat(parts) for parts in zip(*feature_pass(rows), strict=True)])


def test_a_feature_pass_may_look_at_a_seeded_subset():
    rule = Looking(None, 20, 40, 40, 1000)
    fit(toy_network(), rule, TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu")
    (everything, targets, patients, networks), (few, *_), (more, labels, same_patients, _), again, too_many = rule.seen
    assert [len(features) for features, *_ in rule.seen] == [90, 20, 40, 40, 90]
    assert torch.equal(targets, TRAIN.targets)
    assert torch.equal(patients, TRAIN.patient_numbers)
    assert not networks.any()
    assert torch.equal(more, again[0])
    torch.testing.assert_close(too_many[0], everything)
    rows = [int((everything - features).abs().sum(1).argmin()) for features in more]
    assert rows == sorted(set(rows))
    assert torch.equal(labels, TRAIN.targets[rows])
    assert torch.equal(same_patients, TRAIN.patient_numbers[rows])
    assert set(map(tuple, few.round(decimals=3).tolist())) <= set(map(tuple, more.round(decimals=3).tolist()))


def test_a_share_of_the_images_is_never_fewer_than_what_a_weighting_needs(monkeypatch):
    monkeypatch.setattr(image_training, "MIN_SAMPLE_SIZE", 30)
    rule = Looking(0.1, 0.5)
    fit(toy_network(), rule, TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu")
    assert [len(features) for features, *_ in rule.seen] == [30, 45]


def test_a_rule_is_asked_before_the_first_step_of_a_fresh_run_and_may_look_at_validation_images():
    class Asked(Looking):
        def after_epoch(self, epoch, feature_pass, validation_pass):
            self.seen.append((epoch, sum(len(y) for _, y, *_ in validation_pass(None))))

    fresh, resumed, states = Asked(), Asked(), []
    on_epoch = lambda report, state: states.append(state)  # noqa: E731
    fit(toy_network(), fresh, TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu", on_epoch=on_epoch)
    fit(toy_network(), resumed, TRAIN, VAL, SETTINGS, seed=0, policy=JITTER, device="cpu", state=states[0])
    assert fresh.seen == [(0, 60), (1, 60), (2, 60), (3, 60)]
    assert resumed.seen == [(2, 60), (3, 60)]


def test_training_in_micro_batches_learns_the_same_without_batch_normalisation():
    def losses(**changed):
        network = initial_network(NetworkSettings(backbone="test_vit"), LABELS, TRAIN.pixels, seed=0)
        settings = SETTINGS.model_copy(update={"learning_rate": 1e-3} | changed)
        fitted = fit(network, weighting("uncertainty"), TRAIN, VAL, settings, seed=0, device="cpu")
        return [report.losses for report in fitted.history]

    np.testing.assert_allclose(losses(micro_batch=5), losses(), rtol=0, atol=1e-4)


def test_the_clock_is_told_all_that_a_training_does():
    parts = []

    @contextmanager
    def clock(part):
        parts.append(part)
        yield

    run(settings=SETTINGS.model_copy(update={"epochs": 1}), clock=clock)
    step = ["input", "selection", "forward", "backward", "optimiser", "logging"]
    assert parts == 6 * step + ["validation", "weighting", "logging"]


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode_alone():
    network = toy_network().train()
    together, one_by_one = predict(network, VAL.pixels), predict(network, VAL.pixels, batch_size=1)
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-6)
    assert together.dtype == torch.float32
    assert together.shape == (60, 3)
    assert network.training


def test_bfloat16_training_follows_float32_closely():
    half = np.array(step_losses(SETTINGS.model_copy(update={"precision": "bf16"})))
    full = np.array(step_losses(SETTINGS))
    assert np.abs(half - full)[:6].max() < 0.05
    assert not np.array_equal(half, full)


if __name__ == "__main__":
    record = {
        "about": "losses of each step and task, by tests/models/training/test_image_training.py",
        "losses": step_losses(SETTINGS, JITTER),
    }
    GOLDEN.write_text(json.dumps(record) + "\n")
