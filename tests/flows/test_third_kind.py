"""A kind of study that is none of ours is planned, resumed, reused, compared and reported by the engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.records.study import read_results
from tests.flows.regression import DIE_AFTER, EPOCHS, Regression, Settings, regress
from tests.test_architecture import example

pytestmark = pytest.mark.slow


def test_a_third_kind_goes_through_the_engine(medmtl_home, tmp_path):
    command = [sys.executable, "-m", "tests.flows.regression", str(tmp_path / "one")]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, env=os.environ | {DIE_AFTER: "3"}).returncode == 9
    first = regress(tmp_path / "one", Settings())
    assert len(Regression.epochs_trained) == 12 * EPOCHS - 2  # the killed arm went on after its second epoch
    whole = regress(tmp_path / "two", Settings(features=("all", "half")))
    assert [arm.reused for arm in whole.arms] == [True] * 12 + [False] * 12  # a factor at its default adds no hash
    assert [arm.mean for arm in whole.arms[:12]] == [arm.mean for arm in first.arms]
    clean, noisy, *half = whole.comparisons
    assert clean.p_adjusted < 0.05
    assert clean.delta > 0
    assert not clean.improves  # lower is better
    assert clean.over == "seeds and houses"
    assert [found.condition.name for found in half] == ["clean", "noisy"]
    assert len(noisy.by_seed) == 3
    page = (tmp_path / "two" / "report.html").read_text()
    assert all(text in page for text in ("Does weight decay help?", ") was worse than plain", "half", "RMSE"))


def test_the_kind_of_the_page_on_architecture_runs_as_written(medmtl_home, tmp_path):
    names = example("Add a kind of study")
    page = names["ridge"](names["RidgeSettings"](), tmp_path / "out").read_text()
    assert "Does a stronger ridge help" in page
    results = read_results(tmp_path / "out" / "results.json")
    assert [arm.status for arm in results.arms] == ["finished"] * 12
    assert [found.condition.name for found in results.comparisons] == ["clean", "noisy"]
