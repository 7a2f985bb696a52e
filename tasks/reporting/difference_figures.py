"""Figures of the methods' differences from the baseline: with 95 % intervals, and against the cost of a step."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from tasks.records.cost import method_costs
from tasks.records.study import ComparisonRecord, StudyResults
from tasks.records.summary_text import signed
from tasks.reporting.figure_style import (
    INK,
    Style,
    draw_interval,
    draw_seed_points,
    in_report_style,
    method_styles,
    metric_title,
    new_figure,
    to_svg,
)


@in_report_style
def differences(results: StudyResults) -> str | None:
    """Draw every method minus the baseline with its interval, and each pair of networks as an open circle.

    None if nothing was compared.
    """
    comparisons = results.comparisons
    if not comparisons:
        return None
    style_of = method_styles(results.methods)
    rows: list[str | ComparisonRecord] = []  # a heading, then its comparisons
    for title, of_condition in groupby(comparisons, lambda comparison: comparison.condition.title):
        rows += [title, *of_condition]
    figure, axes = new_figure(0.75 + 0.27 * len(rows))
    axes.axvline(0, color=INK, linewidth=0.8)
    drawn = [0.0]  # every number in the figure: the axis must hold them all
    for y, row in enumerate(rows):
        if isinstance(row, str):
            axes.text(0.01, y, row, transform=axes.get_yaxis_transform(), va="center", weight="bold")
            continue
        style = style_of[row.method]
        draw_interval(axes.hlines, y, row, style.colour, linewidth=1.8)
        if row.delta is not None:
            axes.plot(row.delta, y, marker=style.marker, color=style.colour, markersize=7, zorder=3)
        seeds = [seed.delta for seed in row.by_seed]
        draw_seed_points(axes, seeds, [y - 0.28] * len(seeds), style.colour)
        axes.text(-0.02, y, row.method, transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.text(1.02, y, _difference_text(row), transform=axes.get_yaxis_transform(), va="center")
        drawn += [*seeds, *(end for end in (row.lo, row.hi) if end is not None)]
    half_width = 1.1 * max(abs(number) for number in drawn) or 0.01
    axes.set(xlim=(-half_width, half_width), ylim=(len(rows) - 0.4, -0.7), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    baseline = comparisons[0].baseline
    axes.set_xlabel(f"worse than {baseline}   ◂   difference in mean test {metric_title(results)}   ▸   better")
    return to_svg(figure, "differences")


def _difference_text(row: ComparisonRecord) -> str:
    if row.delta is None:
        return "not compared"
    if row.lo is None or row.hi is None:
        return signed(row.delta)
    return f"{signed(row.delta)}  ({signed(row.lo)} to {signed(row.hi)})"


@in_report_style
def cost_against_benefit(results: StudyResults) -> str | None:
    """Draw each method's difference under the noisiest condition against its time per step relative to the baseline.

    The names stand in a column of their own, where none can hide another. None if no steps were timed.
    """
    noisiest = max((c.condition for c in results.comparisons), key=lambda condition: condition.rate, default=None)
    ratios = {cost.method: cost.relative_step_time for cost in method_costs(results)}
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
    style_of = method_styles(results.methods)
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
    axes.set_xlabel(f"time per training step, as a multiple of {results.baseline}")
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
    axes.plot(x, difference, style.marker, color=style.colour, markersize=7, zorder=4)
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
    axes.plot(*name_position, style.marker, color=style.colour, markersize=5, transform=column_transform, clip_on=False)
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
