"""Where the time of a training goes, the floor of a step, and how long an epoch will take."""

import time
from itertools import count

import numpy as np
import pytest
import torch

from models.augmentation.policies import (
    NO_POLICY,
    ComputeMatchedPolicy,
    RandAugmentPolicy,
    SimplePolicy,
    UncertaintyPolicy,
)
from models.data.image_batches import Examples, examples
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.training.image_training import TrainingSettings
from models.training.profiling import (
    DeviceLimits,
    Profile,
    StepFloor,
    estimate_epoch_seconds,
    measure_limits,
    profile,
    step_floor,
)
from models.weighting.registry import SvdSettings, Uniform, UniformSettings, Weighting, make_weighting

LABELS = ("a", "b", "c")
N, SIZE, BATCH = 24, 16, 8


def some_examples(seed: int) -> Examples:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)
    targets = generator.integers(0, 2, (N, len(LABELS))).astype(np.int8)
    return examples(pixels, targets, (f"patient {seed}",))


@pytest.fixture(scope="module")
def train() -> Examples:
    return some_examples(0)


@pytest.fixture(autouse=True)
def weak_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures a small product and a small copy, briefly."""
    monkeypatch.setattr("models.training.profiling._PRODUCT_SIDE", {"cpu": 32})
    monkeypatch.setattr("models.training.profiling._COPY_BYTES", {"cpu": 2**12})
    monkeypatch.setattr("models.training.profiling._TRIAL_SECONDS", 0.001)


def network(train: Examples) -> MultiTaskNetwork:
    return initial_network(NetworkSettings(backbone="conv4"), LABELS, train.pixels[:, 0], seed=0)


def uniform() -> Weighting:
    return make_weighting(UniformSettings(), len(LABELS))


def profiled(train: Examples, settings: TrainingSettings, **how: object) -> Profile:
    return profile(network(train), uniform(), train, some_examples(1), settings, seed=0, device="cpu", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_every_part_of_training_has_a_row_and_the_shares_make_a_whole(train: Examples, epochs: int) -> None:
    found = profiled(train, TrainingSettings(epochs=epochs, batch_size=BATCH))
    assert [row.part for row in found.rows] == [
        "input", "selection", "forward", "backward", "optimiser", "rest", "logging", "validation", "weighting",
    ]  # fmt: skip
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    assert all(row.seconds > 0 for row in found.rows if row.part in ("input", "forward", "backward", "optimiser"))
    assert found.step_seconds > 0
    assert found.images == BATCH


def test_the_callers_logging_is_a_row_of_its_own_after_steps_and_after_epochs(train: Examples) -> None:
    pause = 0.02
    settings = TrainingSettings(epochs=3, batch_size=BATCH)
    steps = N // BATCH
    after_epochs = profiled(train, settings, on_epoch=lambda report, state: time.sleep(20 * pause))
    after_steps = profiled(train, settings, progress=lambda done, total: time.sleep(pause))
    rows = {row.part: row.seconds for row in after_epochs.rows}
    assert rows["logging"] >= 20 * pause / steps
    assert {row.part: row.seconds for row in after_steps.rows}["logging"] >= pause
    assert 0 < rows["rest"] < 20 * pause / steps  # what comes between epochs is no part of a step


def test_the_pass_of_a_weighting_is_seen_whichever_epoch_it_follows(train: Examples) -> None:
    for refresh in (1, 2):
        settings = TrainingSettings(epochs=3, batch_size=BATCH)
        rule = make_weighting(SvdSettings(features="running", refresh=(refresh,)), len(LABELS))
        found = profile(network(train), rule, train, some_examples(1), settings, seed=0, device="cpu")
        passing = {row.part: row.seconds for row in found.rows}["weighting"]
        nothing = {row.part: row.seconds for row in profiled(train, settings).rows}["weighting"]
        assert passing > 2 * nothing


def test_the_network_stays_as_it_is(train: Examples) -> None:
    mine = network(train)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    settings = TrainingSettings(epochs=1, batch_size=BATCH)
    profile(mine, uniform(), train, some_examples(1), settings, seed=0, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert mine.training
    assert mine.trained_on == ()


def test_operations_are_those_of_the_convolutions_and_of_the_heads_counted_by_hand(train: Examples) -> None:
    settings = TrainingSettings(batch_size=BATCH, precision="32")
    maps = [(1, 16, 8), (16, 32, 4), (32, 64, 2), (64, 128, 1)]  # inputs, outputs, side of what comes out
    forward = [2 * BATCH * 9 * inputs * outputs * side**2 for inputs, outputs, side in maps]
    heads = 2 * BATCH * 256 * len(LABELS)
    # backward: by the weights and by the inputs, of which the first layer has none
    expected = 3 * (sum(forward) + heads) - forward[0]
    assert step_floor(network(train), train, settings, device="cpu").operations == expected


def test_bytes_hold_what_adamw_must_move_and_grow_with_the_batch(train: Examples) -> None:
    small, large = (
        step_floor(network(train), train, TrainingSettings(batch_size=size, precision="32"), device="cpu").bytes
        for size in (BATCH, 2 * BATCH)  # 24 images in two steps: 12 each
    )
    parameters = 4 * sum(p.numel() for p in network(train).parameters())
    moved_whatever_the_batch = 6 * parameters + 2 * 2 * parameters
    per_image = (large - small) / (12 - 8)
    # a step counter per parameter, and under twenty per-channel statistics, are all else that is independent of it
    assert small - 8 * per_image == pytest.approx(moved_whatever_the_batch, rel=0.02)
    maps = 4 * (16 * 8**2 + 32 * 4**2 + 64 * 2**2 + 128)
    kept = 2 * maps  # of each block what normalisation and what the next layer had; then pooled maps and indices
    assert SIZE**2 + 2 * kept < per_image < SIZE**2 + 2 * 1.7 * kept


def test_micro_batches_change_the_floor_by_nothing_but_statistics_per_channel(train: Examples) -> None:
    settings = TrainingSettings(batch_size=BATCH, precision="32")
    whole, parts = (
        step_floor(network(train), train, settings.model_copy(update={"micro_batch": size}), device="cpu")
        for size in (None, BATCH // 2)
    )
    assert parts.operations == whole.operations
    assert parts.bytes == pytest.approx(whole.bytes, rel=0.02)


def test_sgd_has_less_state_to_move_than_adamw(train: Examples) -> None:
    adamw, sgd = (
        step_floor(network(train), train, TrainingSettings(optimizer=name, batch_size=BATCH), device="cpu").bytes
        for name in ("adamw", "sgd")
    )
    assert sgd < adamw


def test_the_floor_is_the_longer_of_its_two_times() -> None:
    slow_memory, slow_units = (DeviceLimits(100.0, 10.0, "float32"), DeviceLimits(10.0, 100.0, "float32"))
    assert StepFloor(1000, 1000, slow_memory).seconds == 100
    assert StepFloor(1000, 1000, slow_units).seconds == 100
    assert StepFloor(1000, 1000, slow_units).operation_seconds == 100
    assert StepFloor(1000, 1000, slow_units).byte_seconds == 10


def test_limits_are_measured_in_the_precision_asked_for_and_leave_its_setting_alone() -> None:
    before = torch.get_float32_matmul_precision()
    found = measure_limits(torch.device("cpu"), torch.bfloat16)
    assert found.precision == "bfloat16"
    assert found.operations_per_second > 0
    assert found.bytes_per_second > 0
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("n", "steps"), [(40, 5), (41, 6), (5, 1)])
def test_an_epoch_takes_its_steps_and_a_third_of_one_for_every_batch_to_validate(monkeypatch, n, steps):
    clock = count()  # a second passes whenever it is looked at: every step takes one
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    pixels = torch.arange(n * 256, dtype=torch.uint8).reshape(n, 16, 16)
    train = examples(pixels, torch.ones(n, 2, dtype=torch.int8), [str(i) for i in range(n)])
    net = initial_network(NetworkSettings(), ("a", "b"), train.pixels[:, 0], seed=0)
    settings = TrainingSettings(batch_size=8)
    rule = Uniform(UniformSettings(), 2)
    assert estimate_epoch_seconds(net, rule, train, 0, settings, device="cpu") == steps
    validated = 3 * 10 * min(n, 8)
    assert estimate_epoch_seconds(net, rule, train, validated, settings, device="cpu") == pytest.approx(steps + 10)


@pytest.mark.parametrize(
    "policy",
    [
        NO_POLICY,
        SimplePolicy(images="natural"),
        ComputeMatchedPolicy(of=RandAugmentPolicy(operations="randaugment")),
        UncertaintyPolicy(operations="paper", then="paper", candidates=8, selected=4, warmup=1),
    ],
    ids=lambda policy: policy.kind,
)
def test_an_epoch_of_colour_images_of_classes_takes_its_steps_under_any_policy(monkeypatch, policy):
    clock = count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (40, 3, 28, 28), dtype=np.uint8)
    train = examples(pixels, generator.integers(0, 200, (40, 1)), [str(i) for i in range(40)])
    net = initial_network(NetworkSettings(), ("class",), train.pixels, seed=0, classes=200)
    rule, settings = Uniform(UniformSettings(), 1), TrainingSettings(batch_size=8)
    assert estimate_epoch_seconds(net, rule, train, 0, settings, policy=policy, device="cpu") == 5
