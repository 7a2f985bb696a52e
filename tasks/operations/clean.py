"""Clean: remove what can be made again and what nobody needs any more, and say what was freed and what stays.

Nothing goes that a registered model, an alias, a study or an unfinished arm needs, or that a living process holds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Run

from tasks.operations.clean_arms import checkpoint_locks, find_arms
from tasks.operations.clean_databases import find_databases
from tasks.operations.clean_leftovers import find_leftovers
from tasks.operations.clean_mlflow import find_models, find_nights, needed_by_studies, read_nights
from tasks.operations.clean_prefect import find_flow_runs, prefect_client
from tasks.operations.clean_stores import find_builds, find_pixels, find_stores, store_locks
from tasks.operations.mlflow_records import MlflowRecords, is_over
from tasks.operations.removable import IN_USE, CleanSettings, Finding
from tasks.runtime.home import Home, home
from tasks.runtime.servers import check_mlflow, sqlite_path

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@dataclass(frozen=True)
class Cleaned:
    """What was removed of one kind of things, or would be.

    Attributes:
        what: the kind.
        removed: how many.
        size: bytes that they took.
        kept: why others stay, and how many for each reason.
    """

    what: str
    removed: int
    size: int
    kept: Counter[str]


def clean_home(limits: CleanSettings) -> Iterator[Cleaned]:
    """Clean MEDMTL_HOME and the records in MLflow and Prefect, kind by kind; see `clean`.

    Raises:
        DataError: MEDMTL_HOME, a server or a database cannot be used.
    """
    check_mlflow(home().tracking_uri)
    with prefect_client(home().prefect) as client:
        yield from clean(home(), limits, client)
    yield shrink_databases(home(), limits)


def table(rows: Iterable[Cleaned], dry_run: bool) -> Iterator[str]:
    """Yield the lines of a table of what was removed and what stays, and a line with the sum."""
    yield f"{'':<28} {'would be removed' if dry_run else 'removed':>16} {'MB':>9}   kept"
    size = 0
    for row in rows:
        kept = ", ".join(f"{count} {why}" for why, count in row.kept.most_common()) or "-"
        yield f"{row.what:<28} {row.removed:>16} {row.size / 1e6:>9.1f}   {kept}"
        size += row.size
    yield f"{size / 1e6:.1f} MB {'would be' if dry_run else 'were'} freed"


def clean(folder: Home, limits: CleanSettings, prefect: "SyncPrefectClient | None" = None) -> Iterator[Cleaned]:
    """Remove what nobody needs any more, kind by kind, unless the limits say that this is a dry run.

    Args:
        folder: MEDMTL_HOME.
        limits: how many stay, and how old the others must be.
        prefect: client of the server whose records are cleaned too; None for none.

    Yields:
        What was removed of each kind, after it was removed.
    """
    for finding in _findings(folder, limits, prefect):
        yield _remove(finding, limits)


def shrink_databases(folder: Home, limits: CleanSettings) -> Cleaned:
    """Write databases anew that hold much free space, unless the limits say that this is a dry run.

    Call it after a server of ours on one of them has ended.
    """
    return _remove(find_databases(folder), limits)


def _remove(finding: Finding, limits: CleanSettings) -> Cleaned:
    removed = [each for each in finding.removable if limits.dry_run or each.remove()]
    if removed and not limits.dry_run:
        finding.afterwards()
    if meanwhile := len(finding.removable) - len(removed):
        finding.kept[IN_USE] += meanwhile
    return Cleaned(finding.what, len(removed), sum(each.size for each in removed), finding.kept)


def _findings(folder: Home, limits: CleanSettings, prefect: "SyncPrefectClient | None") -> Iterator[Finding]:
    """Yield the findings in an order in which what needs a thing comes before that thing."""
    database = sqlite_path(folder.tracking_uri)
    records = None if database and not database.exists() else MlflowRecords.open(folder.tracking_uri)
    nights = read_nights(records) if records else []
    of_studies = needed_by_studies(records) if records else frozenset[str]()
    running: list[Run] = [run for run in records.runs.values() if not is_over(run)] if records else []
    arms, unfinished = find_arms(folder, records, nights, of_studies, limits)
    if records:
        finding, gone = find_nights(records, nights, of_studies, limits)
        yield finding
        yield find_models(records, gone, limits)
    yield arms
    stores, removed = find_stores(folder, [*running, *unfinished], limits)
    yield stores
    yield (builds := find_builds(folder, limits))
    yield find_pixels(folder, removed, builds.kept.total() > 0, limits)
    yield find_leftovers(folder, lambda: [*checkpoint_locks(folder), *store_locks(folder)], limits)
    if prefect:
        yield find_flow_runs(prefect, limits)
