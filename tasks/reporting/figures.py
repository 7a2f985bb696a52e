"""The figures of a study's report, as SVG that is part of the page.

A method keeps its colour, marker and line style from figure to figure: the colours are told apart by
colour-blind eyes (Okabe and Ito), markers and line styles by everyone, on grey paper too. Text stays text, in
the page's own sans-serif; what is black here takes the page's ink, light or dark. The same results give the
same bytes.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from PIL import Image
from sklearn.isotonic import isotonic_regression

from tasks.records.cost import method_costs
from tasks.records.study import ComparisonRecord, NoiseCondition, ScoreRecord, StudyResults, average

INK, FAINT = "#010203", "#030201"  # stand for the page's ink and its pale lines, see `to_svg`
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
Dashes = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medmtl",
    "text.parse_math": False,  # a label's name is never a formula
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
}
TOGETHER = 5  # methods that can be told apart in one panel
WIDTH = 7.2  # inches, of every figure: text then has the same size in all


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    dashes: Dashes


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """One style per method, in the given order."""
    return {
        method: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, method in enumerate(methods)
    }


def score_name(results: StudyResults) -> str:
    """How the metric is written in a figure."""
    metric = next((arm.metric for arm in results.arms), "auc")
    return "AUC" if metric == "auc" else metric


# --- Score against noise ---


def score_against_noise(results: StudyResults) -> str:
    """Mean test score of each method against the noise rate; beside it, the same over the noisy labels alone.

    More than `TOGETHER` methods have a panel each, beside the baseline, for each kind of noise.
    """
    if len(results.methods) > TOGETHER:
        return _each_against_noise(results)
    noisy = {condition.labels for condition in results.conditions if condition.kind != "none"}
    kinds = list(dict.fromkeys(c.kind for c in results.conditions if c.kind != "none")) or ["none"]
    only_noisy = noisy.pop() if len(noisy) == 1 else ()
    panels = [(kind, labels) for kind in kinds for labels in ((), only_noisy) if labels or labels == ()]
    panels = list(dict.fromkeys(panels))
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 2.9 * rows + 0.3), layout="constrained")
        grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (kind, labels) in zip(grid, panels, strict=False):
            _draw_against_noise(axes, results, kind, labels)
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 4), handlelength=3.2)
        return to_svg(figure, "noise")


def _draw_against_noise(axes: Axes, results: StudyResults, kind: str, labels: tuple[str, ...]) -> None:
    conditions = [c for c in results.conditions if c.kind in ("none", kind)]
    rates = sorted({c.rate for c in conditions})
    span = rates[-1] - rates[0] or 1.0
    nearest = min(np.diff(rates), default=span)
    dodge = min(0.07 * span, 0.7 * nearest / len(results.methods))
    for i, (method, style) in enumerate(styles(results.methods).items()):
        shift = dodge * (i - (len(results.methods) - 1) / 2)
        at, values = [], []
        for condition in conditions:
            score, seeds = _mean_and_seeds(results, method, condition, labels)
            if score.value is None:
                continue
            x = condition.rate + shift
            at.append(x)
            values.append(score.value)
            if score.lo is not None and score.hi is not None:
                axes.vlines(x, score.lo, score.hi, color=style.colour, linewidth=1.1, zorder=2)
            if len(seeds) > 1:
                _seed_points(axes, [x + 0.45 * dodge] * len(seeds), seeds, style.colour)
        axes.plot(at, values, style.marker, color=style.colour, linestyle=style.dashes, label=method, zorder=3)
    axes.set_xticks(rates, [f"{100 * rate:g} %" if rate else "none" for rate in rates])
    axes.set_xlabel("label noise" if kind == "none" else f"{kind} labels, share of training rows")
    axes.set_title(f"mean of the {len(labels)} noisy labels" if labels else "mean of all scored labels", loc="left")
    axes.set_ylabel(f"test {score_name(results)}")
    axes.margins(x=0.1)
    axes.grid(axis="y")


def _each_against_noise(results: StudyResults) -> str:
    kinds = list(dict.fromkeys(c.kind for c in results.conditions if c.kind != "none")) or ["none"]
    others = [method for method in results.methods if method != results.baseline]
    panels = [(kind, method) for kind in kinds for method in others]
    columns = 4
    rows = -(-len(panels) // columns)
    look = styles(results.methods)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.7 + 1.45 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (kind, method) in zip(grid, panels, strict=False):
            conditions = [c for c in results.conditions if c.kind in ("none", kind)]
            _draw_curve(axes, results, conditions, results.baseline, Style(INK, "", "-"))
            _draw_curve(axes, results, conditions, method, look[method])
            rates = sorted({c.rate for c in conditions})
            axes.set_xticks(rates, [f"{100 * rate:g}" for rate in rates])
            axes.set_title(method if len(kinds) == 1 else f"{method}, {kind}", loc="left", color=INK)
            axes.margins(x=0.12)
            axes.grid(axis="y")
        figure.supylabel(f"test {score_name(results)}", fontsize=9)
        figure.supxlabel("label noise, % of training rows", fontsize=9)
        handles = [
            grid[0].plot([], [], color=INK, alpha=0.4, label=f"{results.baseline}, for comparison")[0],
            grid[0].plot([], [], color=INK, label="mean of all scored labels")[0],
            grid[0].plot([], [], color=INK, linestyle=":", label="mean of the noisy labels")[0],
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=3.2)
        return to_svg(figure, "noise")


def _draw_curve(
    axes: Axes, results: StudyResults, conditions: Sequence[NoiseCondition], method: str, style: Style
) -> None:
    """The mean of all labels with its interval, and dotted that of the noisy labels; pale without a marker."""
    pale = 1.0 if style.marker else 0.4
    noisy = conditions[-1].labels
    for labels, dashes in (((), "-"), (noisy, ":")):
        if dashes == ":" and not labels:
            continue
        scores = [(c.rate, _mean_and_seeds(results, method, c, labels)[0]) for c in conditions]
        known = [(rate, score) for rate, score in scores if score.value is not None]
        rates, values = [rate for rate, _ in known], np.array([score.value for _, score in known], dtype=float)
        axes.plot(rates, values, marker=style.marker, color=style.colour, linestyle=dashes, alpha=pale, markersize=4)
        for rate, score in known:
            if style.marker and score.lo is not None and score.hi is not None:
                axes.vlines(rate, score.lo, score.hi, color=style.colour, linewidth=1.0)


def _mean_and_seeds(
    results: StudyResults, method: str, condition: NoiseCondition, labels: tuple[str, ...]
) -> tuple[ScoreRecord, list[float]]:
    """The mean over seeds with its interval, and each seed; of all labels, or without interval of some."""
    arms = results.finished(method, condition)
    if not labels:
        score = average([arm.mean for arm in arms])
        return score, [arm.mean.value for arm in arms if arm.mean.value is not None]
    known = [[v for label in labels if (v := arm.scores[label].value) is not None] for arm in arms]
    seeds = [float(np.mean(values)) for values in known if values]
    value = float(np.mean(seeds)) if seeds else None
    return ScoreRecord(value=value, lo=None, hi=None), seeds


def _seed_points(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    axes.plot(x, y, linestyle="", marker="o", markersize=3.6, markerfacecolor="none", color=colour, zorder=4)


# --- Differences ---


def differences(results: StudyResults) -> str | None:
    """Every method minus the baseline, with its interval, and each pair of networks as an open circle.

    None when nothing was compared.
    """
    comparisons = results.comparisons
    if not comparisons:
        return None
    look = styles(results.methods)
    rows = _rows_with_headings(comparisons)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        ends = [0.0]
        for y, row in enumerate(rows):
            if isinstance(row, str):
                axes.text(0.01, y, row, transform=axes.get_yaxis_transform(), va="center", weight="bold")
                continue
            style = look[row.method]
            if row.lo is not None and row.hi is not None:
                axes.hlines(y, row.lo, row.hi, color=style.colour, linewidth=1.8)
                ends += [row.lo, row.hi]
            if row.delta is not None:
                axes.plot(row.delta, y, marker=style.marker, color=style.colour, markersize=7, zorder=3)
            seeds = [seed.delta for seed in row.by_seed]
            _seed_points(axes, seeds, [y - 0.28] * len(seeds), style.colour)
            axes.text(-0.02, y, row.method, transform=axes.get_yaxis_transform(), ha="right", va="center")
            axes.text(1.02, y, _in_numbers(row), transform=axes.get_yaxis_transform(), va="center")
            ends += seeds
        reach = 1.1 * max(abs(end) for end in ends) or 0.01
        axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.7), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        baseline = comparisons[0].baseline
        axes.set_xlabel(f"worse than {baseline}   ◂   difference in mean test {score_name(results)}   ▸   better")
        return to_svg(figure, "differences")


def _rows_with_headings(comparisons: Sequence[ComparisonRecord]) -> list[str | ComparisonRecord]:
    rows: list[str | ComparisonRecord] = []
    heading = None
    for comparison in comparisons:
        if comparison.noise.title != heading:
            heading = comparison.noise.title
            rows.append(heading)
        rows.append(comparison)
    return rows


def _in_numbers(row: ComparisonRecord) -> str:
    if row.delta is None:
        return "not compared"
    if row.lo is None or row.hi is None:
        return f"{row.delta:+.3f}".replace("-", "−")
    return f"{row.delta:+.3f}  ({row.lo:+.3f} to {row.hi:+.3f})".replace("-", "−")


# --- Cost ---


def cost_against_benefit(results: StudyResults) -> str | None:
    """The difference of each method under the most noise against its time per step, both beside the baseline's.

    None where steps were not timed. Names stand in a column of their own, where none can hide another.
    """
    noisiest = max((c.noise for c in results.comparisons), key=lambda noise: noise.rate, default=None)
    of_baseline = {cost.method: cost.of_baseline for cost in method_costs(results)}
    rows = [
        (found, ratio)
        for found in results.comparisons
        if found.noise == noisiest and found.delta is not None and (ratio := of_baseline.get(found.method))
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: row[0].delta or 0)
    look = styles(results.methods)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, max(3.2, 0.8 + 0.175 * len(rows))), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.axvline(1, color=INK, linewidth=0.8)
        _log_axis(axes, [ratio for _, ratio in rows])
        left, right = np.log(axes.get_xlim())
        apart = (right - left) * min(0.012, 0.1 / len(rows))
        at = np.exp(spread_out(np.log([ratio for _, ratio in rows]), apart))
        ends = [0.0, *(end for found, _ in rows for end in (found.delta, found.lo, found.hi) if end is not None)]
        room = 0.06 * (max(ends) - min(ends)) or 0.01  # methods may come to the same numbers
        bottom, top = min(ends) - room, max(ends) + room
        axes.set_ylim(bottom, top)
        deltas = np.array([found.delta for found, _ in rows], dtype=float)
        beside = spread_out((deltas - bottom) / (top - bottom), min(0.055, 1 / len(rows)), (0, 1))
        for x, y, (found, ratio) in zip(at, beside, rows, strict=True):
            _draw_cost(axes, look[found.method], (float(x), float(y)), found, ratio)
        axes.set_xlabel(f"time per training step, as a multiple of {results.baseline}")
        axes.set_ylabel(f"difference in mean test {score_name(results)}")
        return to_svg(figure, "cost")


def _draw_cost(axes: Axes, style: Style, at: tuple[float, float], found: ComparisonRecord, ratio: float) -> None:
    """A method's marker and interval, and its name in the column, joined by a thin line. at: see above."""
    x, beside = at
    column, in_column = 1.05, axes.get_yaxis_transform()
    if found.lo is not None and found.hi is not None:
        axes.vlines(x, found.lo, found.hi, color=style.colour, linewidth=1.0, alpha=0.7)
    difference = found.delta or 0.0
    axes.plot(x, difference, style.marker, color=style.colour, markersize=7, zorder=4)
    bottom, top = axes.get_ylim()
    at_name = (column, bottom + beside * (top - bottom))
    axes.annotate(
        "", xy=(x, difference), xycoords="data", xytext=at_name, textcoords=in_column, annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": style.colour, "linewidth": 0.5, "alpha": 0.55, "shrinkB": 4},
    )  # fmt: skip
    axes.plot(*at_name, style.marker, color=style.colour, markersize=5, transform=in_column, clip_on=False)
    axes.text(column + 0.02, at_name[1], f"{found.method}  × {ratio:.2f}", transform=in_column, va="center", size=8)


def _log_axis(axes: Axes, ratios: Sequence[float]) -> None:
    """Multiples of the baseline on a logarithmic axis, with round numbers."""
    lowest, highest = min(0.9, *ratios), max(1.1, *ratios)
    room = (highest / lowest) ** 0.05
    axes.set_xscale("log")
    axes.set_xlim(lowest / room, highest * room)
    steps = (1, 1.5, 2, 3, 5, 7) if highest / lowest > 2 else (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 6, 7, 8, 9)
    ticks = [power * step for power in (0.1, 1, 10, 100, 1000) for step in steps]
    axes.set_xticks([tick for tick in ticks if lowest / room <= tick <= highest * room])
    axes.xaxis.set_major_formatter(lambda ratio, _: f"× {ratio:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def spread_out(
    values: Sequence[float] | NDArray[np.float64], apart: float, within: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """The values moved as little as leaves any two of them at least `apart`, in the same order (least squares)."""
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = apart * np.arange(len(values))
    lowest, highest = (None, None) if within is None else (within[0], within[1] - steps[-1])
    moved = np.empty_like(values)
    moved[order] = isotonic_regression(values[order] - steps, y_min=lowest, y_max=highest) + steps
    return moved


# --- Labels ---


def labels_by_method(results: StudyResults) -> str:
    """A row per label, a marker per method, without noise and with the most there was; easy labels on top.

    More than `TOGETHER` methods: a heat map.
    """
    if len(results.methods) > TOGETHER:
        return _heat_map(results)
    conditions = ends_of_noise(results)
    order = _easiest_first(results)
    look = styles(results.methods)
    spread = 0.7 / max(3, len(look))
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.9 + max(0.3, 0.075 * len(look)) * len(order)), layout="constrained")
        panels = figure.subplots(1, len(conditions), sharex=True, sharey=True, squeeze=False)[0]
        for axes, condition in zip(panels, conditions, strict=True):
            for y, label in enumerate(order):
                if label in condition.labels:
                    axes.axhspan(y - 0.5, y + 0.5, color=FAINT, alpha=0.45, linewidth=0)
                for i, (method, style) in enumerate(look.items()):
                    score = average([arm.scores[label] for arm in results.finished(method, condition)])
                    at = y + spread * (i - (len(look) - 1) / 2)
                    if score.lo is not None and score.hi is not None:
                        axes.hlines(at, score.lo, score.hi, color=style.colour, linewidth=0.9, alpha=0.75)
                    if score.value is not None:
                        axes.plot(score.value, at, style.marker, color=style.colour, markersize=4.2)
            axes.set_title(condition.title, loc="left")
            axes.set_xlabel(f"test {score_name(results)}")
            axes.grid(axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(order)), [label.replace("_", " ") for label in order])
        panels[0].set_ylim(len(order) - 0.5, -0.5)
        _legend(figure, results)
        return to_svg(figure, "labels")


def _easiest_first(results: StudyResults) -> list[str]:
    """The labels by the baseline's scores under the first condition; those without a score at the end."""
    arms = results.finished(results.baseline, results.conditions[0])
    height = {label: average([arm.scores[label] for arm in arms]).value for label in results.labels}
    return sorted(results.labels, key=lambda label: (height[label] is None, -(height[label] or 0)))


def _heat_map(results: StudyResults) -> str:
    """Under the most noise: a row per method, a column per label, the score minus the baseline's in thousandths.

    The numbers stand in the cells, for grey paper; the best difference in the mean is on top.
    """
    condition = ends_of_noise(results)[-1]
    labels = _easiest_first(results)
    of_baseline = _scores(results, results.baseline, condition, labels)
    others = [method for method in results.methods if method != results.baseline]
    table = {method: 1000 * (_scores(results, method, condition, labels) - of_baseline) for method in others}
    table = dict(sorted(table.items(), key=lambda row: -np.nan_to_num(row[1][-1], nan=-np.inf)))
    cells = np.array(list(table.values()))
    reach = max(1.0, float(np.nanquantile(np.abs(cells), 0.95))) if np.isfinite(cells).any() else 1.0
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.19 * len(table)), layout="constrained")
        axes = figure.subplots()
        axes.pcolormesh(cells, cmap=_CELLS, vmin=-reach, vmax=reach)
        for (row, column), value in np.ndenumerate(cells):
            axes.text(column + 0.5, row + 0.5, _in_cell(value), ha="center", va="center", size=7, color=_on(value))
        names = [name.replace("_", " ") + (" *" if name in condition.labels else "") for name in labels]
        axes.set_xticks(np.arange(len(names) + 1) + 0.5, [*names, "mean"], rotation=40, ha="left", size=8)
        axes.set_yticks(np.arange(len(table)) + 0.5, list(table), size=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.axvline(len(names), color=INK, linewidth=1)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(
            f"{condition.title}: test {score_name(results)} minus that of {results.baseline}, in thousandths"
            + ("; * noisy in training" if condition.labels else "")
        )
        return to_svg(figure, "labels")


_CELLS = LinearSegmentedColormap.from_list("differences", ["#9f8fd0", "#ffffff", "#f2a452"])
"""Worse, equal, better: told apart by colour-blind eyes, and pale enough for dark numbers."""


def _in_cell(value: float) -> str:
    return "–" if np.isnan(value) else "0" if round(value) == 0 else f"{value:+.0f}".replace("-", "−")


def _on(value: float) -> str:
    """The ink for a number: cells are light on a dark page too."""
    return INK if np.isnan(value) else "#151515"


def _scores(
    results: StudyResults, method: str, condition: NoiseCondition, labels: Sequence[str]
) -> NDArray[np.float64]:
    """Of each label and of the mean, averaged over seeds; nan where there is none."""
    arms = results.finished(method, condition)
    found = [average([arm.scores[label] for arm in arms]).value for label in labels]
    return np.array([*found, average([arm.mean for arm in arms]).value], dtype=float)


def ends_of_noise(results: StudyResults) -> tuple[NoiseCondition, ...]:
    """The first condition (clean, if it was studied) and the noisiest."""
    first, noisiest = results.conditions[0], max(results.conditions, key=lambda condition: condition.rate)
    return (first,) if noisiest == first else (first, noisiest)


def _legend(figure: Figure, results: StudyResults) -> None:
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], style.marker, color=style.colour, label=method)[0]
        for method, style in styles(results.methods).items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4))


# --- Weights ---


def weights_over_training(results: StudyResults) -> str | None:
    """The weight of each task by step, a panel per method that moves them; None if none does.

    Up to three methods: a row per condition of `ends_of_noise`. More: the noisiest condition alone, in rows
    of three. The labels that are noisy in the noisiest condition are drawn strong in every panel, the others
    pale.
    """
    conditions = ends_of_noise(results)
    noisy = conditions[-1].labels
    moving = [
        method
        for method in results.methods
        if any(_moves(arm.weights) for condition in conditions for arm in results.finished(method, condition))
    ]
    if not moving:
        return None
    columns = min(len(moving), 3)
    shown = conditions if len(moving) <= columns else conditions[-1:]
    panels = [(method, condition) for condition in shown for method in moving]
    rows = -(-len(panels) // columns)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.7 + 2.0 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.ravel()[len(panels) :]:
            axes.set_axis_off()
        for axes, (method, condition) in zip(grid.ravel(), panels, strict=False):
            _draw_weights(axes, results, method, condition, noisy)
        for row, condition in zip(grid, shown * rows, strict=False):
            row[0].set_ylabel(f"{condition.title}\ntask weight")
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        grid[0][0].set_ylim(bottom=min(0, grid[0][0].get_ylim()[0]))  # some rules subtract a task's gradient
        if noisy:
            _label_legend(figure, noisy)
        return to_svg(figure, "weights")


def _label_legend(figure: Figure, noisy: Sequence[str]) -> None:
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], color=colour, linestyle=dashes, label=label.replace("_", " "))[0]
        for label, colour, dashes in _label_styles(noisy)
    ]
    handles.append(axes.plot([], [], color=INK, alpha=0.3, linewidth=0.8, label="other labels")[0])
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), handlelength=3.2)


def _label_styles(labels: Sequence[str]) -> list[tuple[str, str, Dashes]]:
    colours = COLOURS[1:]  # the ink is for the labels that are not named
    return [(label, colours[i % len(colours)], DASHES[i % len(DASHES)]) for i, label in enumerate(labels)]


def _moves(weights: Sequence[dict[str, float]]) -> bool:
    return any(abs(value - 1) > 1e-3 for row in weights for label, value in row.items() if label != "step")


def _draw_weights(
    axes: Axes, results: StudyResults, method: str, condition: NoiseCondition, noisy: Sequence[str]
) -> None:
    axes.axhline(1, color=FAINT, linewidth=1)
    for arm in results.finished(method, condition):
        steps = [row["step"] for row in arm.weights]
        for label in (name for name in arm.labels if name not in noisy):
            axes.plot(steps, [row[label] for row in arm.weights], color=INK, alpha=0.22, linewidth=0.7)
        for label, colour, dashes in _label_styles(noisy):
            axes.plot(steps, [row[label] for row in arm.weights], color=colour, linestyle=dashes)
    axes.set_title(method, loc="left")
    axes.grid(axis="y")


# --- Noise ---


def prevalence_under_noise(results: StudyResults) -> str | None:
    """How the noise moved the share of positives of each noisy label in the training set; None without
    noise.
    """
    condition = ends_of_noise(results)[-1]
    masks = {arm.seed: arm.noise.summary for arm in results.arms if arm.noise.condition() == condition}
    labels = [label for label in condition.labels if any(label in summary for summary in masks.values())]
    if not labels:
        return None
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.27 * len(labels)), layout="constrained")
        axes = figure.subplots()
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
        axes.set_yticks(range(len(labels)), [label.replace("_", " ") for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.set_xlabel("positives among the known training labels")
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure, "prevalence")


# --- Pictures ---


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """A grey image (s, s) uint8 as an address that holds the image itself."""
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise ValueError(f"an example must be (s, s) uint8; got {pixels.shape} {pixels.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- SVG ---


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element to stand within a page, sized by the page's width.

    Names of parts begin with the figure's, so that several figures share a page; what addresses the outside
    (the document type, the namespaces) goes, since HTML needs neither.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return svg.replace(INK, "currentColor").replace(FAINT, "var(--pale)")
