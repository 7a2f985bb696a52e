"""Every text occurs once per pass, among texts of similar length, in an order that depends on seed, task and epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.text_batches import (
    TaskBatches,
    bucket_by_length,
    padding_share,
    sort_by_length,
    steps_per_task,
    task_sequence,
    text_examples,
)
from models.errors import SettingError


def texts(lengths, seed=0, types=False):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    ids = rng.integers(1, 50, offsets[-1])
    return text_examples(ids, offsets, rng.integers(0, 3, len(lengths)), ids % 2 if types else None)


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=200)


@given(LENGTHS, st.booleans(), st.data())
def test_a_batch_holds_each_text_and_then_zeros(lengths, types, data):
    examples = texts(lengths, types=types)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=10))
    batch = examples.batch(torch.tensor(rows))
    assert batch.ids.shape == (len(rows), max(lengths[row] for row in rows))
    assert batch.targets.tolist() == examples.targets[rows].tolist()
    for place, row in enumerate(rows):
        begin, end = examples.offsets[row], examples.offsets[row + 1]
        rest = [0] * (batch.ids.shape[1] - lengths[row])
        assert batch.ids[place].tolist() == examples.ids[begin:end].tolist() + rest
        assert batch.mask[place].tolist() == [True] * lengths[row] + [False] * len(rest)
        if types:
            assert batch.types[place].tolist() == examples.types[begin:end].tolist() + rest


@given(LENGTHS, st.integers(1, 12))
def test_the_parts_of_a_batch_are_the_batch(lengths, size):
    batch = texts(lengths, types=True).batch(torch.arange(len(lengths)))
    parts = list(batch.split(size))
    assert max(len(part.targets) for part in parts) <= size
    assert torch.cat([part.targets for part in parts]).tolist() == batch.targets.tolist()
    assert torch.cat([part.lengths for part in parts]).tolist() == lengths
    for part in parts:
        assert part.ids.shape[1] == part.lengths.max()
    assert [int(row.sum()) for part in parts for row in part.ids] == batch.ids.sum(1).tolist()
    assert [int(row.sum()) for part in parts for row in part.types] == batch.types.sum(1).tolist()


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5))
def test_a_pass_visits_every_text_once_in_batches_of_the_size(lengths, size, epoch):
    batches = bucket_by_length(torch.tensor(lengths), size, seed=0, task="mr", epoch=epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


def test_the_order_depends_only_on_seed_task_and_epoch():
    lengths = texts(np.random.default_rng(0).integers(1, 40, 500)).lengths

    def order(**changed):
        return torch.cat(bucket_by_length(lengths, 16, **({"seed": 0, "task": "mr", "epoch": 0} | changed))).tolist()

    assert order() == order()
    assert len({tuple(order(**change)) for change in ({}, {"seed": 1}, {"task": "cr"}, {"epoch": 1})}) == 4


def test_texts_of_like_length_share_a_batch():
    lengths = torch.as_tensor(np.random.default_rng(0).integers(1, 60, 3000))
    shuffled = list(torch.randperm(3000, generator=torch.Generator().manual_seed(0)).split(32))
    assert padding_share(lengths, shuffled) > 0.4
    assert padding_share(lengths, bucket_by_length(lengths, 32, seed=0, task="mr", epoch=0)) < 0.04
    assert padding_share(lengths, sort_by_length(lengths, 32)) < 0.02


def test_the_length_of_a_text_does_not_decide_its_position_in_the_epoch():
    """Batches of long texts are anywhere in the epoch, not at its end."""
    lengths = torch.arange(1, 3001)
    first = torch.cat(bucket_by_length(lengths, 30, seed=0, task="mr", epoch=0)[:50])
    assert abs(float(lengths[first].double().mean()) - 1500) < 400


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400), min_size=1)


@given(SIZES, st.floats(0, 1))
def test_steps_add_up_and_no_task_goes_without(batches, exponent):
    steps = steps_per_task(batches, exponent)
    assert list(steps) == list(batches)
    assert sum(steps.values()) == sum(batches.values())
    assert min(steps.values()) >= 1


@given(SIZES)
def test_by_size_every_task_passes_once_and_uniformly_all_get_the_same(batches):
    assert steps_per_task(batches, 1.0) == batches
    uniform = steps_per_task(batches, 0.0)
    assert max(uniform.values()) - min(uniform.values()) <= 1


def test_tempering_lies_between():
    batches = {"large": 900, "small": 100}
    assert steps_per_task(batches, 0.5) == {"large": 750, "small": 250}


def test_the_sequence_has_each_task_as_often_as_its_steps_in_random_order():
    sequence = task_sequence({"a": 30, "b": 10}, seed=0, epoch=1)
    assert (sequence.count("a"), sequence.count("b")) == (30, 10)
    assert sequence != sorted(sequence)
    assert sequence != task_sequence({"a": 30, "b": 10}, seed=0, epoch=2)


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
def test_passes_go_on_where_the_epoch_before_left_off(exponent):
    examples = {"large": texts([3] * 97), "small": texts([5] * 21)}
    batches = TaskBatches(examples, 4, exponent, seed=0)
    assert batches.steps_per_epoch == 25 + 6
    seen = {"large": [], "small": []}
    for epoch in range(1, 6):
        steps = batches.epoch(epoch)
        assert {task: sum(step.task == task for step in steps) for task in examples} == batches.steps
        for task, rows, passes in steps:
            assert passes == len(seen[task]) // -(-len(examples[task]) // 4)
            seen[task].append(rows)
    for task, number in (("large", 97), ("small", 21)):
        per_pass = -(-number // 4)
        for begin in range(0, len(seen[task]) - per_pass + 1, per_pass):
            assert sorted(torch.cat(seen[task][begin : begin + per_pass]).tolist()) == list(range(number))


def test_a_task_keeps_its_order_whatever_other_tasks_there_are():
    examples = {"a": texts([3] * 50), "b": texts([4] * 40)}
    both = [rows.tolist() for task, rows, _ in TaskBatches(examples, 8, 1.0, seed=3).epoch(2) if task == "a"]
    separate = [rows.tolist() for _, rows, _ in TaskBatches({"a": examples["a"]}, 8, 1.0, seed=3).epoch(2)]
    assert both == separate


@pytest.mark.parametrize(
    ("ids", "offsets", "targets", "message"),
    [
        ([], [0], [], "at least one target"),
        ([1, 2], [0, 2], [0, 1], "one more offset"),
        ([1, 2], [0, 1], [0], "cover the 2 tokens"),
        ([1, 2], [0, 2, 2], [0, 1], "text 1 has no token"),
        ([1, -2], [0, 2], [0], "at least 0"),
    ],
)
def test_parts_that_disagree_are_refused(ids, offsets, targets, message):
    with pytest.raises(SettingError, match=message):
        text_examples(ids, offsets, targets)
