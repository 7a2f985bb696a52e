"""Figures of the methods' differences from the baseline: beside the noise floor, and against the cost of a step."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from tasks.records.comparisons import ComparisonRecord
from tasks.records.cost import method_costs
from tasks.records.study import StudyResults
from tasks.records.summary_text import with_interval
from tasks.reporting.figure_style import (
    GREY,
    INK,
    Style,
    draw_interval,
    draw_seed_points,
    in_report_style,
    metric_title,
    new_figure,
    panel_grid,
    study_styles,
    to_svg,
    wrap_name,
)

MIN_RATES = 3  # of noise, for curves over the rate instead of a row per comparison


@in_report_style
def differences(results: StudyResults, name: str = "differences") -> str | None:
    """Draw every method minus the baseline, beside the noise floor and the method's control.

    With `MIN_RATES` or more rates of a kind of noise: a curve over the rate, in a panel per method. Otherwise a row
    per comparison. Each pair of networks is an open circle. None if nothing was compared.

    Args:
        results: in which one factor is compared (`tasks.records.slices`).
        name: of the figure on its page.
    """
    if not results.comparisons:
        return None
    rates: dict[str, set[float]] = defaultdict(set)
    for comparison in results.comparisons:
        rates[comparison.condition.kind].add(comparison.condition.rate)
    clean = rates.pop("none", set())
    kinds = [kind for kind, of_kind in rates.items() if len(of_kind | clean) >= MIN_RATES]
    if kinds and len(kinds) == len(rates):
        return to_svg(_gain_against_noise(results, kinds), name)
    return to_svg(_row_per_comparison(results), name)


# --- Curves over the noise rate ---


def _gain_against_noise(results: StudyResults, kinds: Sequence[str]) -> Figure:
    controls = set(results.control_of.values())
    methods = list(dict.fromkeys(c.method for c in results.comparisons if c.method not in controls))
    panels = [(kind, method) for kind in kinds for method in methods]
    figure, grid = panel_grid(len(panels), min(len(panels), 4), 0.9, 2.0, sharex=True, sharey=True)
    for axes, (kind, method) in zip(grid.ravel(), panels, strict=False):
        _draw_panel(axes, results, kind, method)
        axes.set_title(wrap_name(method if len(kinds) == 1 else f"{method}, {kind}", 25), loc="left", size=8)
    figure.supylabel(f"test {metric_title(results)} minus that of {results.baseline}", fontsize=9)
    figure.supxlabel("label noise, % of training rows", fontsize=9)
    _add_legend(figure, results)
    return figure


def _draw_panel(axes: Axes, results: StudyResults, kind: str, method: str) -> None:
    """Draw a method's differences by noise rate over the grey noise floor, and beside them those of its control."""
    axes.axhline(0, color=INK, linewidth=0.8)
    floor = [c for c in _by_rate(results.floor, kind) if c.lo is not None and c.hi is not None]
    ends = np.array([(c.lo, c.hi) for c in floor], dtype=float).reshape(-1, 2)
    axes.fill_between([c.condition.rate for c in floor], *ends.T, color=GREY, alpha=0.3, linewidth=0)
    compared = _by_rate(results.comparisons, kind)
    rates = sorted({c.condition.rate for c in compared})
    shift = 0.02 * (rates[-1] - rates[0])
    style_of = study_styles(results)
    for name in filter(None, (method, results.control_of.get(method))):
        style = style_of[name]
        x_shift = shift if style.is_control else -shift / 2
        shown = [c for c in compared if c.method == name and c.delta is not None]
        xs = [c.condition.rate + x_shift for c in shown]
        deltas = np.array([c.delta for c in shown], dtype=float)
        axes.plot(xs, deltas, **style.marks | {"linestyle": style.dashes if style.is_control else "-"}, zorder=3)
        for x, comparison in zip(xs, shown, strict=True):
            draw_interval(axes.vlines, x, comparison, style.colour, linewidth=1.2, zorder=2)
            if not style.is_control:
                seeds = [seed.delta for seed in comparison.by_seed]
                draw_seed_points(axes, [x - 2 * shift] * len(seeds), seeds, style.colour)
    axes.set_xticks(rates, [f"{100 * rate:g}" for rate in rates])
    axes.margins(x=0.12)
    axes.grid(axis="y")


def _by_rate(comparisons: Sequence[ComparisonRecord], kind: str) -> list[ComparisonRecord]:
    """Select the comparisons under one kind of noise and those without noise, by ascending rate."""
    chosen = [c for c in comparisons if c.condition.kind in ("none", kind)]
    return sorted(chosen, key=lambda c: c.condition.rate)


def _add_legend(figure: Figure, results: StudyResults) -> None:
    axes = figure.axes[0]
    handles: list[Any] = [
        axes.plot([], [], "o-", color=INK, label=f"{results.factor}, mean over seeds")[0],
        axes.plot([], [], "o", markersize=3.6, markerfacecolor="none", color=INK, label="one seed")[0],
    ]
    if results.controls:
        handles.append(axes.plot([], [], "o:", markerfacecolor="none", color=INK, label="its control")[0])
    if results.floor:
        handles.append(axes.fill_between([], [], [], color=GREY, alpha=0.3, linewidth=0, label="noise floor"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=2.4, columnspacing=1.6)


# --- A row per comparison ---


def _row_per_comparison(results: StudyResults) -> Figure:
    style_of = study_styles(results)
    floors = [(c, Style(GREY, "o", "-")) for c in results.floor]
    compared = [(c, style_of[c.method]) for c in _controls_last(results)]
    conditions = list(dict.fromkeys(c.condition for c in results.comparisons))
    n_rows = len(compared) + len(floors) + len(conditions)
    figure, axes = new_figure(0.75 + 0.27 * n_rows)
    axes.axvline(0, color=INK, linewidth=0.8)
    y, drawn = 0, [0.0]  # every number in the figure: the axis must hold them all
    for condition in conditions:
        axes.text(0.01, y, condition.title, transform=axes.get_yaxis_transform(), va="center", weight="bold")
        rows = [row for row in (*compared, *floors) if row[0].condition == condition]
        _draw_band(axes, [c for c, _ in floors if c.condition == condition], (y + 0.5, y + len(rows) + 0.5))
        for y_of_row, (comparison, style) in enumerate(rows, y + 1):
            drawn += _draw_row(axes, y_of_row, comparison, style)
        y += 1 + len(rows)
    half_width = 1.1 * max(abs(number) for number in drawn) or 0.01
    axes.set(xlim=(-half_width, half_width), ylim=(n_rows - 0.4, -0.7), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    metric = f"difference in mean test {metric_title(results)}"
    axes.set_xlabel(f"lower than {results.baseline}   ◂   {metric}   ▸   higher")
    return figure


def _controls_last(results: StudyResults) -> list[ComparisonRecord]:
    """Return the comparisons in their order, but that of a control after that of its method."""
    place = {method: i for i, method in enumerate(results.methods)}
    method_of = {control: method for method, control in results.control_of.items()}
    return sorted(
        results.comparisons, key=lambda c: (place.get(method_of.get(c.method, c.method), 0), c.method in method_of)
    )


def _draw_band(axes: Axes, floor: Sequence[ComparisonRecord], between: tuple[float, float]) -> None:
    """Draw the interval of the noise floor as a grey band behind the rows of its condition."""
    for comparison in floor:
        if comparison.lo is not None and comparison.hi is not None:
            axes.fill_betweenx(between, comparison.lo, comparison.hi, color=GREY, alpha=0.2, linewidth=0)


def _draw_row(axes: Axes, y: float, row: ComparisonRecord, style: Style) -> list[float]:
    """Draw a comparison at height y, and return the numbers that were drawn."""
    draw_interval(axes.hlines, y, row, style.colour, linewidth=1.8)
    if row.delta is not None:
        axes.plot(row.delta, y, **style.marks, markersize=7, zorder=3)
    seeds = [seed.delta for seed in row.by_seed]
    draw_seed_points(axes, seeds, [y - 0.28] * len(seeds), style.colour)
    axes.text(-0.02, y, row.method, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.text(1.02, y, _difference_text(row), transform=axes.get_yaxis_transform(), va="center")
    return [*seeds, *(number for number in (row.delta, row.lo, row.hi) if number is not None)]


def _difference_text(row: ComparisonRecord) -> str:
    return "not compared" if row.delta is None else with_interval(row)


# --- Cost against benefit ---


@in_report_style
def cost_against_benefit(results: StudyResults) -> str | None:
    """Draw each method's difference under the noisiest condition against its training time relative to the baseline.

    The names stand in a column of their own, where none can hide another. None if no steps were timed.
    """
    noisiest = max((c.condition for c in results.comparisons), key=lambda condition: condition.rate, default=None)
    ratios = {cost.method: cost.relative_time for cost in method_costs(results)}
    rows = [
        (comparison, ratio)
        for comparison in results.comparisons
        if comparison.condition == noisiest
        and comparison.delta is not None
        and (ratio := ratios.get(comparison.method))
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: row[0].delta or 0)
    style_of = study_styles(results)
    figure, axes = new_figure(max(3.2, 0.8 + 0.175 * len(rows)))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=INK, linewidth=0.8)
    _set_ratio_axis(axes, [ratio for _, ratio in rows])
    left, right = np.log(axes.get_xlim())
    gap = (right - left) * min(0.012, 0.1 / len(rows))
    xs = np.exp(spread_out(np.log([ratio for _, ratio in rows]), gap))
    drawn = [0.0, *(end for row, _ in rows for end in (row.delta, row.lo, row.hi) if end is not None)]
    margin = 0.06 * (max(drawn) - min(drawn)) or 0.01  # all methods may have the same numbers
    bottom, top = min(drawn) - margin, max(drawn) + margin
    axes.set_ylim(bottom, top)
    deltas = np.array([row.delta for row, _ in rows], dtype=float)
    heights = spread_out((deltas - bottom) / (top - bottom), min(0.055, 1 / len(rows)), (0, 1))
    for x, height, (comparison, ratio) in zip(xs, heights, rows, strict=True):
        _draw_cost(axes, style_of[comparison.method], (float(x), float(height)), comparison, ratio)
    axes.set_xlabel(f"training time, as a multiple of {results.baseline}")
    axes.set_ylabel(f"difference in mean test {metric_title(results)}")
    return to_svg(figure, "cost")


def _draw_cost(
    axes: Axes, style: Style, position: tuple[float, float], comparison: ComparisonRecord, ratio: float
) -> None:
    """Draw a method's marker and interval, its name in the column of names, and a thin line between the two.

    `position` is the x of the marker in data units, and the height of the name as a share of the axis, whose limits
    are set.
    """
    x, height = position
    column, column_transform = 1.05, axes.get_yaxis_transform()
    draw_interval(axes.vlines, x, comparison, style.colour, linewidth=1.0, alpha=0.7)
    difference = comparison.delta or 0.0
    axes.plot(x, difference, **style.marks, markersize=7, zorder=4)
    bottom, top = axes.get_ylim()
    name_position = (column, bottom + height * (top - bottom))
    axes.annotate(
        "",
        xy=(x, difference),
        xycoords="data",
        xytext=name_position,
        textcoords=column_transform,
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": style.colour, "linewidth": 0.5, "alpha": 0.55, "shrinkB": 4},
    )
    axes.plot(*name_position, **style.marks, markersize=5, transform=column_transform, clip_on=False)
    name = f"{comparison.method}  × {ratio:.2f}"
    axes.text(column + 0.02, name_position[1], name, transform=column_transform, va="center", size=8)


def _set_ratio_axis(axes: Axes, ratios: Sequence[float]) -> None:
    """Make x a logarithmic axis of multiples of the baseline, with round numbers as ticks."""
    lowest, highest = min(0.9, *ratios), max(1.1, *ratios)
    margin = (highest / lowest) ** 0.05
    axes.set_xscale("log")
    axes.set_xlim(lowest / margin, highest * margin)
    steps = (1, 1.5, 2, 3, 5, 7) if highest / lowest > 2 else (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 6, 7, 8, 9)
    ticks = [power * step for power in (0.1, 1, 10, 100, 1000) for step in steps]
    axes.set_xticks([tick for tick in ticks if lowest / margin <= tick <= highest * margin])
    axes.xaxis.set_major_formatter(lambda ratio, _: f"× {ratio:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def spread_out(
    values: Sequence[float] | NDArray[np.float64], gap: float, limits: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Move values as little as possible (least squares) until any two are at least `gap` apart, in the same order.

    `limits` are the lowest and the highest value allowed. The moved values come in the order of `values`.
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    lowest, highest = (None, None) if limits is None else (limits[0], limits[1] - steps[-1])
    moved = np.empty_like(values)
    moved[order] = isotonic_regression(values[order] - steps, y_min=lowest, y_max=highest) + steps
    return moved
