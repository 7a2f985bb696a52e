"""Clean the checkpoints of arms that nobody will resume.

An unfinished arm is resumed by the same command on the same data. So the checkpoint of a study's arm stays until its
run is deleted in MLflow; that of a night goes once the series has a newer night, whose data have grown.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mlflow.entities import Run

from tasks.arms.mlflow_runs import ARM_TAG
from tasks.operations.clean_mlflow import STUDYING
from tasks.operations.mlflow_records import MlflowRecords, is_over
from tasks.operations.nights import OF_STUDY, Night
from tasks.operations.removable import (
    IN_USE,
    REMOVED,
    CleanSettings,
    Finding,
    last_change,
    own_bytes,
    remove_folder,
    remove_locked,
)
from tasks.runtime.home import Home
from tasks.runtime.lease import is_locked

RESUMABLE = "can be resumed"
UNKNOWN = "of another MLflow store"


def find_arms(
    home: Home,
    records: MlflowRecords | None,
    nights: Sequence[Night],
    of_studies: frozenset[str],
    limits: CleanSettings,
) -> tuple[Finding, list[Run]]:
    """Find the checkpoints to remove.

    Returns:
        The finding, and the runs of the unfinished arms whose checkpoints stay.
    """
    finding, unfinished = Finding("checkpoints of arms"), []
    newest = {night.series: max(each.date for each in nights if each.series == night.series) for night in nights}
    outdated = {
        run_id
        for night in nights
        if night.ended is not None and night.date < newest[night.series]
        for run_id in night.family - of_studies
    }
    studying = records is not None and not all(is_over(run) for run in records.of_kind("study"))
    for folder in sorted(home.arms.iterdir()) if home.arms.is_dir() else ():
        if not folder.is_dir():
            continue
        if folder.name.endswith(REMOVED):
            finding.add(None, partial(own_bytes, folder), partial(remove_folder, folder))
            continue
        lock, run = folder.with_name(f"{folder.name}.lock"), _run_of(records, folder.name)
        why = IN_USE if is_locked(lock) else _why_arm_stays(records, run, outdated, of_studies, studying)
        if why is None and last_change(folder) >= limits.before:
            why = limits.young
        if why is not None and run is not None:
            unfinished.append(run)
        finding.add(why, partial(own_bytes, folder), partial(remove_locked, folder, lock))
    return finding, unfinished


def _run_of(records: MlflowRecords | None, arm: str) -> Run | None:
    """Return the newest run of an arm; a deleted one only if there is no other."""
    for runs in (records.runs, records.deleted) if records else ():
        of_arm = [run for run in runs.values() if run.data.tags.get(ARM_TAG) == arm]
        if of_arm:
            return max(of_arm, key=lambda run: run.info.start_time)
    return None


def _why_arm_stays(
    records: MlflowRecords | None,
    run: Run | None,
    outdated: set[str],
    of_studies: frozenset[str],
    studying: bool,
) -> str | None:
    if run is None or records is None:
        return UNKNOWN
    run_id = run.info.run_id
    if run_id in records.deleted or run.info.status == "FINISHED":
        return None
    if run_id in of_studies:
        return OF_STUDY
    if run_id not in outdated:
        return RESUMABLE
    return STUDYING if studying else None


def checkpoint_locks(home: Home) -> list[Path]:
    """Return the lock files of arms that have no checkpoint."""
    return [lock for lock in home.arms.glob("*.lock") if not lock.with_suffix("").exists()]
