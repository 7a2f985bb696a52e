"""A run's folder: taken up again by the same settings, never overwritten by others unasked, whole at all times."""

import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from data_prep.errors import DataError
from tasks.runtime import run_folder
from tasks.runtime.run_folder import (
    CONFIG,
    LATEST,
    REPORT,
    RESULTS,
    point_latest,
    prepare_night_folder,
    prepare_run_folder,
    scheduled_night,
    write_config,
)


class Settings(BaseModel):
    seed: int


def prepare(folder: Path, seed: int, force: bool = False) -> Path:
    return prepare_run_folder(folder, "study", Settings(seed=seed), force)


def test_the_same_settings_take_a_folder_up_again_and_leave_its_report(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "out", 1)
    assert (folder / CONFIG).read_text() == "seed: 1\n"
    (folder / REPORT).write_text("finished")
    assert prepare(folder, 1) == folder
    assert (folder / REPORT).read_text() == "finished"


@pytest.mark.parametrize("left", [CONFIG, RESULTS, REPORT])
def test_another_runs_results_are_kept_unless_forced(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("precious")
    with pytest.raises(DataError, match="--force"):
        prepare(tmp_path, 2)
    assert (tmp_path / left).read_text() == "precious"
    prepare(tmp_path, 2, force=True)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=8))
def test_the_config_is_always_that_of_the_results_beside_it(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool, bool]]
) -> None:
    folder, finished = tmp_path_factory.mktemp("out"), None
    for seed, force, finishes in runs:
        try:
            prepare(folder, seed, force)
        except DataError:
            continue
        if finishes:
            write_config({"seed": seed}, folder)
            for name in (RESULTS, REPORT):
                (folder / name).write_text(f"of seed {seed}")
            finished = seed
        if finished is not None:
            assert (folder / CONFIG).read_text() == f"seed: {finished}\n"
            assert (folder / RESULTS).read_text() == (folder / REPORT).read_text() == f"of seed {finished}"


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


THINGS: dict[str, Callable[[Path], object]] = {
    "a file": Path.touch,
    "a pipe": os.mkfifo,
    "a link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": _link_to_itself,
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("below", [(), ("out",)])
def test_what_is_no_folder_is_refused_in_one_line(tmp_path: Path, thing: str, below: tuple[str, ...]) -> None:
    THINGS[thing](tmp_path / "it")
    if thing == "a link to nowhere" and below:  # the folder that the link names is made
        return
    with pytest.raises(DataError, match=r"choose another (folder with )?--out"):
        prepare((tmp_path / "it").joinpath(*below), 1)


@pytest.mark.parametrize("out", ["x" * 300, "~nobody-of-this-name/out", "a/" * 3000])
def test_a_name_that_can_be_no_folder_is_refused_in_one_line(tmp_path: Path, out: str) -> None:
    with pytest.raises(DataError, match="choose another folder with --out"):
        prepare(Path(out) if out.startswith("~") else tmp_path / out, 1)


@pytest.mark.parametrize("thing", [*THINGS, "a folder", "bytes"])
def test_a_config_that_is_none_belongs_to_another_run(tmp_path: Path, thing: str) -> None:
    place = {**THINGS, "a folder": Path.mkdir, "bytes": lambda path: path.write_bytes(b"\xff\x00")}
    place[thing](tmp_path / CONFIG)
    with pytest.raises(DataError, match="already holds another run"):
        prepare(tmp_path, 1)


NIGHT = date(2026, 3, 29)


def started(monkeypatch: pytest.MonkeyPatch, **run: Any) -> None:
    """Prefect says of the run in which this is called."""
    context = SimpleNamespace(get=lambda: SimpleNamespace(flow_run=SimpleNamespace(**run)))
    monkeypatch.setattr(run_folder, "FlowRunContext", context)


def test_a_scheduled_run_has_a_folder_for_its_night_which_each_retry_takes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = datetime(2026, 3, 29, 0, 30).astimezone()  # of another date in Greenwich where the sun rises earlier
    for passed in (0, 7, 40):  # hours until it is tried again
        started(monkeypatch, auto_scheduled=True, expected_start_time=due, start_time=due + timedelta(hours=passed))
        folder = prepare(tmp_path, 1)
        assert folder == tmp_path / "2026-03-29"
        assert (folder / CONFIG).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["2026-03-29"]


def test_a_run_by_hand_goes_on_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scheduled_night() is None
    started(monkeypatch, auto_scheduled=False, expected_start_time=datetime(2026, 3, 29).astimezone())
    assert prepare(tmp_path, 1) == tmp_path


@given(finished=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_latest_points_to_the_newest_night_in_whatever_order_they_finish(
    tmp_path_factory: pytest.TempPathFactory, finished: list[int]
) -> None:
    series, nights = tmp_path_factory.mktemp("series"), [NIGHT + timedelta(days=day) for day in finished]
    for i, night in enumerate(nights):
        point_latest(prepare_night_folder(series, night, Settings(seed=1), force=False))
        assert (series / LATEST).readlink() == Path(max(nights[: i + 1]).isoformat())
    assert {path.name for path in series.iterdir()} == {LATEST, *(night.isoformat() for night in nights)}


def test_latest_points_to_a_night_that_is_there(tmp_path: Path) -> None:
    (tmp_path / LATEST).symlink_to("2026-04-01")  # which was cleaned away
    point_latest(tmp_path / "2026-03-28")  # of a run that left nothing
    assert (tmp_path / LATEST).readlink() == Path("2026-04-01")
    point_latest(prepare_night_folder(tmp_path, NIGHT, Settings(seed=1), force=False))
    assert (tmp_path / LATEST).resolve() == tmp_path / "2026-03-29"


def test_what_stands_where_latest_should_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / LATEST).mkdir()
    (tmp_path / LATEST / "precious").touch()
    with pytest.raises(DataError, match=r"latest .*: move away what is there"):
        point_latest(prepare_night_folder(tmp_path, NIGHT, Settings(seed=1), force=False))
    assert (tmp_path / LATEST / "precious").exists()
