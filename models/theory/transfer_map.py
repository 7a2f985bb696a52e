"""The map of transfer: Figure 3's relative changes under many settings, to show where the paper's pattern holds.

The map has a grid of cosine and norm / noise, and cells that vary one other setting at a time. Norm and noise matter
only by their ratio. Cells with the same inputs use the same random draw.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from models.settings import Settings
from models.theory.linear_tasks import LinearSettings, draw_figure3_data
from models.theory.transfer import Scaling, SolverSettings, relative_changes

GRID = "grid"


class MapSettings(Settings):
    """Settings of the map: the values of its cells."""

    cosines: tuple[float, ...] = Field(
        (0.9, 0.96, 0.99, 0.999, 0.9999), description="of the angle between theta_1 and theta_2; each with every norm"
    )
    norms: tuple[float, ...] = Field(
        (0.1, 0.3, 1.0, 3.0, 10.0), description="length of theta, as a multiple of the noise"
    )
    conditions: tuple[float, ...] = Field(
        (3.0, 10.0, 30.0, 300.0), description="kappa; one cell each, all else as in Figure 3"
    )
    target_samples: tuple[int, ...] = Field(
        (105, 200, 500), description="training samples of task 1; one cell each, all else as in Figure 3"
    )
    scalings: tuple[Scaling, ...] = Field(
        ("tasks",), description="scaling of the loss; one cell each, all else as in Figure 3"
    )
    source_samples: tuple[int, int] = Field((100, 10_000), description="samples of the source: few and many")
    solvers: SolverSettings = Field(
        SolverSettings(steps=(), sweeps=(100,)), description="solvers of the map, by default fewer than for Figure 3"
    )


def map_rows(linear: LinearSettings, settings: MapSettings, seed: int) -> Iterator[dict[str, Any]]:
    """Compute the cells of the map for one seed.

    Args:
        linear: Figure 3's settings, from which the cells depart.
        settings: the values of the cells.
        seed: of the data and of the random starts.

    Yields:
        One row per cell: 'varied', `GRID` or the name of the setting that differs; 'cell', the cell's settings;
        'scaling' of the loss; 'changes', solver -> 'source samples' (for instance '3 100') -> relative change.
    """
    data = draw_figure3_data(linear, settings.source_samples, seed)
    for norm in settings.norms:
        for cosine in settings.cosines:
            cell = linear.model_copy(update={"norm": norm * linear.noise, "cosine": cosine})
            changes = relative_changes(data, cosine, cell.norm, cell.noise, settings.solvers, seed)
            yield _row(GRID, cell, settings.solvers, changes)
    for setting, value in [
        *(("condition", condition) for condition in settings.conditions),
        *(("target_samples", samples) for samples in settings.target_samples),
    ]:
        cell = LinearSettings.model_validate(linear.model_dump() | {setting: value})
        other_data = draw_figure3_data(cell, settings.source_samples, seed)
        changes = relative_changes(other_data, cell.cosine, cell.norm, cell.noise, settings.solvers, seed)
        yield _row(setting, cell, settings.solvers, changes)
    for scaling in settings.scalings:
        solvers = settings.solvers.model_copy(update={"scaling": scaling})
        changes = relative_changes(data, linear.cosine, linear.norm, linear.noise, solvers, seed)
        yield _row("scaling", linear, solvers, changes)


def _row(
    varied: str,
    cell: LinearSettings,
    solvers: SolverSettings,
    changes: dict[str, dict[tuple[int, int], float]],
) -> dict[str, Any]:
    by_solver = {
        solver: {f"{source} {samples}": change for (source, samples), change in of_solver.items()}
        for solver, of_solver in changes.items()
        if solver in solvers.names
    }
    return {"varied": varied, "cell": cell.model_dump(), "scaling": solvers.scaling, "changes": by_solver}
