"""Where Figure 3's picture holds: the same experiment in other settings, one draw of the data for many of them.

The target's change depends on cosine and norm / noise, which are crossed, and on the rest, which is varied one setting
at a time. Multiplying norm and noise by the same number changes nothing.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from models.settings import Settings
from models.theory.linear_tasks import LinearSettings, draw_figure3
from models.theory.transfer import Scaling, SolverSettings, transfer

GRID = "grid"


class MapSettings(Settings):
    """The cells of the map."""

    cosines: tuple[float, ...] = Field((0.9, 0.96, 0.99, 0.999, 0.9999), description="crossed with the norms")
    norms: tuple[float, ...] = Field((0.1, 0.3, 1.0, 3.0, 10.0), description="of theta, as multiples of the noise")
    conditions: tuple[float, ...] = Field((3.0, 10.0, 30.0, 300.0), description="kappa, one at a time")
    target_samples: tuple[int, ...] = Field((105, 200, 500), description="of task 1, one at a time")
    scalings: tuple[Scaling, ...] = Field(("tasks",), description="of the loss, one at a time")
    source_samples: tuple[int, int] = Field((100, 10_000), description="few and many samples of the source")
    solvers: SolverSettings = Field(SolverSettings(steps=(), sweeps=(100,)), description="as in Figure 3, fewer")


def map_rows(linear: LinearSettings, settings: MapSettings, seed: int) -> Iterator[dict[str, Any]]:
    """One seed's cells: what was varied, the cell's settings, and its changes, solver -> 'source samples' -> change."""
    drawn = draw_figure3(linear, settings.source_samples, seed)
    for norm in settings.norms:
        for cosine in settings.cosines:
            cell = linear.model_copy(update={"norm": norm * linear.noise, "cosine": cosine})
            found = transfer(drawn, cosine, cell.norm, cell.noise, settings.solvers, seed)
            yield _row(GRID, cell, settings.solvers, found)
    for setting, value in [
        *(("condition", condition) for condition in settings.conditions),
        *(("target_samples", samples) for samples in settings.target_samples),
    ]:
        cell = LinearSettings.model_validate(linear.model_dump() | {setting: value})
        elsewhere = draw_figure3(cell, settings.source_samples, seed)
        found = transfer(elsewhere, cell.cosine, cell.norm, cell.noise, settings.solvers, seed)
        yield _row(setting, cell, settings.solvers, found)
    for scaling in settings.scalings:
        solvers = settings.solvers.model_copy(update={"scaling": scaling})
        found = transfer(drawn, linear.cosine, linear.norm, linear.noise, solvers, seed)
        yield _row("scaling", linear, solvers, found)


def _row(
    varied: str,
    cell: LinearSettings,
    solvers: SolverSettings,
    found: dict[str, dict[tuple[int, int], float]],
) -> dict[str, Any]:
    changes = {
        solver: {f"{source} {samples}": change for (source, samples), change in by_source.items()}
        for solver, by_source in found.items()
        if solver in solvers.names
    }
    return {"varied": varied, "cell": cell.model_dump(), "scaling": solvers.scaling, "changes": changes}
