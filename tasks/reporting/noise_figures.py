"""Figures of label noise: test scores against the noise rate, and label prevalence before and after noise."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tasks.records.arms import Condition
from tasks.records.scores import ScoreRecord, average_scores
from tasks.records.study import StudyResults
from tasks.reporting.figure_style import (
    COLOURS,
    INK,
    MAX_METHODS_PER_PANEL,
    Style,
    draw_interval,
    draw_seed_points,
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


@in_report_style
def score_against_noise(results: StudyResults) -> str:
    """Draw each method's mean test score against the noise rate; in a second panel, that of the noisy labels only.

    With more than `MAX_METHODS_PER_PANEL` methods, each method has a panel of its own for each kind of noise, with
    the baseline for comparison.
    """
    if len(results.methods) > MAX_METHODS_PER_PANEL:
        return _panel_per_method(results)
    noisy = {condition.labels for condition in results.conditions if condition.kind != "none"}
    only_noisy = noisy.pop() if len(noisy) == 1 else ()
    panels = list(dict.fromkeys((kind, labels) for kind in _noise_kinds(results) for labels in ((), only_noisy)))
    figure, grid = panel_grid(len(panels), min(len(panels), 2), 0.3, 2.9)
    for axes, (kind, labels) in zip(grid.ravel(), panels, strict=False):
        _draw_all_methods(axes, results, kind, labels)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 4), handlelength=3.2)
    return to_svg(figure, "noise")


def _noise_kinds(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(c.kind for c in results.conditions if c.kind != "none")) or ["none"]


def _draw_all_methods(axes: Axes, results: StudyResults, kind: str, labels: tuple[str, ...]) -> None:
    """Draw one kind of noise. `labels` () stands for the mean of all labels."""
    conditions = [c for c in results.conditions if c.kind in ("none", kind)]
    rates = sorted({c.rate for c in conditions})
    span = rates[-1] - rates[0] or 1.0
    smallest_gap = min(np.diff(rates), default=span)
    dodge = min(0.07 * span, 0.7 * smallest_gap / len(results.methods))  # so that no method hides another
    for i, (method, style) in enumerate(study_styles(results).items()):
        shift = dodge * (i - (len(results.methods) - 1) / 2)
        xs, values = [], []
        for condition in conditions:
            score, seeds = _mean_and_seeds(results, method, condition, labels)
            if score.value is None:
                continue
            x = condition.rate + shift
            xs.append(x)
            values.append(score.value)
            draw_interval(axes.vlines, x, score, style.colour, linewidth=1.1, zorder=2)
            if len(seeds) > 1:
                draw_seed_points(axes, [x + 0.45 * dodge] * len(seeds), seeds, style.colour)
        axes.plot(xs, values, **style.marks | {"linestyle": style.dashes}, label=method, zorder=3)
    axes.set_xticks(rates, [f"{100 * rate:g} %" if rate else "none" for rate in rates])
    axes.set_xlabel("label noise" if kind == "none" else f"{kind} labels, share of training rows")
    axes.set_title(f"mean of the {len(labels)} noisy labels" if labels else "mean of all scored labels", loc="left")
    axes.set_ylabel(f"test {metric_title(results)}")
    axes.margins(x=0.1)
    axes.grid(axis="y")


@in_report_style
def _panel_per_method(results: StudyResults) -> str:
    kinds = _noise_kinds(results)
    left_out = {results.baseline, *results.control_of.values()}
    others = [method for method in results.methods if method not in left_out]
    panels = [(kind, method) for kind in kinds for method in others]
    style_of = study_styles(results)
    figure, grid = panel_grid(len(panels), 4, 0.7, 1.45, sharey=True)
    for axes, (kind, method) in zip(grid.ravel(), panels, strict=False):
        conditions = [c for c in results.conditions if c.kind in ("none", kind)]
        _draw_curve(axes, results, conditions, results.baseline, Style(INK, "", "-"))
        _draw_curve(axes, results, conditions, method, style_of[method])
        rates = sorted({c.rate for c in conditions})
        axes.set_xticks(rates, [f"{100 * rate:g}" for rate in rates])
        axes.set_title(wrap_name(method if len(kinds) == 1 else f"{method}, {kind}", 25), loc="left", size=8)
        axes.margins(x=0.12)
        axes.grid(axis="y")
    figure.supylabel(f"test {metric_title(results)}", fontsize=9)
    figure.supxlabel("label noise, % of training rows", fontsize=9)
    handles = [
        grid[0, 0].plot([], [], color=INK, alpha=0.4, label=f"{results.baseline}, for comparison")[0],
        grid[0, 0].plot([], [], color=INK, label="mean of all scored labels")[0],
        grid[0, 0].plot([], [], color=INK, linestyle=":", label="mean of the noisy labels")[0],
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=3.2)
    return to_svg(figure, "noise")


def _draw_curve(axes: Axes, results: StudyResults, conditions: Sequence[Condition], method: str, style: Style) -> None:
    """Draw the mean of all labels with its interval and, dotted, that of the noisy labels.

    A style without a marker is drawn pale and without intervals.
    """
    alpha = 1.0 if style.marker else 0.4
    noisy = conditions[-1].labels
    for labels, dashes in (((), "-"), (noisy, ":")):
        if dashes == ":" and not labels:
            continue
        scores = [(c.rate, _mean_and_seeds(results, method, c, labels)[0]) for c in conditions]
        known = [(rate, score) for rate, score in scores if score.value is not None]
        rates, values = [rate for rate, _ in known], np.array([score.value for _, score in known], dtype=float)
        axes.plot(rates, values, **style.marks | {"linestyle": dashes}, alpha=alpha, markersize=4)
        for rate, score in known:
            if style.marker:
                draw_interval(axes.vlines, rate, score, style.colour, linewidth=1.0)


def _mean_and_seeds(
    results: StudyResults, method: str, condition: Condition, labels: tuple[str, ...]
) -> tuple[ScoreRecord, list[float]]:
    """Return the mean over seeds and the value of each seed.

    Without `labels` that is the mean of all labels, with its interval; with `labels` it has no interval.
    """
    arms = results.finished_arms(method, condition)
    if not labels:
        score = average_scores([arm.mean for arm in arms])
        return score, [arm.mean.value for arm in arms if arm.mean.value is not None]
    known = [[v for label in labels if (v := arm.scores[label].value) is not None] for arm in arms]
    seeds = [float(np.mean(values)) for values in known if values]
    value = float(np.mean(seeds)) if seeds else None
    return ScoreRecord(value=value, lo=None, hi=None, reason="no interval of a mean of chosen labels"), seeds


@in_report_style
def prevalence_under_noise(results: StudyResults) -> str | None:
    """Draw each noisy label's share of positives in training, before and after each seed's noise, if there is any."""
    condition = first_and_noisiest(results)[-1]
    masks = {arm.seed: arm.condition.summary for arm in results.arms if arm.condition.shared() == condition}
    labels = [label for label in condition.labels if any(label in summary for summary in masks.values())]
    if not labels:
        return None
    figure, axes = new_figure(0.8 + 0.27 * len(labels))
    for y, label in enumerate(labels):
        for summary in masks.values():
            before, after = summary[label].prevalence_before, summary[label].prevalence_after
            if before is None or after is None:
                continue
            axes.hlines(y, before, after, color=INK, linewidth=0.8)
            axes.plot(before, y, "o", markerfacecolor="none", color=INK)
            axes.plot(after, y, "o", color=COLOURS[2])
    axes.plot([], [], "o", markerfacecolor="none", color=INK, linestyle="", label="as the data came")
    axes.plot([], [], "o", color=COLOURS[2], linestyle="", label=f"with {condition.title}")
    axes.set_yticks(range(len(labels)), [label_text(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.set_xlabel("positives among the known training labels")
    axes.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=2)
    return to_svg(figure, "prevalence")
