"""Which nights stay in MLflow: new ones, and those that a registered model, a study or another night needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.operations.removable import IN_USE, CleanSettings

REGISTERED = "needed by a registered model"
OF_STUDY = "needed by a study"
OF_NIGHT = "needed by another night"


@dataclass(frozen=True)
class Night:
    """A night in MLflow.

    Attributes:
        run_id: of its run.
        series: name of the model.
        date: 'YYYY-MM-DD'.
        ended: Unix time, seconds; None while it runs.
        family: ids of its run and of all runs below it.
        refers_to: ids of runs that it names: those of its arms, which another night may have trained.
    """

    run_id: str
    series: str
    date: str
    ended: float | None
    family: frozenset[str]
    refers_to: frozenset[str] = frozenset()


def newest_dates(nights: Sequence[Night], keep: int) -> set[tuple[str, str]]:
    """Return series and date of the newest `keep` dates of each series."""
    dates = {night.series: {other.date for other in nights if other.series == night.series} for night in nights}
    return {(series, date) for series, of_series in dates.items() for date in sorted(of_series)[-keep:]}


def why_nights_stay(
    nights: Sequence[Night], limits: CleanSettings, registered: frozenset[str], of_studies: frozenset[str]
) -> dict[str, str | None]:
    """Return by run id why each night stays; None for one that nothing needs.

    Args:
        nights: all of them.
        limits: how many stay, and how old the others must be.
        registered: ids of the runs that a model version comes from.
        of_studies: ids of the runs of studies and of the arms that they name.
    """
    newest, before = newest_dates(nights, limits.keep), limits.before

    def why(night: Night) -> str | None:
        reasons = {
            IN_USE: night.ended is None,
            REGISTERED: bool(night.family & registered),
            OF_STUDY: bool(night.family & of_studies),
            limits.newest: (night.series, night.date) in newest,
            limits.young: (night.ended or 0.0) >= before,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    found = {night.run_id: why(night) for night in nights}
    while referred := list(_referred(nights, found)):
        found |= dict.fromkeys(referred, OF_NIGHT)
    return found


def _referred(nights: Sequence[Night], found: dict[str, str | None]) -> Iterator[str]:
    """Yield the nights without a reason to stay to which a night that stays refers."""
    named = frozenset[str]().union(*(night.refers_to for night in nights if found[night.run_id]))
    yield from (night.run_id for night in nights if not found[night.run_id] and night.family & named)
