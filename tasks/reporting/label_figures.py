"""Figures of the scores label by label: markers per method, or a heat map when there are many methods."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from tasks.records.arms import Condition
from tasks.records.scores import average_scores
from tasks.records.study import StudyResults
from tasks.records.summary_text import signed
from tasks.reporting.figure_style import (
    FAINT,
    INK,
    MAX_METHODS_PER_PANEL,
    draw_interval,
    first_and_noisiest,
    in_report_style,
    label_text,
    metric_title,
    new_figure,
    panel_grid,
    study_styles,
    to_svg,
    wrap_name,
)

_DIVERGING = LinearSegmentedColormap.from_list("differences", ["#9f8fd0", "#ffffff", "#f2a452"])
"""Lower, equal, higher: can be distinguished with colour-blind vision, and pale enough for dark numbers."""


@in_report_style
def labels_by_method(results: StudyResults) -> str:
    """Draw a row per label with a marker per method, under the first and the noisiest condition; easy labels on top.

    With more than `MAX_METHODS_PER_PANEL` methods: a heat map.
    """
    if len(results.methods) > MAX_METHODS_PER_PANEL:
        return _heat_map(results)
    conditions = first_and_noisiest(results)
    order = _easiest_first(results)
    style_of = study_styles(results)
    spacing = 0.7 / max(3, len(style_of))
    height = 0.9 + max(0.3, 0.075 * len(style_of)) * len(order)
    figure, grid = panel_grid(len(conditions), len(conditions), height, sharex=True, sharey=True)
    for axes, condition in zip(grid[0], conditions, strict=True):
        for row, label in enumerate(order):
            if label in condition.labels:
                axes.axhspan(row - 0.5, row + 0.5, color=FAINT, alpha=0.45, linewidth=0)
            for i, (method, style) in enumerate(style_of.items()):
                score = average_scores([arm.scores[label] for arm in results.finished_arms(method, condition)])
                y = row + spacing * (i - (len(style_of) - 1) / 2)
                draw_interval(axes.hlines, y, score, style.colour, linewidth=0.9, alpha=0.75)
                if score.value is not None:
                    axes.plot(score.value, y, **style.marks, markersize=4.2)
        axes.set_title(condition.title, loc="left")
        axes.set_xlabel(f"test {metric_title(results)}")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    first = grid[0, 0]
    first.set_yticks(range(len(order)), [label_text(label) for label in order])
    first.set_ylim(len(order) - 0.5, -0.5)
    handles = [first.plot([], [], **style.marks, label=method)[0] for method, style in style_of.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4))
    return to_svg(figure, "labels")


def _easiest_first(results: StudyResults) -> list[str]:
    """Sort the labels by the baseline's scores under the first condition; those without a score come last."""
    scores = _scores(results, results.baseline, results.conditions[0], results.labels)[:-1]
    return [results.labels[i] for i in np.argsort(-scores, kind="stable")]


@in_report_style
def _heat_map(results: StudyResults) -> str:
    """Draw the noisiest condition: a row per method, a column per label, the score minus the baseline's, times 1000.

    The numbers stand in the cells, for a grey print; the best difference in the mean is on top.
    """
    condition = first_and_noisiest(results)[-1]
    labels = _easiest_first(results)
    baseline_scores = _scores(results, results.baseline, condition, labels)
    others = [method for method in results.methods if method != results.baseline]
    table = {method: 1000 * (_scores(results, method, condition, labels) - baseline_scores) for method in others}
    table = dict(sorted(table.items(), key=lambda row: -np.nan_to_num(row[1][-1], nan=-np.inf)))
    cells = np.array(list(table.values()))
    strongest = max(1.0, float(np.nanquantile(np.abs(cells), 0.95))) if np.isfinite(cells).any() else 1.0
    names = [label_text(name) + (" *" if name in condition.labels else "") for name in labels]
    figure, axes = new_figure(1.4 + 0.22 * len(table) + max(map(_more_height, names)))
    axes.pcolormesh(cells, cmap=_DIVERGING, vmin=-strongest, vmax=strongest)
    for (row, column), value in np.ndenumerate(cells):
        colour = INK if np.isnan(value) else "#151515"  # cells with a number are light on a dark page too
        text = "–" if np.isnan(value) else "0" if round(value) == 0 else signed(value, 0)
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=7, color=colour)
    axes.set_xticks(np.arange(len(names) + 1) + 0.5, [*names, "mean"], rotation=40, ha="left", size=8)
    axes.set_yticks(np.arange(len(table)) + 0.5, [wrap_name(method, 26) for method in table], size=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.axvline(len(names), color=INK, linewidth=1)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(
        f"{condition.title}: test {metric_title(results)} minus that of {results.baseline}, in thousandths"
        + ("\n* noisy in training" if condition.labels else "")
    )
    return to_svg(figure, "labels")


def _more_height(name: str) -> float:
    """Return the inches that a slanted name takes above those of a short one."""
    lines = name.split("\n")
    return 0.07 * max(0, max(map(len, lines)) - 20) + 0.12 * (len(lines) - 1)


def _scores(results: StudyResults, method: str, condition: Condition, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the score of each label and then the mean, averaged over seeds; nan where there is none."""
    arms = results.finished_arms(method, condition)
    values = [average_scores([arm.scores[label] for arm in arms]).value for label in labels]
    return np.array([*values, average_scores([arm.mean for arm in arms]).value], dtype=float)
