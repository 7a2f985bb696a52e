"""The nights of a series: read, the end of the reference period, a night without a change."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.nightly.series import earlier_nights, is_unchanged, read_nights, reference_end
from tasks.records.base import write_results
from tests.tasks.nightly.made_up_nights import FIRST, night


def write(series: Path, *numbers: int) -> None:
    for number in numbers:
        results = night(number)
        write_results(results, series / results.night.isoformat() / "results.json")


def test_nights_are_read_in_their_order_and_only_those_before_a_night(tmp_path: Path) -> None:
    write(tmp_path, 3, 1, 2)
    (tmp_path / "latest").symlink_to((FIRST + timedelta(2)).isoformat())
    (tmp_path / "notes").mkdir()
    assert read_nights(tmp_path) == [night(1), night(2), night(3)]
    assert earlier_nights(tmp_path, FIRST + timedelta(2)) == [night(1), night(2)]
    assert earlier_nights(tmp_path, FIRST) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": "medmtl/night/2"}', b"\xff"])
def test_a_night_that_cannot_be_read_is_said_and_the_others_are_kept(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("medmtl"), "propagate", True)
    write(tmp_path, 1, 2)
    (tmp_path / FIRST.isoformat() / "results.json").write_bytes(content)
    with caplog.at_level(logging.INFO, "medmtl"):
        assert read_nights(tmp_path) == [night(2)]
    assert "that night is left out" in caplog.text


def test_the_reference_ends_with_the_night_that_trained_the_champion() -> None:
    nights = [night(1, "promoted"), night(2), night(3, "waiting"), night(4)]
    assert reference_end(nights, "1") == FIRST
    assert reference_end(nights, "3") == FIRST + timedelta(2), "it was promoted by hand later"
    assert reference_end(nights, "99") == FIRST, "trained elsewhere: the first night"
    assert reference_end(nights, None) == FIRST
    assert reference_end([], None) is None


def test_a_night_is_unchanged_if_images_labels_and_settings_are_the_last_one_s() -> None:
    nights = [night(1), night(2)]
    same = {"seed": 0, "night": "2026-11-03"}
    assert is_unchanged(nights, "sha256:2", same)
    assert not is_unchanged(nights, "sha256:1", same), "it is like the night before the last one only"
    assert not is_unchanged(nights, "sha256:2", same | {"seed": 1})
    assert not is_unchanged([], "sha256:2", same)
