"""The growth benchmark: every row has its file in every shape, and a step that grows with the square is noticed."""

import sys
from pathlib import Path

import pytest

from benchmarks import growth
from data_prep.sources.matching import match_names


@pytest.mark.parametrize(("shape", "way"), [(name, way) for name, each in growth.SHAPES.items() for way in each.rows])
def test_every_row_of_a_shape_is_matched_with_its_own_file(shape: str, way: str) -> None:
    made = growth.SHAPES[shape]
    matches = match_names([made.rows[way](i) for i in range(60)], [made.path(i) for i in range(60)])
    assert [(match.row, match.file) for match in matches] == [(i, i) for i in range(60)]


def test_a_slope_is_that_of_the_last_decade() -> None:
    assert growth.slopes({10: [9, 9], 100: [1, 2], 1000: [10, 200]}) == pytest.approx([1, 2])
    assert growth.slopes({1000: [8.0], 500: [2.0]}) == pytest.approx([2])


@pytest.mark.slow
@pytest.mark.parametrize("group", growth.GROUPS)
def test_every_group_is_measured_and_leaves_nothing(group: str, tmp_path: Path) -> None:
    times = growth.measure(group, 3000, 2, tmp_path)
    assert times
    for by_size in times.values():
        assert [(n, len(values)) for n, values in by_size.items()] == [(30, 2), (300, 2), (3000, 2)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("power", "status"), [(1.0, 0), (1.1, 0), (1.3, 1), (2.0, 1)])
def test_a_step_that_grows_too_fast_ends_with_status_1(
    power: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "measure", lambda *_: {"step": {n: [n**power] * 3 for n in (1, 10, 100)}})
    monkeypatch.setattr(sys, "argv", ["growth", "--only", "tables"])
    assert growth.main() == status
    assert ("ABOVE" in capsys.readouterr().out) == bool(status)
