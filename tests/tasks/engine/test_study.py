"""A study's description in MLflow lists all its arms, also those that another study trained."""

import pytest

from tasks.arms.base import ArmRef
from tasks.arms.mlflow_runs import LONGEST_NOTE
from tasks.engine.plan import Plan
from tasks.engine.study import arms_note
from tasks.engine.training import Outcome
from tests.tasks.engine.test_plan import arm

ARMS = [arm("uniform", seed=0), arm("a|b](x) <i>", seed=1), arm("failed", seed=2)]


def test_each_arm_is_linked_to_its_run_and_says_whether_it_was_reused() -> None:
    finished = {ARMS[0].hash: ArmRef(run_id="r0", reused=True), ARMS[1].hash: ArmRef(run_id="r1", reused=False)}
    rows = arms_note(Plan(arms=tuple(ARMS)), Outcome(finished, []), "7").splitlines()[2:]
    assert len(rows) == 3
    assert rows[0].startswith("| [uniform")
    assert rows[0].endswith("(#/experiments/7/runs/r0) | reused |")
    assert rows[1].endswith("(#/experiments/7/runs/r1) | trained |")
    assert r"a\|b\]\(x\) \<i\>" in rows[1]
    assert rows[2].endswith(" | did not finish |")


@pytest.mark.parametrize("count", [60, 1000])
def test_a_note_of_many_arms_is_no_longer_than_mlflow_keeps_and_says_how_many_it_leaves_out(count: int) -> None:
    arms = tuple(arm("uniform" * 5, seed=seed) for seed in range(count))
    finished = {each.hash: ArmRef(run_id="0" * 32, reused=True) for each in arms}
    note = arms_note(Plan(arms=arms), Outcome(finished, []), "7")
    shown = note.count("| reused |")
    assert len(note) <= LONGEST_NOTE
    assert note.endswith(f"{count - shown} more arms are in the report.")
