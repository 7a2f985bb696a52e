"""Figures of a classification study: the policies' differences, and the differences against the training's length."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from tasks.classes.outcomes import at_length, lengths_of
from tasks.classes.spec import METHOD
from tasks.records.comparisons import ComparisonRecord
from tasks.records.slices import policies_with
from tasks.records.study import StudyResults
from tasks.reporting.difference_figures import differences
from tasks.reporting.figure_style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    draw_interval,
    in_report_style,
    metric_title,
    panel_grid,
    to_svg,
    wrap_name,
)
from tasks.reporting.policy_figures import policies_and_noise


@in_report_style
def against_length(results: StudyResults) -> str | None:
    """Draw each policy minus the baseline against the epochs, a line for each condition, over the grey noise floor.

    A panel per policy. None if the study has one length.
    """
    lengths = lengths_of(results)
    if len(lengths) < 2:
        return None
    by_length = {length: policies_with(at_length(results, length), METHOD) for length in lengths}
    policies = list(dict.fromkeys(c.method for part in by_length.values() for c in part.comparisons))
    figure, grid = panel_grid(len(policies), min(len(policies), 3), 0.9, 2.3, sharex=True, sharey=True)
    for axes, policy in zip(grid.ravel(), policies, strict=False):
        _draw_policy(axes, by_length, policy)
        axes.set_title(wrap_name(policy, 34), loc="left", size=8)
    figure.supylabel(f"difference in test {metric_title(results)}", fontsize=9)
    figure.supxlabel("epochs", fontsize=9)
    handles = [
        grid[0, 0].plot([], [], f"{MARKERS[i]}-", color=COLOURS[i + 1], label=condition.title)[0]
        for i, condition in enumerate(results.conditions)
    ]
    handles.append(grid[0, 0].fill_between([], [], [], color=GREY, alpha=0.25, linewidth=0, label="noise floor"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return to_svg(figure, "length")


def _draw_policy(axes: Axes, by_length: Mapping[str, StudyResults], policy: str) -> None:
    epochs = np.array([float(length.split()[0]) for length in by_length])
    axes.axhline(0, color=INK, linewidth=0.8)
    _draw_floor(axes, by_length, epochs)
    conditions = next(iter(by_length.values())).conditions
    for i, condition in enumerate(conditions):
        shift = 1 + 0.04 * (i - (len(conditions) - 1) / 2)  # so that no interval hides another
        of_policy = [
            [c for c in part.comparisons if c.method == policy and c.condition == condition]
            for part in by_length.values()
        ]
        shown = [(x * shift, c) for x, (c, *_) in zip(epochs, of_policy, strict=True) if c.delta is not None]
        deltas = np.array([c.delta for _, c in shown], dtype=float)
        axes.plot([x for x, _ in shown], deltas, f"{MARKERS[i]}-", color=COLOURS[i + 1], zorder=3)
        for x, comparison in shown:
            draw_interval(axes.vlines, x, comparison, COLOURS[i + 1], linewidth=1.2, zorder=2)
    axes.set_xscale("log")
    axes.set_xticks(epochs, [f"{x:g}" for x in epochs])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")


def _draw_floor(axes: Axes, by_length: Mapping[str, StudyResults], epochs: np.ndarray) -> None:
    """Draw the widest interval of the baseline policy's floors of each length as a grey band."""
    floors: list[list[ComparisonRecord]] = [
        [c for c in part.floor if c.baseline == part.baseline and c.lo is not None and c.hi is not None]
        for part in by_length.values()
    ]
    if all(floors):
        ends = np.array([(min(c.lo or 0 for c in floor), max(c.hi or 0 for c in floor)) for floor in floors])
        axes.fill_between(epochs, *ends.T, color=GREY, alpha=0.25, linewidth=0)


def draw_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Draw the report's figures as SVG by name, every text in them escaped; None for a figure with nothing to show."""
    drawn = {"length": against_length(results), "policies": None, "differences": None}
    if drawn["length"] is None:
        drawn["policies"] = policies_and_noise(results)
        drawn["differences"] = None if drawn["policies"] else differences(policies_with(results, METHOD))
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}
