"""HTML report pages: one self-contained file per report; every text from outside is escaped."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from data_prep.store.store import Store
from tasks.records.comparisons import ComparisonRecord
from tasks.records.scores import ScoreRecord
from tasks.records.summary_text import signed
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.escaping import escape_unprintable

MAX_EXAMPLES = 12
MAX_POINTS = 6  # single seeds in a cell of a table
EXAMPLE_PIXELS = 96
"""Larger example images are reduced to this side, at which names burned into a radiograph cannot be read."""


def write_page(
    template: str, contents: dict[str, Any], examples: tuple[NDArray[np.uint8], Sequence[str]], out: Path
) -> Path:
    """Render a template to the file `out`. The same input gives the same bytes.

    Args:
        template: file name in the folder of templates.
        contents: what the template shows, by name; `examples` and `example_size` are added.
        examples: (m, s, s) or, in colour, (m, 3, s, s) uint8 images, m may be 0, and m captions.
        out: the HTML file to write, which is returned.

    Raises:
        ValueError: the number of captions is not that of the images.
    """
    images, captions = examples
    if len(images) != len(captions):
        raise ValueError(f"every example image needs a caption; got {len(images)} images, {len(captions)} captions")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "score": _format_score,
        "signed": signed,
        "thousands": thousands,
        "p": _format_p_value,
        "points": _format_points,
        "breakable": _breakable,
        "plain": lambda name: name.replace("_", " "),
    }
    side = images.shape[-1]
    reduced = f", reduced to {EXAMPLE_PIXELS} for this page" if side > EXAMPLE_PIXELS else ""
    page = templates.get_template(template).render(
        **contents,
        examples=[(png_data_uri(_reduced(image)), caption) for image, caption in zip(images, captions, strict=True)],
        example_size=f"{side} × {side} pixels{reduced}",
    )
    write_atomically(out, escape_unprintable(page).encode())
    return out


def without_pictures(page: str) -> str:
    """Return the page that `write_page` wrote, with a word in the place of each example image.

    Nothing of an image is to be where others may read the runs.
    """
    return re.sub(
        r'<img src="data:[^>]*>', '<span class="none">picture: only in the report beside results.json</span>', page
    )


def example_images(store: Store, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[str]]:
    """Choose example images among `rows`: one without any finding, and one of each label in turn.

    Returns:
        The images, (m, s, s) uint8 with m at most `MAX_EXAMPLES`, and a caption for each: its findings.
    """
    targets = store.targets[rows]
    wanted = [np.flatnonzero(targets[:, label] == 1)[:1] for label in range(len(store.labels))]
    wanted.insert(0, np.flatnonzero((targets == 1).sum(axis=1) == 0)[:1])
    chosen = rows[np.unique(np.concatenate(wanted))[:MAX_EXAMPLES]]
    captions = [", ".join(np.array(store.labels)[store.targets[row] == 1]) or "no finding" for row in chosen]
    return store.pixels[chosen], captions


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image, (s, s) or (3, s, s) uint8, as a data URI, an address that contains the image itself."""
    if pixels.dtype != np.uint8 or pixels.shape[:-2] not in ((), (3,)):
        raise ValueError(f"an example must be (s, s) or (3, s, s) uint8; got {pixels.shape} {pixels.dtype}")
    buffer = io.BytesIO()
    channels_last = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    Image.fromarray(channels_last).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def thousands(number: int | float | None) -> str:
    """Format a number as '22,433', with a dash for None."""
    return "–" if number is None else f"{number:,.0f}"


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.shape[-1] <= EXAMPLE_PIXELS:
        return image
    if image.ndim == 3:
        return np.stack([_reduced(channel) for channel in image])
    return cv2.resize(image, (EXAMPLE_PIXELS, EXAMPLE_PIXELS), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _format_score(score: ScoreRecord) -> Markup:
    """Format as '0.842 0.810–0.870', or a dash whose tooltip gives the reason (which the page also prints)."""
    if score.value is None:
        return Markup('<span class="none" title="{}">–</span>').format(score.reason or "")
    value = Markup("<b>{}</b>").format(f"{score.value:.3f}")
    if score.lo is None or score.hi is None:
        return Markup('<span title="{}">{}</span>').format(score.reason or "", value)
    return value + Markup(' <span class="interval">{}</span>').format(f"{score.lo:.3f}–{score.hi:.3f}")


def _breakable(name: str) -> Markup:
    """Let a browser break a name after an opening bracket, an underscore, a comma or an equals sign."""
    return Markup(re.sub(r"([(_,=])", r"\1<wbr>", str(escape(name))))


def _format_points(comparison: ComparisonRecord) -> str:
    """Format the differences of single pairs of networks as '+0.011 −0.002 +0.004'; of many, their range."""
    deltas = [seed.delta for seed in comparison.by_seed]
    if len(deltas) > MAX_POINTS:
        return f"{len(deltas)} pairs: {signed(min(deltas))} to {signed(max(deltas))}"
    return " ".join(map(signed, deltas)) or "–"


def _format_p_value(p: float | None) -> str:
    """Format with two digits; below what the normal distribution's tail can represent, only a bound."""
    if p is None:
        return "–"
    return "< 1e-15" if p < 1e-15 else f"{p:.2g}"
