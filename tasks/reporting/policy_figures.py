"""The figure that answers what a policy is worth: without noise, under noise, and how far the two differ."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.records.arms import Condition
from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord
from tasks.records.interaction_text import floor_of
from tasks.records.study import StudyResults
from tasks.reporting.figure_style import (
    GREY,
    INK,
    Style,
    draw_interval,
    draw_seed_points,
    in_report_style,
    method_styles,
    metric_title,
    panel_grid,
    to_svg,
    wrap_name,
)

Panel = tuple[Condition, Condition | None]
"""The condition of a comparison, and the one that an interaction subtracts."""


@in_report_style
def policies_and_noise(results: StudyResults) -> str | None:
    """Draw each policy's difference from the baseline policy: without noise, under the strongest, and the change.

    A row per policy and a marker per method; first at equal steps, then at equal compute. The noise floor is a grey
    band behind the rows that it belongs to. None if the policies were compared under one condition only, and not at
    equal compute.
    """
    compared = [c for c in (*results.comparisons, *results.interactions) if c.factor == "policy"]
    if not any(c.minus or c.experiment == EQUAL_COMPUTE for c in compared):
        return None
    panels = _panels(compared)
    rows = list(dict.fromkeys((c.experiment, c.baseline, c.method) for c in compared))
    heads = list(dict.fromkeys((experiment, baseline) for experiment, baseline, _ in rows))
    methods = list(dict.fromkeys(c.held.get("method", results.methods[0]) for c in compared))
    places: dict[tuple[str | None, ...], float] = {}
    y = 0.0
    for head in heads:
        places[head] = y
        for row in (row for row in rows if row[:2] == head):
            y += 1
            places[row] = y
        y += 1
    figure, grid = panel_grid(len(panels), len(panels), 1.0 + 0.36 * y, sharex=True, sharey=True)
    styles = method_styles(methods)
    for axes, panel in zip(grid[0], panels, strict=True):
        shown = [c for c in compared if (c.condition, c.minus) == panel]
        _draw_panel(axes, results, shown, places, styles)
        axes.set_title(_title(panel), loc="left", size=9)
    first = grid[0][0]
    first.set_ylim(y - 0.3, -0.7)
    first.set_yticks(
        [place for key, place in places.items() if len(key) == 3],
        [wrap_name(key[-1] or "", 28) for key in places if len(key) == 3],
    )
    for head in heads:
        text = f"{head[0] or 'equal steps'}: minus {head[1]}"
        at = {"transform": first.get_yaxis_transform(), "va": "center", "in_layout": False}
        first.text(0, places[head], text, weight="bold", size=8, **at)
    figure.supxlabel(f"difference in mean test {metric_title(results)}", fontsize=9)
    _add_legend(figure, styles, any(floor_of(results, c) for c in compared))
    return to_svg(figure, "policies")


def _panels(compared: Sequence[ComparisonRecord]) -> list[Panel]:
    """Return the first condition, the noisiest, and the change from one to the other, as far as they were compared."""
    conditions = list(dict.fromkeys(c.condition for c in compared if c.minus is None))
    noisiest = max(conditions, key=lambda condition: condition.rate)
    panels: list[Panel] = [(condition, None) for condition in dict.fromkeys([conditions[0], noisiest])]
    return panels + list(dict.fromkeys((c.condition, c.minus) for c in compared if c.minus and c.condition == noisiest))


def _title(panel: Panel) -> str:
    condition, minus = panel
    return wrap_name(condition.title, 26) + (f"\nminus {minus.title}" if minus else "")


def _draw_panel(
    axes: Axes,
    results: StudyResults,
    shown: Sequence[ComparisonRecord],
    places: dict[tuple[str | None, ...], float],
    styles: dict[str, Style],
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for head in dict.fromkeys((c.experiment, c.baseline) for c in shown):
        of_head = [c for c in shown if (c.experiment, c.baseline) == head]
        floor = next((found for c in of_head if (found := floor_of(results, c))), None)
        if floor and floor.lo is not None and floor.hi is not None:
            between = places[head] + 0.4, max(places[*head, c.method] for c in of_head) + 0.6
            axes.fill_betweenx(between, floor.lo, floor.hi, color=GREY, alpha=0.25, linewidth=0)
    order = list(styles)
    for c in shown:
        method = c.held.get("method", order[0])
        y = places[c.experiment, c.baseline, c.method] + 0.3 * (order.index(method) - (len(order) - 1) / 2)
        draw_interval(axes.hlines, y, c, styles[method].colour, linewidth=1.6)
        if c.delta is not None:
            axes.plot(c.delta, y, **styles[method].marks, zorder=3)
        if len(order) == 1:
            draw_seed_points(axes, [s.delta for s in c.by_seed], [y - 0.3] * len(c.by_seed), styles[method].colour)
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _add_legend(figure: Figure, styles: dict[str, Style], has_floor: bool) -> None:
    axes = figure.axes[0]
    handles: list[Any] = []
    if len(styles) > 1:
        handles += [axes.plot([], [], **style.marks, label=method)[0] for method, style in styles.items()]
    if has_floor:
        handles.append(axes.fill_between([], [], [], color=GREY, alpha=0.25, linewidth=0, label="noise floor"))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=5, handlelength=1.6, columnspacing=1.6)
