"""An arm is trained once, whoever asks for it and however often at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from tasks.arms import mlflow_runs
from tasks.arms.base import BaseArm, OnStep, train_or_reuse
from tasks.records.arms import ArmRecord, ConditionRecord
from tasks.records.scores import MeanRecord
from tasks.runtime.home import home
from tasks.runtime.interrupts import interrupt_all


class Quick(BaseArm):
    version: ClassVar[int] = 1
    epochs: ClassVar[int] = 1
    outputs: ClassVar[int] = 1

    method: str = "quick"
    policy: str = "none"
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy")

    def hash_inputs(self) -> list[Any]:
        return [self.seed]

    def parameters(self) -> dict[str, Any]:
        return {"seed": self.seed}


ARM = Quick(condition="clean", seed=0, device="cpu", threads=1)


class Training:
    """Trains nothing, until it may end; counts how often it was asked to."""

    def __init__(self) -> None:
        self.times, self.begun, self.may_end = 0, threading.Event(), threading.Event()

    def __call__(self, run_id: str, on_step: OnStep) -> ArmRecord:
        self.times += 1
        self.begun.set()
        assert self.may_end.wait(60)
        mean = MeanRecord(value=None, lo=None, hi=None, reason="nothing was scored", labels=())
        return ArmRecord(
            factors={"method": "none", "condition": "clean"}, condition=ConditionRecord(name="clean"), seed=ARM.seed,
            by_label={}, mean=mean, best_epoch=1, items_per_second=None, seconds=0.0,
        )  # fmt: skip


def test_a_factor_at_its_default_is_neither_in_the_name_nor_in_the_hash() -> None:
    class Older(Quick):
        """The same arm, of a version that knew no policies."""

        factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition")

    changed = ARM.model_copy(update={"policy": "mixup"})
    assert ARM.hash == Older(**ARM.model_dump()).hash != changed.hash
    assert ARM.title == "clean · seed 0"
    assert changed.title == "clean · mixup · seed 0"


def test_an_arm_asked_for_twice_at_a_time_is_trained_once_and_found_by_the_other() -> None:
    mlflow_runs.connect()
    train = Training()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(train_or_reuse, ARM, None, train) for _ in range(2)]
        assert train.begun.wait(60)
        assert not any(each.done() for each in both)
        train.may_end.set()
        refs = [each.result(60) for each in both]
    assert train.times == 1
    assert refs[0].run_id == refs[1].run_id
    assert sorted(ref.reused for ref in refs) == [False, True]
    assert not list(home().arms.iterdir())


def test_who_waits_for_another_command_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow_runs.connect()
    train = Training()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(train_or_reuse, ARM, None, train)
        assert train.begun.wait(60)
        second = pool.submit(train_or_reuse, ARM, None, train)
        monkeypatch.setattr("tasks.runtime.interrupts._stopped", threading.Event())
        interrupt_all()
        assert isinstance(second.exception(60), KeyboardInterrupt)
        train.may_end.set()
        assert not first.result(60).reused


def test_an_arm_that_failed_is_trained_again_by_who_waited() -> None:
    mlflow_runs.connect()
    train = Training()

    def failing(run_id: str, on_step: OnStep) -> ArmRecord:
        train.begun.set()
        assert train.may_end.wait(60)
        raise ValueError("not this time")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(train_or_reuse, ARM, None, failing)
        assert train.begun.wait(60)
        second = pool.submit(train_or_reuse, ARM, None, train)
        train.may_end.set()
        assert isinstance(first.exception(60), ValueError)
        assert not second.result(60).reused
    assert train.times == 1
