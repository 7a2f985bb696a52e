import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.image_batches import StoredPixels, examples
from models.data.placement import ImageCache, MemoryBudget, in_place

CPU = torch.device("cpu")
N, SIDE = 60, 4
WHOLE = np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE), dtype=np.uint8)
ROWS = np.random.default_rng(1).permutation(100)[:N]
GIB = 2.0**30
BYTES = N * SIDE * SIDE


class Counted:
    """An array that counts the images read from it."""

    shape, dtype = WHOLE.shape, WHOLE.dtype

    def __init__(self):
        self.read = 0

    def __len__(self):
        return len(WHOLE)

    def __getitem__(self, rows):
        self.read += len(rows)
        return WHOLE[rows]


def stored(array=WHOLE):
    return StoredPixels(array, ROWS)


def placed(place):
    device, main = {"device": (1, 1), "main memory": (0, 1), "store": (0, 0)}[place]
    there = MemoryBudget(CPU, device, main).place(stored())
    assert there.place == place
    return there


@settings(deadline=None)
@given(
    st.sampled_from(["device", "main memory", "store"]),
    st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=9), max_size=9),
    st.integers(0, 5),
)
def test_every_place_yields_the_same_bits_in_order(place, batches, prefetch):
    wanted = [torch.tensor(batch) for batch in batches]
    got = list(placed(place).stream(wanted, prefetch))
    assert [rows.tolist() for rows, _ in got] == batches
    for batch, (_, pixels) in zip(batches, got, strict=True):
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), WHOLE[ROWS[batch]][:, None])


@pytest.mark.parametrize(
    ("device", "main", "place"),
    [
        (BYTES, BYTES, "device"),
        (BYTES - 1, BYTES, "main memory"),
        (BYTES - 1, BYTES - 1, "store"),
        (BYTES, BYTES - 1, "store"),  # on a CPU what is on the device is in main memory
    ],
)
def test_images_are_placed_as_near_to_the_device_as_they_fit(device, main, place):
    assert MemoryBudget(CPU, device / GIB, main / GIB).place(stored()).place == place


def test_without_limits_a_small_store_is_on_the_device():
    assert MemoryBudget(CPU, None, None).place(stored()).place == "device"


def test_the_budget_shrinks_by_what_a_set_takes():
    memory = MemoryBudget(CPU, None, 1.5 * BYTES / GIB)
    assert [memory.place(stored()).place for _ in range(2)] == ["device", "store"]


def test_processes_share_main_memory():
    assert MemoryBudget(CPU, None, 1.5 * BYTES / GIB, processes=2).place(stored()).place == "store"


@pytest.mark.parametrize("streamed", [False, True])
def test_colour_images_keep_their_channels(streamed):
    colour = torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8)
    rows = torch.tensor([7, 0, 7])
    ((_, pixels),) = in_place(colour, CPU, streamed=streamed).stream([rows])
    assert torch.equal(pixels, colour[rows])


def test_a_tensor_stays_in_memory_whatever_the_limit():
    tensor = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    assert MemoryBudget(CPU, 0, 0).place(tensor).pixels is tensor


def test_images_left_in_the_store_are_read_as_batches_need_them():
    array = Counted()
    images = MemoryBudget(CPU, 0, 0).place(examples(array, np.zeros((N, 2)), (), ROWS).pixels)
    assert array.read == 0
    batches = images.stream([torch.arange(5)] * 9, prefetch=2)
    next(batches)
    batches.close()
    assert 5 <= array.read <= 20


def test_a_pass_that_is_closed_early_leaves_no_thread():
    before = threading.active_count()
    batches = placed("store").stream([torch.arange(5)] * 9)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_batch_that_cannot_be_read_is_an_error_of_the_step():
    class Broken(Counted):
        def __getitem__(self, rows):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(ImageCache(stored(Broken()), CPU, "store").stream([torch.arange(3)]))


def test_stored_pixels_behave_like_a_tensor():
    tensor = torch.as_tensor(WHOLE[ROWS])[:, None]
    assert stored().shape == tensor.shape
    assert stored().numel() == tensor.numel()
    assert torch.equal(stored()[2:9], tensor[2:9])
    assert torch.equal(torch.cat(list(stored().split(7))), tensor)
    assert in_place(tensor, CPU).pixels is tensor
    assert in_place(stored(), CPU).place == "store"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("device", "main", "place"), [(1, 1, "device"), (0, 1, "main memory"), (0, 0, "store")])
def test_a_gpu_gets_the_same_bits_from_every_place(device, main, place):
    images = MemoryBudget(torch.device("cuda"), device, main).place(stored())
    assert images.place == place
    batches = list(torch.arange(N, device=images.index_device).split(7)) * 20
    for batch, (rows, pixels) in zip(batches, images.stream(batches), strict=True):
        assert rows.is_cuda
        assert np.array_equal(pixels.cpu().numpy(), WHOLE[ROWS[batch.cpu().numpy()]][:, None])
