"""The figure of a series: over its nights the champion's score on the same patients, and the new images."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.nightly.records import NightResults
from tasks.reporting.figure_style import COLOURS, GREY, INK, WIDTH, draw_interval, in_report_style, to_svg

_BLUE, _VERMILION, _GREEN = COLOURS[1:4]
_MOST_NAMED = 14  # dates below the axis


@in_report_style
def draw_series(nights: Sequence[NightResults]) -> Markup | None:
    """Draw the champion's mean AUC by night, and below the new images, as SVG; None before there are two nights.

    A filled square marks the first night of a new champion, a red bar a night with a drift alarm.
    """
    if len(nights) < 2:
        return None
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    scores, counts = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_scores(scores, nights)
    _draw_counts(counts, nights)
    step = -(-len(nights) // _MOST_NAMED)
    shown = range(0, len(nights), step)
    counts.set_xticks(list(shown), [f"{nights[i].night:%-d %b}" for i in shown])
    return Markup(to_svg(figure, "series"))


def _draw_scores(axes: Axes, nights: Sequence[NightResults]) -> None:
    before: str | None = None
    for at, night in enumerate(nights):
        if night.champion is None or (value := night.champion.mean.value) is None:
            continue
        mean, new = night.champion.mean, night.champion.version != before
        draw_interval(axes.vlines, at, mean, _BLUE, linewidth=1.0)
        face = _BLUE if new else "none"
        axes.plot([at], [value], "s" if new else "o", color=_BLUE, markerfacecolor=face)
        if new:
            above = (at, value if mean.hi is None else mean.hi)
            text = f"version {night.champion.version}"
            axes.annotate(text, above, (0, 4), textcoords="offset points", ha="center", fontsize=8)
        before = night.champion.version
    axes.axhline(0.5, color=GREY, linewidth=0.8)
    axes.set_ylabel("champion's mean AUC")
    axes.margins(y=0.18)


def _draw_counts(axes: Axes, nights: Sequence[NightResults]) -> None:
    colours = [_VERMILION if night.drift and night.drift.alarms else GREY for night in nights]
    counts = [night.arrivals.new_images for night in nights[1:]]
    axes.bar(range(1, len(nights)), counts, color=colours[1:], edgecolor=INK, linewidth=0.4, width=0.6)
    axes.set_ylabel("new images")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
