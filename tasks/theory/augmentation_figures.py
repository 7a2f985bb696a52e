"""The figures of data augmentation in the theory's report, in the style of `tasks.reporting.figure_style`."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from models.theory.augmented_ridge import CONVENTIONS
from models.theory.digit_ridge import ARMS
from tasks.reporting.figure_style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    MARKERS,
    draw_interval,
    in_report_style,
    panel_grid,
    to_svg,
)
from tasks.theory.augmentation_records import (
    FAR,
    AugmentationRecord,
    DigitsRecord,
    HelpCellRecord,
    MixupRecord,
    OrderRecord,
)
from tasks.theory.augmentation_text import noise_text
from tasks.theory.estimate_text import percent
from tasks.theory.leading_orders import CLOSE, kept_over_leading, small_over_leading

HELP_COLOUR, HARM_COLOUR = "#56B4E9", "#E69F00"


@in_report_style
def draw_augmentation_figures(record: AugmentationRecord) -> dict[str, Markup]:
    """Draw all figures and return their SVG by name; that of digits only if there are any."""
    draw: dict[str, Callable[[], str]] = {
        "simulation": partial(simulated_falls, record),
        "leading_order": partial(leading_order_curves, record),
        "help": partial(help_map, record),
        "mixup": partial(mixup_curves, record),
        "order": partial(order_of_effects, record),
    }
    if record.digits:
        draw["digits"] = partial(digit_curves, record.digits)
    return {name: Markup(draw_figure()) for name, draw_figure in draw.items()}


def simulated_falls(record: AugmentationRecord) -> str:
    """Draw the risk's fall by closed form against simulation, and the deviations in standard errors."""
    figure, ((falls, deviations),) = panel_grid(2, 2, 3.3)
    cases = list(dict.fromkeys(row.name for row in record.simulation))
    for row in record.simulation:
        i, is_kept = cases.index(row.name), row.convention == CONVENTIONS[0]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        look = {"color": colour, "markerfacecolor": colour if is_kept else "none", "linestyle": "", "markersize": 4}
        label = row.name if is_kept else None
        falls.plot(row.closed, row.simulated, marker, label=label, **look)
        off = (np.array(row.simulated) - row.closed) / row.standard_error
        deviations.plot(np.full(len(off), i + (-0.14 if is_kept else 0.14)), off, marker, **look)
    ends = [value for row in record.simulation for value in (*row.closed, *row.simulated)]
    falls.plot([min(ends), max(ends)], [min(ends), max(ends)], color=INK, linewidth=0.8, zorder=0)
    for set_scale in (falls.set_xscale, falls.set_yscale):
        set_scale("symlog", linthresh=0.01)
    ticks = [tick for tick in (-1, -0.1, -0.01, 0, 0.01, 0.1, 1) if min(ends) * 1.5 <= tick <= max(ends) * 1.5]
    for axis in (falls.xaxis, falls.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    falls.minorticks_off()
    for draw_line in (falls.axhline, falls.axvline):
        draw_line(0, color=FAINT, linewidth=0.8, zorder=0)
    falls.set(xlabel="fall of the risk, closed form", ylabel="fall of the risk, simulated")
    for level in (-FAR, FAR):
        deviations.axhline(level, color=INK, linewidth=0.8, linestyle=DASHES[2])
    deviations.axhline(0, color=INK, linewidth=0.8)
    deviations.set_xticks([])
    deviations.set(xlim=(-0.6, len(cases) - 0.4), ylabel="difference, standard errors")
    figure.legend(*falls.get_legend_handles_labels(), loc="outside upper left", ncols=2, handletextpad=0.2)
    return to_svg(figure, "simulation")


def leading_order_curves(record: AugmentationRecord) -> str:
    """Draw the bias's exact fall over its leading orders against the ridge, a panel per convention."""
    figure, ((kept, rescaled),) = panel_grid(2, 2, 3.1)
    rows = sorted(record.leading_order, key=lambda row: row.relative_ridge)
    ridges = [row.relative_ridge for row in rows]
    dense = np.geomspace(min(ridges) / 3, max(ridges) * 3, 200)
    kept.axhspan(1 - CLOSE, 1 + CLOSE, color=FAINT, alpha=0.5, linewidth=0)
    for i, (curve, name, label) in enumerate(
        (
            (small_over_leading(dense), "small", "⟨z,β⟩² / ‖z‖²"),
            (kept_over_leading(dense), "kept", "2⟨z,β⟩² / λn"),
        ),
        1,
    ):
        medians = [getattr(row, name).median for row in rows]
        kept.plot(dense, curve, color=COLOURS[i], linewidth=1.0, linestyle=DASHES[i])
        kept.plot(ridges, medians, MARKERS[i], color=COLOURS[i], linestyle="", label=label)
    colour, spreads = COLOURS[2], [row.rescaled for row in rows]
    rescaled.vlines(ridges, [s.lowest for s in spreads], [s.highest for s in spreads], color=colour, linewidth=1.0)
    rescaled.fill_between(
        ridges, [s.lower for s in spreads], [s.upper for s in spreads], color=colour, alpha=0.18, linewidth=0
    )
    rescaled.plot(ridges, [s.median for s in spreads], MARKERS[2], color=colour, linestyle=DASHES[2], linewidth=1.0)
    rescaled.axhline(0, color=INK, linewidth=0.8)
    rescaled.set_yscale("symlog", linthresh=1)
    lowest = min(s.lowest for s in spreads)
    ticks = [-(10.0**i) for i in range(6, -1, -1) if -(10.0**i) > 1.5 * lowest] + [0.0, 1.0]
    rescaled.set_yticks(ticks, [f"{tick:,.0f}".replace("-", "−") for tick in ticks])
    for axes, title in ((kept, "ridge kept"), (rescaled, "ridge rescaled")):
        axes.axhline(1, color=INK, linewidth=0.8)
        axes.set(xscale="log", xlabel="λn / ‖z‖²")
        axes.set_xticks(ridges, [f"{ridge:,.5g}" for ridge in ridges], fontsize=7.5)
        axes.minorticks_off()
        axes.set_title(title, loc="left")
        axes.grid(axis="y")
    kept.set_ylabel("exact fall of the bias / leading order")
    figure.legend(*kept.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return to_svg(figure, "leading-order")


def help_map(record: AugmentationRecord) -> str:
    """Draw the change of the risk in each cell of ridge and noise, a column per projection, a row per convention."""
    projections = sorted({cell.projection for cell in record.map})
    figure, grid = panel_grid(2 * len(projections), len(projections), 0.5, 1.85, sharex=True, sharey=True)
    for panels, convention in zip(grid, CONVENTIONS, strict=True):
        for axes, projection in zip(panels, projections, strict=True):
            cells = [cell for cell in record.map if (cell.convention, cell.projection) == (convention, projection)]
            _draw_cells(axes, cells)
            axes.set_title(f"ridge {convention}, cos² {projection:g}", loc="left", fontsize=8)
        panels[0].set_ylabel("noise σ")
    for axes in grid[-1]:
        axes.set_xlabel("λn / ‖z‖²")
    handles = [
        grid[0][0].scatter([], [], marker="s", s=60, color=colour, label=label)
        for colour, label in ((HELP_COLOUR, "lowers the risk"), (HARM_COLOUR, "raises it"), (FAINT, "differs by seed"))
    ]
    handles.append(grid[0][0].plot([], [], "x", color=INK, markersize=4, label="the condition is wrong")[0])
    figure.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.0, handletextpad=0.2)
    return to_svg(figure, "help")


def _draw_cells(axes: Axes, cells: Sequence[HelpCellRecord]) -> None:
    """Draw a tile per cell with the mean change in per cent, paler for a small change; a cross where seeds disagree."""
    ridges, noises = (sorted({getattr(cell, name) for cell in cells}) for name in ("relative_ridge", "noise"))
    for cell in cells:
        x, y = ridges.index(cell.relative_ridge), noises.index(cell.noise)
        seeds = cell.change.seeds
        colour = HELP_COLOUR if cell.helps == seeds else HARM_COLOUR if not cell.helps else FAINT
        strength = float(np.clip(0.25 + abs(cell.change.mean) * 3, 0, 1))
        axes.fill_between([x - 0.48, x + 0.48], y - 0.48, y + 0.48, color=colour, linewidth=0, alpha=strength)
        axes.text(x, y, _short_change(cell.change.mean), ha="center", va="center", fontsize=5.5)
        if cell.agree < seeds:
            axes.plot(x + 0.33, y + 0.3, "x", color=INK, markersize=2.5, markeredgewidth=0.7)
    axes.set_xticks(range(len(ridges)), [f"{ridge:g}" for ridge in ridges], fontsize=6.5)
    axes.set_yticks(range(len(noises)), [f"{noise:g}" for noise in noises], fontsize=7.5)
    axes.set(xlim=(-0.5, len(ridges) - 0.5), ylim=(-0.5, len(noises) - 0.5))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _short_change(change: float) -> str:
    """Format a relative change in per cent in at most four characters, without the sign of per cent."""
    size, sign = abs(100 * change), "−" if change < 0 else "+"
    return f"{sign}{size:.0f}" if size >= 0.95 else f"{sign}.{10 * size:.0f}"


def mixup_curves(record: AugmentationRecord) -> str:
    """Draw the change of the risk by mixup, and by its equivalent ridge, against the ridge; a panel per convention."""
    figure, (panels,) = panel_grid(2, 2, 3.1)
    ridges = sorted({row.relative_ridge for row in record.mixup})
    for axes, convention in zip(panels, CONVENTIONS, strict=True):
        axes.axhline(0, color=INK, linewidth=0.8)
        shown = record.main_mixup(convention)
        for i, case in enumerate(dict.fromkeys(row.name for row in shown)):
            rows = [row for row in shown if row.name == case]
            _draw_mixup(axes, sorted(rows, key=lambda row: row.relative_ridge), i)
        axes.set_xscale("log")
        axes.set_xticks(ridges, [f"{ridge:g}" for ridge in ridges])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_percent_tick)
        axes.set_title(f"ridge {convention}", loc="left")
        axes.set_xlabel("λ / λ*")
        axes.grid(axis="y")
    # Linear up to 100 %, logarithmic above: with the ridge kept, a rise has no limit.
    panels[0].set_yscale("symlog", linthresh=1)
    panels[0].yaxis.set_major_formatter(_percent_tick)
    changes = [row.change.mean for row in record.main_mixup(CONVENTIONS[0])]
    panels[0].set_ylim(min(0, *changes) - 0.15, 2 * max(1, *changes))
    panels[0].minorticks_off()
    panels[0].set_ylabel("change of the risk")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, handletextpad=0.2)
    return to_svg(figure, "mixup")


def _draw_mixup(axes: Axes, rows: Sequence[MixupRecord], i: int) -> None:
    """Draw mixup's changes as marks with intervals, those of the equivalent ridge as a line."""
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    ridges = [row.relative_ridge for row in rows]
    for row in rows:
        draw_interval(axes.vlines, row.relative_ridge, row.change, colour, linewidth=1.1)
    axes.plot(ridges, [row.change.mean for row in rows], marker, color=colour, linestyle="", label=rows[0].name)
    equivalent = [row.equivalent_change.mean for row in rows]
    axes.plot(ridges, equivalent, color=colour, linewidth=1.0, linestyle=DASHES[i % len(DASHES)])


def _percent_tick(change: float, _: float) -> str:
    return percent(change) if abs(change) > 1e-9 else "0"


def order_of_effects(record: AugmentationRecord) -> str:
    """Draw the mean bias and variance of rotations and of mixup, relative to plain ridge; a row per convention."""
    cases = list(dict.fromkeys(row.name for row in record.order))
    figure, grid = panel_grid(4, 2, 0.7, 0.55 + 0.28 * len(cases), sharex="col")
    for panels, convention in zip(grid, CONVENTIONS, strict=True):
        rows = [row for row in record.order if row.convention == convention]
        for axes, part in zip(panels, ("bias", "variance"), strict=True):
            axes.axvline(0, color=INK, linewidth=0.8)
            for i, arm in enumerate(("rotation", "mixup"), 1):
                changes = [_relative(row, part, arm) for row in rows]
                axes.plot(changes, range(len(rows)), MARKERS[i], color=COLOURS[i], linestyle="", label=arm)
            axes.set_title(f"{part}, ridge {convention}", loc="left")
            axes.xaxis.set_major_formatter(_percent_tick)
            axes.locator_params(axis="x", nbins=4)
            axes.set_ylim(len(cases) - 0.5, -0.5)
            axes.set_yticks(range(len(cases)), cases if part == "bias" else [""] * len(cases))
            axes.margins(x=0.12)
            axes.grid(axis="x")
    for axes in grid[-1]:
        axes.set_xlabel("relative to plain ridge")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return to_svg(figure, "order")


def _relative(row: OrderRecord, part: str, arm: str) -> float:
    found = getattr(row, f"{part}_{arm}") / getattr(row, f"{part}_plain") - 1
    return float(found)


def digit_curves(digits: DigitsRecord) -> str:
    """Draw the error on held-out digits against the ridge: a column per label noise, a row per convention."""
    noises, ridges = (sorted({getattr(row, name) for row in digits.rows}) for name in ("label_noise", "ridge"))
    figure, grid = panel_grid(2 * len(noises), len(noises), 0.6, 1.9, sharex=True, sharey=True)
    for panels, convention in zip(grid, CONVENTIONS, strict=True):
        for axes, noise in zip(panels, noises, strict=True):
            rows = [row for row in digits.rows if (row.convention, row.label_noise) == (convention, noise)]
            for i, arm in enumerate(ARMS):
                errors = {row.ridge: 100 * row.error.mean for row in rows if row.arm == arm}
                look = {"color": COLOURS[i], "linestyle": DASHES[i % 4], "markersize": 4, "linewidth": 1.1}
                axes.plot(ridges, [errors[ridge] for ridge in ridges], MARKERS[i], label=arm, **look)
            axes.set_title(f"{noise_text(noise)}, ridge {convention}", loc="left", fontsize=8)
            axes.grid(axis="y")
        panels[0].set_ylabel("error, %")
    grid[0][0].set_xscale("log")
    for axes in grid[-1]:
        axes.set_xticks(ridges, [f"{ridge:g}" for ridge in ridges], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel("ridge λ")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return to_svg(figure, "digits")
