"""How many arms train at a time, and what each gets of the processors."""

import sys

import pytest

from data_prep.errors import DataError
from tasks.arms import runner
from tasks.arms.runner import RunnerSettings, task_runner


@pytest.mark.parametrize("processors", [1, 2, 16])
def test_by_default_every_processor_has_an_arm_of_its_own(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "processors", lambda: processors)
    settings = RunnerSettings()
    assert settings.parallel_arms("cpu") == processors
    assert settings.threads_per_arm("cpu") == 1
    assert settings.parallel_arms("cuda") == 1


@pytest.mark.parametrize("parallel_arms", [1, 2, 3, 40])
def test_arms_never_ask_for_more_processors_than_there_are_but_always_for_one(
    parallel_arms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "processors", lambda: 16)
    settings = RunnerSettings(arms_at_once=parallel_arms)
    threads = settings.threads_per_arm("cpu")
    assert threads == max(1, 16 // parallel_arms)
    assert RunnerSettings(arms_at_once=parallel_arms, threads=5).threads_per_arm("cpu") == 5


def test_a_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # of another test
    with pytest.raises(DataError, match=r"pip install 'medmtl\[ray\]'"), task_runner(RunnerSettings(kind="ray"), "cpu"):
        pass
    assert "ray" not in sys.modules
