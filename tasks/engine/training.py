"""Train the arms of a plan, several at a time; an arm that finished before is reused, an unfinished one is resumed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner

from models.errors import DivergenceError
from models.training.peak_memory import PeakMemory
from tasks.arms.base import ArmRef, ArmT, BaseArm, OnStep, ResumableEpochs, log_results, train_or_reuse
from tasks.arms.runner import RunnerSettings, task_runner
from tasks.engine.kind import Kind
from tasks.engine.plan import Plan, resolve_sources
from tasks.records.arms import ArmRecord, LabelRecord
from tasks.records.scores import MeanRecord, score_records
from tasks.runtime.interrupts import interrupt_all, interruptible
from tasks.runtime.progress import LOGGER, progress

_WITHOUT_SOURCE = "the arm whose network it needs did not finish"


class Outcome(NamedTuple):
    """What became of the arms of a plan.

    Attributes:
        finished: by the arm's hash, in the order of the plan.
        failed: a record of each arm that diverged, or whose source did.
    """

    finished: dict[str, ArmRef]
    failed: list[ArmRecord]


@task(
    name="train arm",
    task_run_name="{arm.title}",
    cache_policy=NO_CACHE,  # finished arms are found in MLflow
)
def train_arm(kind: Kind[ArmT, Any, Any], arm: ArmT, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on its test items and log the results; reuse an arm that finished before.

    Args:
        kind: of the study.
        arm: to train.
        parent: the study's MLflow run.

    Returns:
        Where the arm's results are.

    Raises:
        DataError: an input cannot be used.
        SettingError: a setting does not fit the inputs.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    return train_or_reuse(arm, parent, lambda run_id, on_step: _train(kind, arm, run_id, on_step))


def _train(kind: Kind[ArmT, Any, Any], arm: ArmT, run_id: str, on_step: OnStep) -> ArmRecord:
    epochs = ResumableEpochs(arm, run_id)
    inputs = kind.prepare(arm)
    with epochs, PeakMemory(arm.device) as memory:
        fitted = kind.fit(arm, inputs, epochs.state, epochs.save, on_step)
    scored = kind.score(arm, inputs, fitted)
    scores, mean = score_records(scored.evaluation, kind.sampled)
    fields = _identity(arm) | {
        "metric": kind.metric,
        "by_label": {label: LabelRecord(score=scores[label]) for label in scored.labels},
        "mean": mean,
        "best_epoch": fitted.best_epoch,
        "items_per_second": float(np.median([report.items_per_second for report in fitted.history])),
        "seconds": epochs.seconds,
        "peak_memory_mib": memory.mib if epochs.resumed_epochs < arm.epochs else None,
        "mlflow_run_id": run_id,
    }
    record = ArmRecord(**fields | dict(scored.details))
    name = kind.score_name
    metrics = {f"test_{name}/{label}": score.value for label, score in record.scores.items()} | dict(scored.metrics)
    metrics |= {f"test_{name}_mean": record.mean.value, "best_epoch": record.best_epoch}
    log_results(arm, run_id, record, scored.predictions, metrics, epochs.last_timestamp_ms)
    return record


def train_plan(kind: Kind[ArmT, Any, Any], plan: Plan[ArmT], parent: str, runner: RunnerSettings) -> Outcome:
    """Train the arms of a plan, stage by stage.

    Args:
        kind: of the study.
        plan: of the study.
        parent: the study's MLflow run.
        runner: how many arms train at a time, and where.

    Returns:
        The finished and the failed arms; an arm whose source failed has failed too.

    Raises:
        DivergenceError: all arms of a stage diverged.
    """
    outcome = Outcome({}, [])
    # For each tag of a task, Prefect asks its server for a concurrency slot: two seconds per arm. So no tags here.
    untagged = TagsContext(current_tags=set())
    with untagged, interruptible(), task_runner(runner, plan.arms[0].device) as pool:
        for stage in plan.stages:
            arms = resolve_sources(stage, outcome.finished)
            left_out = {arm.hash for arm in stage} - {arm.hash for arm in arms}
            outcome.failed.extend(_failed_record(arm, _WITHOUT_SOURCE) for arm in stage if arm.hash in left_out)
            for arm, result in _train_stage(kind, arms, parent, pool) if arms else ():
                if isinstance(result, ArmRef):
                    outcome.finished[arm.hash] = result
                else:
                    outcome.failed.append(_failed_record(arm, str(result)))
    return outcome


def _train_stage(
    kind: Kind[ArmT, Any, Any], arms: Sequence[ArmT], parent: str, pool: TaskRunner[Any]
) -> list[tuple[ArmT, ArmRef | DivergenceError]]:
    """Train independent arms; return each with its MLflow run, or with the error if it diverged."""
    outcomes: dict[str, ArmRef | DivergenceError] = {}
    with progress("arms") as update:
        futures = {pool.submit(train_arm, {"kind": kind, "arm": arm, "parent": parent}): arm for arm in arms}
        update(0, len(arms))
        try:
            for future in as_completed(list(futures)):
                arm = futures[future]
                try:
                    outcomes[arm.hash] = future.result()
                except DivergenceError as error:
                    LOGGER.warning("%s: %s", arm.title, error)
                    outcomes[arm.hash] = error
                update(len(outcomes), len(arms))
        except BaseException:
            interrupt_all()  # each arm leaves a checkpoint; without this, leaving `pool` would wait until all finish
            raise
    diverged = [error for error in outcomes.values() if isinstance(error, DivergenceError)]
    if len(diverged) == len(arms):
        raise diverged[0]
    return [(arm, outcomes[arm.hash]) for arm in arms]


def _identity(arm: BaseArm) -> dict[str, Any]:
    """Return the fields of a record that say which arm it is."""
    source = arm.source.hash if arm.source else None
    return {
        "factors": arm.factors,
        "condition": arm.condition_record(),
        "seed": arm.seed,
        "hash": arm.hash,
        "source": source,
    }


def renamed(record: ArmRecord, arm: BaseArm, levels: Mapping[str, str]) -> ArmRecord:
    """Return the record as that of an arm of this study; another may have trained it under other names.

    Args:
        record: of the arm.
        arm: of this study.
        levels: of the factors of this study, also of one at its default.
    """
    return record.model_copy(update=_identity(arm) | {"factors": dict(levels)})


def _failed_record(arm: BaseArm, reason: str) -> ArmRecord:
    return ArmRecord(
        **_identity(arm),
        by_label={},
        mean=MeanRecord(value=None, lo=None, hi=None, reason=reason, labels=()),
        best_epoch=None,
        items_per_second=None,
        seconds=0.0,
        status="failed",
        reason=reason,
    )
