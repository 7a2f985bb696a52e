"""Two processes on this machine, each with a share of its threads (gloo)."""

import os
import pickle
import signal
from copy import deepcopy
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from models.data.image_batches import StoredPixels, examples
from models.errors import SettingError
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import NetworkSettings, initial_network
from models.training.distributed import SINGLE_PROCESS, Processes, _reduce_memmap, spawn
from models.training.image_step import Batch, Step, StepSettings
from models.training.image_training import TrainingSettings, fit, predict
from models.weighting.registry import WeightingSettings, make_weighting

LABELS = ("a", "b", "rare")
WITHOUT_NORMALISATION = "test_vit"  # of batches: it has layer normalisation
SETTINGS = TrainingSettings(epochs=5, batch_size=13, learning_rate=1e-3, precision="32", devices=2)


@pytest.fixture
def importable(monkeypatch):
    """The functions of this file can be imported by name in a new process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))


def images(n, seed, mapped=None):
    """n images of 32 px; the third label is known in every seventh row only, so that many shares lack it."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (n, 3)).astype(np.int8)
    targets[np.arange(n) % 7 > 0, 2] = -1
    pixels = rng.integers(0, 200, (n, 32, 32), dtype=np.uint8) + 50 * (targets[:, :1, None] == 1)
    pixels, patients = pixels.astype(np.uint8), hashed_patients("toy", [f"{seed}/{i}" for i in range(n)])
    if mapped is None:
        return examples(pixels, targets, patients)
    np.save(mapped / "pixels.npy", pixels)
    return examples(np.load(mapped / "pixels.npy", mmap_mode="r"), targets, patients, np.arange(n))


TRAIN, VAL = images(52, 0), images(30, 1)


def network():
    return initial_network(NetworkSettings(backbone=WITHOUT_NORMALISATION), LABELS, TRAIN.pixels, seed=0)


def weighting(kind):
    values = {"kind": kind, "features": "running"} if kind == "svd" else {"kind": kind}
    return make_weighting(TypeAdapter(WeightingSettings).validate_python(values), 3)


def test_one_process_shares_with_nobody():
    rows = torch.arange(5)
    assert SINGLE_PROCESS.share(rows) is not None
    assert torch.equal(SINGLE_PROCESS.share(rows), rows)
    assert SINGLE_PROCESS.all_reduce(rows) is rows
    assert SINGLE_PROCESS.all_gather(rows, 5) is rows
    assert SINGLE_PROCESS.broadcast(rows) is rows


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_cover_a_batch_and_differ_by_one_at_most(count):
    shares = [Processes(rank, count).share(torch.arange(20)) for rank in range(count)]
    assert torch.equal(torch.cat(shares), torch.arange(20))
    assert {len(share) for share in shares} <= {20 // count, 20 // count + 1}


@pytest.mark.parametrize("part", [slice(None), slice(2, None), slice(3, 5)])
def test_a_memory_mapped_array_travels_as_its_place_in_the_file(tmp_path, part):
    np.save(tmp_path / "a.npy", np.arange(7 * 4 * 4, dtype=np.uint8).reshape(7, 4, 4))
    array = np.load(tmp_path / "a.npy", mmap_mode="r")[part]
    ForkingPickler.register(np.memmap, _reduce_memmap)
    travelling = bytes(ForkingPickler.dumps(StoredPixels(array, np.arange(len(array)))))
    assert np.array_equal(pickle.loads(travelling)[:], StoredPixels(array, np.arange(len(array)))[:])
    assert isinstance(pickle.loads(bytes(ForkingPickler.dumps(array))), np.memmap)
    assert len(ForkingPickler.dumps(np.load(tmp_path / "a.npy", mmap_mode="r"))) < 1000


def test_an_array_taken_from_a_mapped_one_travels_by_value(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(7 * 4, dtype=np.uint8).reshape(7, 4))
    ForkingPickler.register(np.memmap, _reduce_memmap)
    for array in (np.load(tmp_path / "a.npy", mmap_mode="r")[[5, 1]], np.load(tmp_path / "a.npy", mmap_mode="r").T):
        assert np.array_equal(pickle.loads(bytes(ForkingPickler.dumps(array))), array)


def test_too_many_devices_for_a_batch_are_refused():
    with pytest.raises(SettingError, match="a batch of 2 images is too small for 3 devices"):
        fit(
            network(),
            weighting("uniform"),
            TRAIN,
            VAL,
            SETTINGS.model_copy(update={"batch_size": 2, "devices": 3}),
            seed=0,
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "svd", "uncertainty"])
def test_two_processes_give_the_losses_of_one(kind, tmp_path):
    """Twenty steps; the labels that are known differ from share to share."""
    steps = []
    ours, alone = network(), network()
    train = images(52, 0, tmp_path)
    two = fit(
        ours, weighting(kind), train, VAL, SETTINGS, seed=0, device="cpu", progress=lambda *done: steps.append(done)
    )
    one = fit(alone, weighting(kind), TRAIN, VAL, SETTINGS.model_copy(update={"devices": 1}), seed=0, device="cpu")
    assert steps == [(step, 20) for step in range(1, 21)]
    for report, expected in zip(two.history, one.history, strict=True):
        np.testing.assert_allclose(report.losses, expected.losses, rtol=0, atol=1e-5)
        np.testing.assert_allclose(report.weights, expected.weights, rtol=0, atol=1e-3)
        assert report.val_mean == pytest.approx(expected.val_mean, abs=0.01)
    assert two.best_epoch == one.best_epoch
    torch.testing.assert_close(predict(ours, VAL.pixels), predict(alone, VAL.pixels), rtol=0, atol=1e-3)
    assert ours.trained_on == TRAIN.patients
    assert not ours.training


def steps_in_a_process(processes, send, pixels, targets, network, rule):
    """Twenty steps on one batch; returns the losses, and whether all processes have the same bits."""
    network, rule = deepcopy((network.train(), rule))
    step = Step(network, rule, StepSettings(learning_rate=1e-3, precision="32"), "cpu", processes)
    known = (targets >= 0).sum(0)
    batch = Batch(processes.share(pixels), processes.share(targets), known)
    losses = torch.stack([step(batch)[0] for _ in range(20)])
    flat = torch.cat([p.detach().reshape(-1) for group in step.optimizer.param_groups for p in group["params"]])
    everyone = processes.all_gather(flat[None], processes.count)
    own = processes.all_gather(torch.full((2 - processes.rank, 1), float(processes.rank)), 3)
    return losses, bool((everyone == everyone[0]).all()), len(everyone), own.flatten().tolist()


@pytest.mark.slow
def test_every_process_ends_with_the_same_weights_and_each_step_has_the_loss_of_one(importable):
    pixels, targets = TRAIN.pixels[:13], TRAIN.targets[:13]
    arguments = (pixels, targets, network(), weighting("uncertainty"))
    losses, same, count, own = spawn(steps_in_a_process, arguments, count=2, on_message=lambda message: None)
    step = Step(network().train(), weighting("uncertainty"), StepSettings(learning_rate=1e-3, precision="32"), "cpu")
    expected = torch.stack([step(Batch(pixels, targets))[0] for _ in range(20)])
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-5)
    assert (same, count, own) == (True, 2, [0.0, 0.0, 1.0])


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_from_its_state():
    states = []
    kept = lambda report, state: states.append(state)  # noqa: E731
    settings = SETTINGS.model_copy(update={"epochs": 3})
    whole = fit(network(), weighting("svd"), TRAIN, VAL, settings, seed=0, device="cpu", on_epoch=kept)
    again = fit(network(), weighting("svd"), TRAIN, VAL, settings, seed=0, device="cpu", state=states[1])
    assert len(states) == 3
    assert all(torch.equal(value, again.best_state[name]) for name, value in whole.best_state.items())


@pytest.mark.slow
def test_what_is_raised_by_a_listener_ends_the_processes():
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        fit(network(), weighting("uniform"), TRAIN, VAL, SETTINGS, seed=0, device="cpu", progress=stop)
    assert not torch.multiprocessing.active_children()


def failing(processes, send, how):
    """Ends badly in the second process, while the first waits."""
    if processes.rank == 0:
        signal.pause()
    if how == "refused":
        raise SettingError("not like this")
    if how == "failed":
        raise KeyError("a bug")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("refused", SettingError, "not like this"),
        ("failed", RuntimeError, "KeyError: 'a bug'"),
        ("killed", RuntimeError, "exit code -9"),
    ],
)
def test_a_process_that_fails_ends_the_others_and_says_why(importable, how, error, message):
    with pytest.raises(error, match=message):
        spawn(failing, (how,), count=2, on_message=lambda message: None)
    assert not torch.multiprocessing.active_children()
