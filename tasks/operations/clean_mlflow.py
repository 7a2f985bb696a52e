"""Clean MLflow: nights with their arms, and models that were never finished. Studies stay as they are."""

from collections.abc import Callable, Sequence
from functools import partial

from mlflow.entities import LoggedModel, LoggedModelStatus

from tasks.arms.mlflow_runs import NIGHT_TAG, SERIES_TAG
from tasks.operations.mlflow_records import (
    CLEANED_TAG,
    MlflowRecords,
    artifact_bytes,
    ended,
    is_over,
)
from tasks.operations.nights import REGISTERED, Night, why_nights_stay
from tasks.operations.removable import DAY_SECONDS, IN_USE, CleanSettings, Finding
from tasks.runtime.part_errors import without_password
from tasks.runtime.progress import LOGGER

STUDYING = "while a study runs"


def read_nights(records: MlflowRecords) -> list[Night]:
    """Return the nights of all series; a night runs as long as any run below it."""
    nights = []
    for run in records.of_kind("night"):
        family = records.family(run.info.run_id)
        over = all(is_over(records.runs[each]) for each in family)
        nights.append(
            Night(
                run.info.run_id,
                run.data.tags.get(SERIES_TAG, ""),
                run.data.tags.get(NIGHT_TAG, ""),
                max(ended(records.runs[each]) for each in family) if over else None,
                family,
                records.refers_to(run),
            )
        )
    return nights


def needed_by_studies(records: MlflowRecords) -> frozenset[str]:
    """Return the ids of all runs of studies, of their arms, and of the arms that they reused."""
    studies = records.of_kind("study")
    return frozenset[str]().union(*(records.family(run.info.run_id) | records.refers_to(run) for run in studies))


def find_nights(
    records: MlflowRecords, nights: Sequence[Night], of_studies: frozenset[str], limits: CleanSettings
) -> tuple[Finding, frozenset[str]]:
    """Find the nights to remove, each with its arms.

    While a study runs it cannot be told which arms it takes, so that none is removed.

    Returns:
        The finding, and the ids of all runs of the nights to remove.
    """
    finding, families = Finding("nights in MLflow", afterwards=partial(_say_what_remains, records)), set[str]()
    studying = not all(is_over(run) for run in records.of_kind("study"))
    reasons = why_nights_stay(nights, limits, records.registered, of_studies)
    for night in nights:
        why = reasons[night.run_id] or (STUDYING if studying else None)
        below = sorted(night.family - {night.run_id})
        finding.add(
            why,
            lambda family=night.family: sum(map(records.run_bytes, family)),  # type: ignore[misc]
            partial(_remove_all, records, [*below, night.run_id]),
        )
        families |= night.family if why is None else frozenset()
    for run in records.deleted.values():
        if records.collects and CLEANED_TAG in run.data.tags:
            finding.add(None, partial(artifact_bytes, run.info.artifact_uri), partial(records.collect_run, run))
    return finding, frozenset(families)


def _remove_all(records: MlflowRecords, run_ids: Sequence[str]) -> bool:
    """Remove runs in this order, the night's last, so that after a kill the next clean goes on with it."""
    return all(records.remove_run(run_id) for run_id in run_ids)


def find_models(records: MlflowRecords, gone: frozenset[str], limits: CleanSettings) -> Finding:
    """Find the logged models that a killed run left incomplete, and those that were deleted but not collected.

    Args:
        records: of MLflow.
        gone: ids of the runs that are removed, and their models with them.
        limits: how old they must be.
    """
    finding = Finding("incomplete models in MLflow")
    for run_id, models in records.models.items():
        for model in models:
            if model.status != LoggedModelStatus.READY and run_id not in gone:
                _add_model(finding, model, _why_model_stays(records, run_id, model, limits), records.remove_model)
    for model in records.deleted_models(int(limits.older_than * DAY_SECONDS * 1000)):
        _add_model(finding, model, None, records.collect_model)
    return finding


def _add_model(finding: Finding, model: LoggedModel, why: str | None, remove: Callable[[LoggedModel], bool]) -> None:
    finding.add(why, partial(artifact_bytes, model.artifact_location), partial(remove, model))


def _why_model_stays(records: MlflowRecords, run_id: str, model: LoggedModel, limits: CleanSettings) -> str | None:
    run = records.runs.get(run_id)
    if run is not None and not is_over(run):
        return IN_USE
    if run_id in records.registered:
        return REGISTERED
    return limits.young if model.creation_timestamp / 1000 >= limits.before else None


def _say_what_remains(records: MlflowRecords) -> None:
    """Say what remains to be done where MLflow's garbage collection cannot run here."""
    if not records.collects:
        LOGGER.info(
            "MLflow's files were removed; the rows of deleted runs stay in its server's database until this is run "
            "there, with that database's address: mlflow gc --tracking-uri %s --backend-store-uri DATABASE. It removes "
            "for good all that was ever deleted in that MLflow",
            without_password(records.uri),
        )
