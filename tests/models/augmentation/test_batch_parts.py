import pytest
import torch

from models.augmentation.batch_parts import in_parts


@pytest.mark.parametrize("b", [0, 1, 3, 7])
@pytest.mark.parametrize("values", [1, 16, 50, 1000])
def test_a_batch_in_parts_gives_what_the_whole_batch_gives(b, values, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    images = torch.randint(0, 100, (b, 1, 4, 4), dtype=torch.uint8)
    taken = []

    @in_parts(values)
    def change(images, added, *, factor, name):
        assert name == "kept"
        taken.append(len(images))
        return images * factor.byte()[:, None, None, None] + added[:, None, None, None]

    added, factor = torch.arange(b).byte(), torch.arange(b) % 3
    expected = images * factor.byte()[:, None, None, None] + added[:, None, None, None]
    assert torch.equal(change(images, added, factor=factor, name="kept"), expected)
    assert sum(taken) == b
    assert max(taken) <= max(values // 16, 1)


def test_a_device_takes_the_whole_batch_at_once():
    taken = []

    @in_parts(1)
    def change(images):
        taken.append(len(images))
        return images

    assert change(torch.empty(5, 1, 4, 4, device="meta")).shape == (5, 1, 4, 4)
    assert taken == [5]


def test_each_thread_has_a_part_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    taken = []

    @in_parts(32)
    def change(images):
        taken.append(len(images))
        return images

    change(torch.zeros(14, 1, 4, 4))
    assert taken == [6, 6, 2]
