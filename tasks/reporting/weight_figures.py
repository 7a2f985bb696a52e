"""Figure of the task weights over training."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.records.arms import Condition, WeightsRecord
from tasks.records.study import StudyResults
from tasks.reporting.figure_style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    Dashes,
    first_and_noisiest,
    in_report_style,
    label_text,
    panel_grid,
    to_svg,
    wrap_name,
)


@in_report_style
def weights_over_training(results: StudyResults) -> str | None:
    """Draw the weight of each task by training step, in one panel per method that changes its weights.

    Up to three methods: a row of panels for each condition of `first_and_noisiest`. More methods: the noisiest
    condition only, in rows of three. The labels that are noisy in the noisiest condition are drawn strong in every
    panel, the others pale. None if no method changes its weights.
    """
    conditions = first_and_noisiest(results)
    noisy = conditions[-1].labels
    changing = [
        method
        for method in results.methods
        if any(_weights_change(arm.weights) for c in conditions for arm in results.finished_arms(method, c))
    ]
    if not changing:
        return None
    columns = min(len(changing), 3)
    shown = conditions if len(changing) <= columns else conditions[-1:]
    panels = [(method, condition) for condition in shown for method in changing]
    figure, grid = panel_grid(len(panels), columns, 0.7, 2.0, sharex=True, sharey=True)
    for axes, (method, condition) in zip(grid.ravel(), panels, strict=False):
        _draw_weights(axes, results, method, condition, noisy)
    for row, condition in zip(grid, shown * len(grid), strict=False):
        row[0].set_ylabel(f"{condition.title}\ntask weight")
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    grid[0][0].set_ylim(bottom=min(0, grid[0][0].get_ylim()[0]))  # some rules subtract a task's gradient
    if noisy:
        _add_label_legend(figure, noisy)
    return to_svg(figure, "weights")


def _weights_change(weights: Sequence[WeightsRecord]) -> bool:
    return any(abs(value - 1) > 1e-3 for row in weights for value in row.labels.values())


def _draw_weights(axes: Axes, results: StudyResults, method: str, condition: Condition, noisy: Sequence[str]) -> None:
    axes.axhline(1, color=FAINT, linewidth=1)
    for arm in results.finished_arms(method, condition):
        steps = [row.step for row in arm.weights]
        for label in (name for name in arm.labels if name not in noisy):
            axes.plot(steps, [row.labels[label] for row in arm.weights], color=INK, alpha=0.22, linewidth=0.7)
        for label, colour, dashes in _label_styles(noisy):
            axes.plot(steps, [row.labels[label] for row in arm.weights], color=colour, linestyle=dashes)
    axes.set_title(wrap_name(method, 32), loc="left", size=8)
    axes.grid(axis="y")


def _add_label_legend(figure: Figure, noisy: Sequence[str]) -> None:
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], color=colour, linestyle=dashes, label=label_text(label))[0]
        for label, colour, dashes in _label_styles(noisy)
    ]
    handles.append(axes.plot([], [], color=INK, alpha=0.3, linewidth=0.8, label="other labels")[0])
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), handlelength=3.2)


def _label_styles(labels: Sequence[str]) -> list[tuple[str, str, Dashes]]:
    colours = COLOURS[1:]  # the ink is for the labels that are not named
    return [(label, colours[i % len(colours)], DASHES[i % len(DASHES)]) for i, label in enumerate(labels)]
