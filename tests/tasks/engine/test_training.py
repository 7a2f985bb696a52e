"""What becomes of the arms of a plan; that they train, resume and are reused is tested in tests/flows."""

import pickle
from pathlib import Path

import pytest

from data_prep.labels.splits import SplitSettings
from models.errors import DivergenceError
from tasks.arms.base import ArmRef, Source
from tasks.arms.runner import RunnerSettings
from tasks.data.ingest import StoreRef
from tasks.engine import training
from tasks.engine.plan import Plan
from tasks.images.kind import ImageKind
from tests.tasks.engine.test_plan import arm


def test_an_arm_whose_source_failed_has_failed_too_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = arm("source", seed=0), arm("source", seed=1)
    needy = tuple(arm("transfer", seed=s).model_copy(update={"source": Source(hash=sources[s].hash)}) for s in (0, 1))
    asked = []

    def train_stage(kind, arms, parent, runner):
        asked.append([each.title for each in arms])
        failed = DivergenceError("the loss is not finite")
        return [(a, failed if a.hash == sources[1].hash else ArmRef(run_id=a.title, reused=False)) for a in arms]

    monkeypatch.setattr(training, "_train_stage", train_stage)
    outcome = training.train_plan(None, Plan(arms=(*sources, *needy)), "parent", RunnerSettings())  # type: ignore[arg-type]
    assert asked[1] == [needy[0].title]
    assert list(outcome.finished) == [sources[0].hash, needy[0].hash]
    assert [(record.hash, record.reason) for record in outcome.failed] == [
        (sources[1].hash, "the loss is not finite"),
        (needy[1].hash, "the arm whose network it needs did not finish"),
    ]


def test_a_stage_of_which_no_arm_can_be_trained_is_passed_over() -> None:
    alone = arm("transfer").model_copy(update={"source": Source(hash="gone")})
    outcome = training.train_plan(None, Plan(arms=(alone,)), "parent", RunnerSettings())  # type: ignore[arg-type]
    assert not outcome.finished
    assert len(outcome.failed) == 1


def test_a_kind_can_be_sent_to_another_process() -> None:
    store = StoreRef(name="phantom", path=Path("store"), fingerprint="sha256:0", reused=False)
    kind = ImageKind(store, SplitSettings())
    assert pickle.loads(pickle.dumps(kind)) == kind
