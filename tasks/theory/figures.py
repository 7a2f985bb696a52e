"""The figures of the theory's report, in the style of `tasks.reporting.figure_style`."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from models.theory.linear_tasks import SOURCES
from models.theory.nonlinear_tasks import ACROSS, ALONG
from models.theory.transfer import OPTIMUM
from models.theory.transfer_map import GRID
from tasks.reporting.figure_style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    MARKERS,
    draw_interval,
    in_report_style,
    new_figure,
    panel_grid,
    to_svg,
)
from tasks.theory.estimate import Estimate
from tasks.theory.estimate_text import helps, hurts, percent
from tasks.theory.records import CellRecord, TheoryResults
from tasks.theory.summary_text import Pattern, classify_pattern

SOURCE_STYLES = {source: (COLOURS[i + 1], MARKERS[i + 1], DASHES[i]) for i, source in enumerate(SOURCES)}
PATTERN_COLOURS = {
    Pattern.PAPER: "#E69F00",
    Pattern.ALL_HELP: "#56B4E9",
    Pattern.TASK_2_HURTS: "#CC79A7",
    Pattern.MIXED: FAINT,
}
CHANGE_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0)


@in_report_style
def draw_figures(results: TheoryResults) -> dict[str, Markup]:
    """Draw all figures and return their SVG by name."""
    draw = {
        "figure_3": figure_3,
        "map": pattern_map,
        "changes": changes_at_the_optimum,
        "capacity": capacity_curve,
        "theorem_2": theorem_2_curve,
        "figure_2": figure_2,
    }
    return {name: Markup(draw_figure(results)) for name, draw_figure in draw.items()}


def figure_3(results: TheoryResults) -> str:
    """Draw the paper's Figure 3, one panel per solver."""
    solvers = list(dict.fromkeys(record.solver for record in results.figure_3))
    figure, grid = panel_grid(len(solvers), 2, 0.45, 2.15, sharex=True, sharey=True)
    for axes, solver in zip(grid.ravel(), solvers, strict=False):
        _draw_changes(axes, results, solver)
    for row in grid:
        row[0].set_ylabel("change of task 1's error")
    for axes in grid[-1]:
        axes.set_xlabel("training samples of the source")
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=4, handlelength=3.0)
    return to_svg(figure, "figure-3")


def _draw_changes(axes: Axes, results: TheoryResults, solver: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    for source, (colour, marker, dashes) in SOURCE_STYLES.items():
        records = [r for r in results.figure_3 if (r.solver, r.source) == (solver, source)]
        samples, means = [r.samples for r in records], [r.change.mean for r in records]
        axes.plot(samples, means, marker, color=colour, linestyle=dashes, label=f"task {source}")
        _draw_band(axes, samples, [r.change for r in records], colour)
        if solver == OPTIMUM:
            predicted = [results.predicted[f"{source} {m}"] for m in samples]
            label = "predicted" if source == SOURCES[-1] else None
            axes.plot(samples, predicted, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)), label=label)
    _set_sample_scale(axes, [r.samples for r in results.figure_3])
    # Linear between -1 and 1, logarithmic above: a rise has no limit, a fall ends at -100 %.
    axes.set_yscale("symlog", linthresh=1, linscale=1.2)
    axes.set_yticks(CHANGE_TICKS, [percent(tick) if tick else "0" for tick in CHANGE_TICKS])
    axes.minorticks_off()
    axes.set_title(_solver_title(solver), loc="left")
    axes.grid(axis="y")


def _solver_title(solver: str) -> str:
    kind, _, count = solver.partition(", ")
    if kind == "alternating":
        return f"alternating least squares, {count} sweeps"
    return {"optimum": "global optimum", "descent": "descent from a random start, to its end"}.get(solver, solver)


def _draw_band(axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str) -> None:
    if all(e.lo is not None and e.hi is not None for e in estimates):
        lows, highs = [[getattr(e, end) for e in estimates] for end in ("lo", "hi")]
        axes.fill_between(x, np.maximum(lows, -1), highs, color=colour, alpha=0.18, linewidth=0)


def _set_sample_scale(axes: Axes, samples: Sequence[int]) -> None:
    """Set a logarithmic x axis with the powers of ten as plain numbers."""
    axes.set_xscale("log")
    low, high = np.log10(min(samples)), np.log10(max(samples))
    ticks = [10**i for i in range(int(np.ceil(low - 1e-9)), int(high + 1e-9) + 1)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def pattern_map(results: TheoryResults) -> str:
    """Draw the pattern of each cell of cosine and norm, one panel per solver."""
    solvers = list(dict.fromkeys(cell.solver for cell in results.cells))
    figure, (panels,) = panel_grid(len(solvers), len(solvers), 3.1, sharey=True)
    for axes, solver in zip(panels, solvers, strict=True):
        cells = [cell for cell in results.cells if cell.varied == GRID and cell.solver == solver]
        _draw_grid(axes, cells, lambda cell: (PATTERN_COLOURS[classify_pattern(cell.changes)], _signs(cell)))
        axes.set_title(_solver_title(solver).replace(", ", ",\n").replace("least squares", "LS"), loc="left")
        axes.set_xlabel("cosine")
    panels[0].set_ylabel("‖θ‖ / noise")
    handles = [
        panels[0].scatter([], [], marker="s", s=60, color=colour, label=kind.value)
        for kind, colour in PATTERN_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.0, handletextpad=0.2)
    return to_svg(figure, "map")


def _signs(cell: CellRecord) -> str:
    """Return two lines, few samples above many: + helps, − hurts, · unclear, for tasks 2, 3 and 4."""
    lines = []
    for samples in sorted({record.samples for record in cell.changes}):
        changes = [record.change for record in cell.changes if record.samples == samples]
        lines.append(" ".join("+" if helps(change) else "−" if hurts(change) else "·" for change in changes))
    return "\n".join(lines)


def _draw_grid(axes: Axes, cells: Sequence[CellRecord], look: Callable[[CellRecord], tuple[str, str]]) -> None:
    """Draw one tile per cell, with the colour and text that `look` returns for it."""
    cosines, norms = (sorted({getattr(cell, name) for cell in cells}) for name in ("cosine", "norm"))
    for cell in cells:
        x, y = cosines.index(cell.cosine), norms.index(cell.norm)
        colour, text = look(cell)
        axes.fill_between([x - 0.48, x + 0.48], y - 0.48, y + 0.48, color=colour, linewidth=0, alpha=0.75)
        axes.text(x, y, text, ha="center", va="center", fontsize=7, linespacing=0.9)
    axes.set_xticks(range(len(cosines)), [f"{cosine:g}" for cosine in cosines], fontsize=7.5)
    axes.set_yticks(range(len(norms)), [f"{norm:g}" for norm in norms])
    axes.set(xlim=(-0.5, len(cosines) - 0.5), ylim=(-0.5, len(norms) - 0.5))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def changes_at_the_optimum(results: TheoryResults) -> str:
    """Draw the change at the global optimum in every cell, one panel per source and number of samples."""
    cells = [cell for cell in results.cells if cell.varied == GRID and cell.solver == OPTIMUM]
    sizes = sorted({record.samples for record in cells[0].changes})
    figure, grid = panel_grid(len(sizes) * len(SOURCES), len(SOURCES), 4.6, sharex=True, sharey=True)
    for row, samples in zip(grid, sizes, strict=True):
        for axes, source in zip(row, SOURCES, strict=True):
            _draw_grid(axes, cells, partial(_change_look, source=source, samples=samples))
            axes.set_title(f"task {source}, {samples:,} samples", loc="left")
        row[0].set_ylabel("‖θ‖ / noise")
    for axes in grid[-1]:
        axes.set_xlabel("cosine")
    return to_svg(figure, "changes")


def _change_look(cell: CellRecord, source: int, samples: int) -> tuple[str, str]:
    """Return the colour (blue helps, orange hurts, pale: interval contains 0) and the change in per cent or as ×."""
    change = next(r.change for r in cell.changes if (r.source, r.samples) == (source, samples))
    colour = "#56B4E9" if helps(change) else "#E69F00" if hurts(change) else FAINT
    return colour, percent(change.mean).replace(" %", "") if change.mean < 10 else f"×{change.mean + 1:,.0f}"


def capacity_curve(results: TheoryResults) -> str:
    """Draw the change of the tasks' error against the shared width (Proposition 1)."""
    figure, axes = new_figure(2.5)
    k = results.config["experiments"]["capacity"]["tasks"]
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvspan(k - 0.5, results.capacity[-1].width + 0.5, color=FAINT, alpha=0.4, linewidth=0)
    for row in results.capacity:
        draw_interval(axes.vlines, row.width, row.change, COLOURS[1], linewidth=1.1)
    axes.plot([r.width for r in results.capacity], [r.change.mean for r in results.capacity], "s-", color=COLOURS[1])
    axes.text(k - 0.4, axes.get_ylim()[0], f" width ≥ k = {k}: no transfer", va="bottom")
    axes.set_xticks([row.width for row in results.capacity])
    axes.set_xlim(0.5, results.capacity[-1].width + 0.5)
    axes.yaxis.set_major_formatter(lambda change, _: percent(change) if change else "0")
    axes.set(xlabel="shared width r", ylabel="change of the tasks' error")
    axes.grid(axis="y")
    return to_svg(figure, "capacity")


def theorem_2_curve(results: TheoryResults) -> str:
    """Draw Theorem 2: the target's error against the source's samples, the error without a source, and the bound."""
    theorem, cosine = results.theorem_2, results.config["experiments"]["theorem_2"]["cosine"]
    samples = [row.samples for row in theorem.rows]
    sine = float(np.sqrt(1 - cosine**2))
    figure, axes = new_figure(2.6)
    axes.plot(samples, [row.off.mean for row in theorem.rows], "s-", color=COLOURS[1], label="with the source")
    _draw_band(axes, samples, [row.off for row in theorem.rows], COLOURS[1])
    for level, dashes, label in (
        (theorem.bound.mean, DASHES[1], "bound 6c + ‖ε‖ / ‖Xθ‖ / (1 − 3c)"),
        (theorem.own.mean, DASHES[2], "no source"),
        (sine, DASHES[3], "sin(θ₁, θ₂)"),
    ):
        axes.axhline(level, color=INK, linewidth=1.0, linestyle=dashes, label=label)
    axes.set(yscale="log", xlabel="training samples of the source", ylabel="‖BA − θ‖ / ‖θ‖")
    axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
    _set_sample_scale(axes, samples)
    axes.grid(axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, handlelength=2.6)
    return to_svg(figure, "theorem-2")


def figure_2(results: TheoryResults) -> str:
    """Draw Figure 2: the effect of two sources with the same decision boundary, for each link."""
    links = list(dict.fromkeys(record.link for record in results.figure_2))
    figure, axes = new_figure(0.9 + 0.55 * len(links))
    axes.axvline(0, color=INK, linewidth=0.8)
    for i, source in enumerate((ACROSS, ALONG)):
        colour, marker = COLOURS[i + 1], MARKERS[i + 1]
        for y, link in enumerate(links):
            change = next(r.change for r in results.figure_2 if (r.link, r.source) == (link, source))
            at = y + 0.16 * (2 * i - 1)
            if change.lo is not None and change.hi is not None:
                axes.hlines(at, 100 * change.lo, 100 * change.hi, color=colour)
            label = f"large inputs {source}" if not y else None
            axes.plot(100 * change.mean, at, marker, color=colour, linestyle="", label=label)
    axes.set_yticks(range(len(links)), links)
    axes.set_ylim(len(links) - 0.5, -0.5)
    axes.set_xlabel("helps   ◂   change of the share on the wrong side, percentage points   ▸   hurts")
    axes.grid(axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return to_svg(figure, "figure-2")
