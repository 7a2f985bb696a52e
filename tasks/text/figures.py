"""Figures of a study on texts: forest plots, the similarity map and the capacity curve."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from tasks.records.arms import SimilarityRecord
from tasks.records.comparisons import ComparisonRecord
from tasks.records.study import StudyResults
from tasks.reporting.figure_style import COLOURS, FAINT, INK, RC_PARAMS, WIDTH, method_styles, to_svg
from tasks.text.outcomes import (
    WidthRow,
    against_single,
    experiments_of,
    metric_name,
    numbered,
    parts_by_method,
    parts_by_policy,
    similarities,
    width_rows,
)

LEGEND_CHARACTERS = 80
"""Characters of a line of the legend, as wide as the page."""

SEED_MARKER: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4, "mew": 0.8, "markerfacecolor": "white"}


def forest_plot(comparisons: Sequence[ComparisonRecord], metric: str, name: str) -> str | None:
    """Draw a forest plot: a row per condition, then one over all conditions; a marker with interval per method.

    Open circles are single seeds.

    Args:
        comparisons: comparisons with one baseline.
        metric: name of the metric.
        name: name of the figure, unique within a page.

    Returns:
        SVG; None if nothing was compared.
    """
    shown = [found for found in comparisons if found.delta is not None]
    if not shown:
        return None
    rows = list(dict.fromkeys(found.condition.name for found in sorted(shown, key=lambda found: found.over_all)))
    look = method_styles(list(dict.fromkeys(found.method for found in shown)))
    step = 0.62 / max(2, len(look))
    with rc_context(RC_PARAMS):
        figure = Figure(figsize=(WIDTH, 1.0 + 0.17 * len(rows) * max(2, len(look))), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        for found in shown:
            style, index = look[found.method], list(look).index(found.method)
            y = rows.index(found.condition.name) + step * (index - (len(look) - 1) / 2)
            if found.lo is not None and found.hi is not None:
                axes.hlines(y, found.lo, found.hi, color=style.colour, linewidth=1.5)
            axes.plot([found.delta or 0.0], [y], style.marker, color=style.colour, markersize=5.5, zorder=3)
            if not found.over_all:
                deltas = [seed.delta for seed in found.by_seed]
                axes.plot(deltas, [y] * len(deltas), color=style.colour, **SEED_MARKER)
        if any(found.over_all for found in shown):
            axes.axhline(len(rows) - 1.5, color=FAINT, linewidth=1)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        baseline = shown[0].baseline
        axes.set_xlabel(f"lower than {baseline}   ◂   difference in test {metric}   ▸   higher")
        handles = [
            axes.plot([], [], style.marker, color=style.colour, label=method)[0] for method, style in look.items()
        ]
        columns = max(1, LEGEND_CHARACTERS // (max(map(len, look)) + 6))  # 6 for marker and space
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), columns))
        return to_svg(figure, name)


def similarity_map(pairs: Sequence[SimilarityRecord], tasks: Sequence[str]) -> str | None:
    """Draw the covariance similarity of each pair of tasks, without and with the alignment matrices.

    Left: a map, without the matrices below the diagonal and with them above it. Right: the change for each pair.

    Returns:
        SVG; None if there are no pairs.
    """
    if not pairs:
        return None
    values = [value for pair in pairs for value in (pair.before, pair.after) if value is not None]
    with rc_context(RC_PARAMS):
        figure = Figure(figsize=(WIDTH, max(3.0, 0.7 + 0.2 * len(pairs))), layout="constrained")
        axes, changes = figure.subplots(1, 2, width_ratios=(1.15, 1))
        for pair in pairs:
            i, j = sorted(tasks.index(task) for task in pair.tasks)
            _cell(axes, i, j, pair.before, values)
            _cell(axes, j, i, pair.after, values)
        axes.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(tasks) - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _draw_changes(changes, pairs)
        return to_svg(figure, "similarity")


def _draw_changes(axes: Axes, pairs: Sequence[SimilarityRecord]) -> None:
    """Draw the similarity of each pair without the matrices (open marker) and with them (filled marker)."""
    for y, pair in enumerate(pairs):
        if pair.before is None or pair.after is None:
            continue
        colour = COLOURS[3] if pair.after > pair.before else COLOURS[2]
        axes.hlines(y, pair.before, pair.after, color=colour, linewidth=1.5)
        axes.plot([pair.before], [y], "o", markersize=4.5, markerfacecolor="none", color=colour)
        axes.plot([pair.after], [y], "o", markersize=4.5, color=colour)
    axes.set_yticks(range(len(pairs)), [" and ".join(pair.tasks) for pair in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("covariance similarity")


def _cell(axes: Axes, column: int, row: int, value: float | None, values: Sequence[float]) -> None:
    if value is None:
        return
    spread = max(values) - min(values) or 1.0
    strength = 0.06 + 0.6 * (value - min(values)) / spread
    axes.add_patch(
        Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=COLOURS[1], alpha=strength, linewidth=0)
    )
    axes.text(column, row, f"{value:.2f}", ha="center", va="center")


def capacity_curve(rows: Sequence[WidthRow], metric: str, name: str) -> str | None:
    """Draw the mean test score against the encoder's width, for one network and for single-task networks.

    Args:
        rows: the widths, ascending.
        metric: name of the metric.
        name: name of the figure, unique within a page.

    Returns:
        SVG; None without rows.
    """
    if not rows:
        return None
    look = method_styles(["single", "joint"])
    with rc_context(RC_PARAMS):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        widths = [row.width for row in rows]
        for method, style in look.items():
            shown = [row for row in rows if row.seeds(method)]
            curve = [row.width for row in shown], [getattr(row, method) for row in shown]
            axes.plot(*curve, style.marker, color=style.colour, linestyle=style.dashes, label=method)
            for row in shown:
                seeds = row.seeds(method)
                axes.plot([row.width] * len(seeds), seeds, color=style.colour, **SEED_MARKER)
        axes.set_xscale("log")
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("width of the encoder (joint: one network for all tasks, single: one for each task)")
        axes.set_ylabel(f"mean test {metric}")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, handlelength=3.2)
        return to_svg(figure, name)


def draw_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Draw a report's figures as SVG by name, every text in them escaped; None for a figure with nothing to show."""
    metric = metric_name(results)
    parts = parts_by_policy(results)
    drawn: dict[str, str | None] = {}
    for number, (_, part) in enumerate(parts):
        for experiment in experiments_of(part):
            if experiment not in ("overlap", "capacity"):
                name = numbered(f"forest-{experiment}", number)
                drawn[name.replace("-", "_", 1)] = forest_plot(against_single(part, experiment), metric, name)
        name = numbered("capacity", number)
        drawn[name] = capacity_curve(width_rows(part), metric, name)
    for number, (_, part) in enumerate(parts_by_method(results)):
        name = f"policies-{number}"
        drawn[name] = forest_plot((*part.comparisons, *part.floor), metric, name)
    drawn["similarity"] = similarity_map(similarities(parts[0][1]), results.data.labels)
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}
