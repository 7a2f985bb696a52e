"""The map of transfer: Figure 3's relative changes under many settings, to show where the paper's pattern holds.

The map has a grid of cosine and norm / noise, and cells that vary one other setting at a time. Norm and noise matter
only by their ratio. Cells with the same inputs use the same random draw.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from models.settings import Settings
from models.theory.linear_tasks import Figure3Data, LinearSettings, Samples, draw_figure3_data
from models.theory.transfer import Scaling, SolverSettings, relative_changes, with_text_keys

GRID = "grid"


class MapSettings(Settings):
    """Settings of the map: the values of its cells."""

    cosines: tuple[Annotated[float, Field(gt=-1, lt=1)], ...] = Field(
        (0.9, 0.96, 0.99, 0.999, 0.9999),
        max_length=100,
        description="of the angle between theta_1 and theta_2; each with every norm",
    )
    norms: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (0.1, 0.3, 1.0, 3.0, 10.0), max_length=100, description="length of theta, as a multiple of the noise"
    )
    conditions: tuple[Annotated[float, Field(ge=1, le=1e6)], ...] = Field(
        (3.0, 10.0, 30.0, 300.0), max_length=100, description="kappa; one cell each, all else as in Figure 3"
    )
    target_samples: tuple[Annotated[int, Field(ge=12, le=10_000_000)], ...] = Field(
        (105, 200, 500),
        max_length=100,
        description="training samples of task 1; one cell each, all else as in Figure 3",
    )
    scalings: tuple[Scaling, ...] = Field(
        ("tasks",), max_length=2, description="scaling of the loss; one cell each, all else as in Figure 3"
    )
    source_samples: tuple[Samples, Samples] = Field((100, 10_000), description="samples of the source: few and many")
    solvers: SolverSettings = Field(
        SolverSettings(steps=(), sweeps=(100,)), description="solvers of the map, by default fewer than for Figure 3"
    )


def map_rows(linear: LinearSettings, settings: MapSettings, seed: int) -> Iterator[dict[str, Any]]:
    """Compute the cells of the map, which depart from Figure 3's settings `linear`, for one seed.

    Yields:
        One row per cell: 'varied', `GRID` or the name of the setting that differs; 'cell', the cell's settings;
        'scaling' of the loss; 'changes', solver -> 'source samples' (for instance '3 100') -> relative change.
    """
    data, solvers = draw_figure3_data(linear, settings.source_samples, seed), settings.solvers
    for norm in settings.norms:
        for cosine in settings.cosines:
            cell = linear.model_copy(update={"norm": norm * linear.noise, "cosine": cosine})
            yield _row(GRID, cell, data, solvers, seed)
    for setting, values in (("condition", settings.conditions), ("target_samples", settings.target_samples)):
        for value in values:
            cell = LinearSettings.model_validate(linear.model_dump() | {setting: value})
            yield _row(setting, cell, draw_figure3_data(cell, settings.source_samples, seed), solvers, seed)
    for scaling in settings.scalings:
        yield _row("scaling", linear, data, solvers.model_copy(update={"scaling": scaling}), seed)


def _row(varied: str, cell: LinearSettings, data: Figure3Data, solvers: SolverSettings, seed: int) -> dict[str, Any]:
    changes = with_text_keys(relative_changes(data, cell.cosine, cell.norm, cell.noise, solvers, seed))
    changes = {solver: changes[solver] for solver in solvers.names}
    return {"varied": varied, "cell": cell.model_dump(), "scaling": solvers.scaling, "changes": changes}
