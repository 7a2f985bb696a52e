"""The size of a home and its growth, against a naive sum over drawn files."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.operations import doctor_home
from tasks.operations.doctor_home import REWRITTEN, check_home, measure
from tasks.runtime.doctor import Check
from tasks.runtime.home import OWN, Home

DAY = 24 * 3600
FILES = st.lists(
    st.tuples(
        st.sampled_from([*sorted(OWN), "notes"]),
        st.sampled_from(["", "a", "a/b"]),
        st.integers(0, 3000),
        st.integers(0, 30).map(lambda days: days + 0.5),
        st.booleans(),
    ),
    max_size=12,
)


def write(path: Path, size: int, days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(size * b"x")
    os.utime(path, (time.time() - days * DAY,) * 2)


def checks(root: Path) -> dict[str, Check]:
    return {check.name: check for check in check_home(Home(root))}


@given(files=FILES)
def test_every_byte_counts_once_in_its_part_and_new_ones_in_the_growth(
    files: list[tuple[str, str, int, float, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("home")
    sizes, new = Counter[str](), 0
    for number, (name, folder, size, days, has_second_name) in enumerate(files):
        path = root / name / folder / str(number)
        write(path, size, days)
        if has_second_name:
            os.link(path, f"{path}-again")
        (path.parent / f"link-{number}").symlink_to(path)
        sizes[name if name in OWN else "other"] += size
        new += size if days < 7 and name not in REWRITTEN else 0
    found = measure(root)
    assert +found.sizes == +sizes
    assert (found.new, found.complete) == (new, True)


@pytest.mark.parametrize(
    ("free", "status", "said"),
    [
        (2_000, "WRONG", "the free 0.0 MB last 0.5 weeks: run medmtl clean"),
        (8_000, "ok", "the free 0.0 MB last 2.0 weeks"),
        (8_000_000_000, "ok", "the free 8.0 GB last more than 5 years"),
    ],
)
def test_free_space_for_less_than_a_week_is_wrong(
    free: int, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "stores" / "old", 100, days=8)
    write(tmp_path / "stores" / "new", 4_000, days=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = checks(tmp_path)["its growth"]
    assert found.status == status
    assert said in found.finding


def test_a_home_younger_than_a_week_has_no_forecast(tmp_path: Path) -> None:
    write(tmp_path / "stores" / "new", 4_000, days=2)
    found = checks(tmp_path)["its growth"]
    assert (found.status, "too new for a forecast" in found.finding) == ("-", True)


def test_databases_and_checkpoints_are_no_growth(tmp_path: Path) -> None:
    for name in ("mlflow.db", "prefect/prefect.db", "arms/a/checkpoint.pt"):
        write(tmp_path / name, 4_000, days=1)
    assert checks(tmp_path)["its growth"].finding == "nothing in the last 7 days"


def test_the_look_at_a_large_home_is_cut_off_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(tmp_path / "stores" / str(number), 100_000, days=1)
    monkeypatch.setattr(doctor_home, "MOST_ENTRIES", 11)
    found = checks(tmp_path)
    assert found["its size"].finding.startswith("at least, of the first 11 files or ")
    assert found["its growth"].finding.startswith("at least 1.0 MB in the last 7 days")
