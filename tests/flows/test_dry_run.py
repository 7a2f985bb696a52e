"""What a study would do is said without doing it."""

from pathlib import Path

import pytest

from flows.cli import OK, exit_code
from tests.flows.test_study import runs

pytestmark = pytest.mark.slow


def test_a_dry_run_names_what_is_finished_and_what_is_new_and_trains_nothing(
    medmtl_home: Path, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["study", *small, "--dry-run", "--out", "out"]) == OK
    before = capfd.readouterr().err
    assert "4 arms: 0 finished before, 0 resumed, 4 new; about " in before
    assert before.count("new, about") == 4
    assert runs("arm") == []
    assert not Path("out").exists()

    assert exit_code(["study", *small, "--out", "out"]) == OK
    capfd.readouterr()
    assert exit_code(["study", *small, "--seeds", "2", "--dry-run"]) == OK
    after = capfd.readouterr().err
    assert "8 arms: 4 finished before, 0 resumed, 4 new; about " in after
    assert all(f"finished before, run {arm.info.run_id[:8]}" in after for arm in runs("arm"))
    assert len(runs("arm")) == 4
