"""Compare the arms of a study by the contrasts of its plan, and write results.json."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.evaluation.paired import Differences, compare_units, subtract
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmT, read_arm
from tasks.engine.kind import Finished, Kind, Unit
from tasks.engine.plan import Contrast, NetworkPairs, Plan, Role, varied_levels
from tasks.engine.training import Outcome, renamed
from tasks.records.arms import ArmRecord
from tasks.records.base import write_results
from tasks.records.comparisons import ComparisonRecord, adjust_p_values, spread_records
from tasks.records.study import StudyResults
from tasks.runtime.run_folder import RESULTS
from tasks.runtime.versions import git_commit, versions


@task(name="compare arms", cache_policy=NO_CACHE)
def compare_arms(
    kind: Kind[ArmT, Any, Any],
    plan: Plan[ArmT],
    outcome: Outcome,
    config: Mapping[str, Any],
    begun: float,
    folder: Path,
) -> Path:
    """Write results.json: every arm's results, and the contrasts of the plan.

    Args:
        kind: of the study.
        plan: of the study.
        outcome: of its arms.
        config: the study's complete settings.
        begun: `time.monotonic()` at the start of the study.
        folder: the file is written into.

    Returns:
        Path of results.json.
    """
    finished: dict[str, Finished] = {}
    levels = {arm.hash: of_arm for arm, of_arm in zip(plan.arms, varied_levels(plan.arms), strict=True)}
    for arm in plan.arms:
        if arm.hash in outcome.finished:
            record, predictions = read_arm(outcome.finished[arm.hash])
            finished[arm.hash] = Finished(renamed(record, arm, levels[arm.hash]), predictions)
    records = [each.record for each in finished.values()]
    failed = [record.model_copy(update={"factors": levels[record.hash or ""]}) for record in outcome.failed]
    compared = _comparisons(kind, plan.contrasts, finished)
    results = StudyResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        data=kind.data(),
        arms=(*records, *failed),
        comparisons=compared["method"],
        floor=compared["floor"],
        controls=compared["control"],
        interactions=compared["interaction"],
        spread=spread_records([*records, *failed]),
        runs=mlflow_runs.runs_record(),
        seconds=time.monotonic() - begun,
        notes=(*kind.notes(plan, records), *_reused(records)),
        **kind.more_results(list(finished.values())),
    )
    write_results(results, folder / RESULTS)
    return folder / RESULTS


def _comparisons(
    kind: Kind[ArmT, Any, Any], contrasts: Sequence[Contrast], finished: Mapping[str, Finished]
) -> dict[str, tuple[ComparisonRecord, ...]]:
    """Compare each contrast; p-values are adjusted within the contrasts of a role and family.

    Returns:
        The comparisons by role, in the order of the contrasts.
    """
    records: list[ComparisonRecord] = []
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for contrast in contrasts:
        families[contrast.role, contrast.family].append(len(records))
        differences = _differences(kind, contrast, finished)
        found = compare_units(differences, contrast.population_size, crossed=contrast.crossed, sampled=kind.sampled)
        names = contrast.method, contrast.baseline, contrast.condition
        more: dict[str, Any] = {"metric": kind.metric, "higher_is_better": kind.higher_is_better}
        more |= {name: getattr(contrast, name) for name in ("factor", "held", "experiment", "over_all")}
        more |= {"minus": contrast.minus and contrast.minus.condition}
        records.append(ComparisonRecord.of(*names, found, **more))
    for members in families.values():
        for position, adjusted in zip(members, adjust_p_values([records[i] for i in members]), strict=True):
            records[position] = adjusted
    by_role: dict[str, list[ComparisonRecord]] = {role: [] for role in get_args(Role)}
    for contrast, record in zip(contrasts, records, strict=True):
        by_role[contrast.role].append(record)
    return {role: tuple(of_role) for role, of_role in by_role.items()}


def _differences(
    kind: Kind[ArmT, Any, Any], contrast: Contrast, finished: Mapping[str, Finished]
) -> dict[str, Differences | str]:
    """Return the differences of each unit, or the reason why a unit has none; an interaction's are subtracted ones."""
    first = _of_units(kind, contrast.units, finished)
    if contrast.minus is None:
        return first
    second = _of_units(kind, contrast.minus.units, finished)
    return {name: subtract(first[name], other) for name, other in zip(first, second.values(), strict=True)}


def _of_units(
    kind: Kind[ArmT, Any, Any], units: Mapping[str, NetworkPairs], finished: Mapping[str, Finished]
) -> dict[str, Differences | str]:
    complete = {name: _complete(pairs, finished) for name, pairs in units.items()}
    found = kind.differences({name: unit for name, unit in complete.items() if unit})
    return {name: found.get(name, "no seed in common") for name in complete}


def _complete(pairs: NetworkPairs, finished: Mapping[str, Finished]) -> Unit:
    """Return a unit's seeds for which all arms of both sides have finished."""
    return {
        seed: ([finished[arm_hash] for arm_hash in method], [finished[arm_hash] for arm_hash in baseline])
        for seed, (method, baseline) in pairs.items()
        if all(arm_hash in finished for arm_hash in (*method, *baseline))
    }


def _reused(records: Sequence[ArmRecord]) -> list[str]:
    reused = sum(record.reused for record in records)
    of_all = f"{reused} of {len(records)} arms were trained before with the same inputs and settings, and were reused."
    return [of_all] if reused else []
