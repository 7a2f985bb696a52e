"""Shared style of all report figures: colours, markers, matplotlib settings and export to inline SVG.

A method keeps its colour, marker and line style in every figure; a control has those of its method, but is hollow and
dotted. What is grey is the noise floor. The colours can be distinguished with colour-blind
vision (Okabe and Ito); markers and line styles can be distinguished on a grey print too. Text stays text, in the
page's own sans-serif font. What is drawn in `INK` takes the page's text colour, on a light or a dark page. The same
results give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.records.arms import Condition
from tasks.records.study import StudyResults
from tasks.records.summary_text import describe_metric
from tasks.runtime.escaping import escape_unprintable

P = ParamSpec("P")
T = TypeVar("T")

GREY = "#858b96"  # of the noise floor, on a light or a dark page
INK, FAINT = "#010203", "#030201"  # placeholders for the page's text colour and its pale lines, see `to_svg`
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
Dashes = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
RC_PARAMS = {
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
MAX_METHODS_PER_PANEL = 5  # more of them cannot be distinguished in one panel
MOST_IN_LINE = 34  # characters of a label's name: half of `WIDTH`
WIDTH = 7.2  # inches, of every figure: text then has the same size in all


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    colour: str
    marker: str
    dashes: Dashes
    is_control: bool = False

    @property
    def marks(self) -> dict[str, Any]:
        """How the method's markers look, for `Axes.plot`; a line between them is drawn in `dashes`."""
        face = "none" if self.is_control else self.colour
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": face, "linestyle": ""}


def in_report_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Make a function draw and render with `RC_PARAMS`."""
    return rc_context(RC_PARAMS)(draw)


def new_figure(height: float) -> tuple[Figure, Axes]:
    """Return a figure, `height` inches high, and its only panel."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def panel_grid(
    panels: int, columns: int, height: float, height_per_row: float = 0.0, **shared: Any
) -> tuple[Figure, Any]:
    """Return a figure and its array of panels (rows, columns), of which those beyond `panels` are empty.

    It is `height` plus `height_per_row` inches high; `shared` is `sharex`, `sharey` or both.
    """
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, height + height_per_row * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **shared)
    for axes in grid.ravel()[panels:]:
        axes.set_axis_off()
    return figure, grid


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return one style per method, in the given order."""
    return {
        method: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, method in enumerate(methods)
    }


def study_styles(results: StudyResults) -> dict[str, Style]:
    """Return one style per method of a study; a control has that of its method, hollow and dotted."""
    controls = set(results.control_of.values())
    styles = method_styles([method for method in results.methods if method not in controls])
    for method, control in results.control_of.items():
        styles[control] = replace(styles.get(method, Style(INK, "o", "-")), dashes=":", is_control=True)
    return {method: styles[method] for method in results.methods}


def metric_title(results: StudyResults) -> str:
    """Return the name of the study's metric as figures and tables show it."""
    return describe_metric(next((arm.metric for arm in results.arms), "auc"))


def wrap_name(name: str, width: int) -> str:
    """Break a name after brackets, underscores and spaces, else anywhere, into lines of about `width` characters."""
    lines = [""]
    for part in re.findall(rf"[^(_ ]{{1,{width}}}[(_ ]?|[(_ ]", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def label_text(label: str) -> str:
    """Return a label's name as figures show it, on lines that leave room for what is drawn."""
    return wrap_name(escape_unprintable(label).replace("_", " "), MOST_IN_LINE)


def first_and_noisiest(results: StudyResults) -> tuple[Condition, ...]:
    """Return the first condition (clean, if it was studied) and the noisiest; only one if they are the same."""
    first, noisiest = results.conditions[0], max(results.conditions, key=lambda condition: condition.rate)
    return (first,) if noisiest == first else (first, noisiest)


def draw_seed_points(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw the results of single seeds as small open circles."""
    axes.plot(x, y, linestyle="", marker="o", markersize=3.6, markerfacecolor="none", color=colour, zorder=4)


def draw_interval(draw_line: Callable[..., object], at: float, found: Any, colour: str, **look: Any) -> None:
    """Draw the interval of a record with `lo` and `hi`, if it has one; `draw_line` is an axes' hlines or vlines."""
    if found.lo is not None and found.hi is not None:
        draw_line(at, found.lo, found.hi, color=colour, **look)


def to_svg(figure: Figure, name: str) -> str:
    """Render the figure as an <svg> element that stands inside an HTML page and takes the page's width.

    Ids begin with `name`, so that several figures can share a page. The document type and the namespaces, which
    point to outside addresses, are removed: HTML needs neither.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's font draws the text
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # tags only: a name that looks like a part of one stands between them
    svg = re.sub(r"<[^>]*>", lambda tag: _tag_in_page(tag[0], name), svg)
    return escape_unprintable(svg)


def _tag_in_page(tag: str, name: str) -> str:
    tag = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", tag)
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    return tag.replace(INK, "currentColor").replace(FAINT, "var(--pale)")
