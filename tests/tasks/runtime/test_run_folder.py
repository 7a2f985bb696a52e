"""A run's folder: taken up again by the same settings, never overwritten by others unasked."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from data_prep.errors import DataError
from tasks.runtime.run_folder import CONFIG, RESULTS, prepare_run_folder


class Settings(BaseModel):
    seed: int


def test_the_same_settings_take_a_folder_up_again(tmp_path: Path) -> None:
    folder = prepare_run_folder(tmp_path / "out", "study", Settings(seed=1), force=False)
    assert (folder / CONFIG).read_text() == "seed: 1\n"
    assert prepare_run_folder(folder, "study", Settings(seed=1), force=False) == folder


@pytest.mark.parametrize("left", [CONFIG, RESULTS])
def test_another_runs_results_are_kept_unless_forced(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("precious")
    with pytest.raises(DataError, match="--force"):
        prepare_run_folder(tmp_path, "study", Settings(seed=2), force=False)
    assert (tmp_path / left).read_text() == "precious"
    prepare_run_folder(tmp_path, "study", Settings(seed=2), force=True)
    assert (tmp_path / CONFIG).read_text() == "seed: 2\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another folder with --out"):
        prepare_run_folder(tmp_path / "file" / "out", "study", Settings(seed=1), force=False)
