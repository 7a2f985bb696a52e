"""Pages for people: one file that needs nothing beside it, every text from outside escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from data_prep.store.store import Store
from tasks.records.study import ScoreRecord
from tasks.records.summary_text import signed
from tasks.reporting.figures import png_data_uri
from tasks.runtime.atomic_files import write_atomically

PICTURES = 12
PICTURE_PIXELS = 96
"""Larger images are reduced to this side: names that were burned into a radiograph cannot be read at it."""


def write_page(
    template: str, contents: dict[str, Any], pictures: tuple[NDArray[np.uint8], Sequence[str]], out: Path
) -> Path:
    """Write the page that the template gives to the file `out` and return it.

    pictures: (m, s, s) uint8, m may be 0, and m captions. The same input gives the same bytes.
    """
    images, captions = pictures
    if len(images) != len(captions):
        raise ValueError(f"every picture needs a caption; got {len(images)} pictures, {len(captions)} captions")
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"score": _score, "signed": signed, "thousands": thousands, "p": _p_value, "plain": _plain}
    page = environment.get_template(template).render(
        **contents,
        examples=[(png_data_uri(_reduced(image)), caption) for image, caption in zip(images, captions, strict=True)],
        picture_note=_note(images),
    )
    write_atomically(out, page.encode())
    return out


def example_images(store: Store, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[str]]:
    """Images among `rows`, (m, s, s) uint8, with their findings: one of each label in turn, and one without any."""
    targets = store.targets[rows]
    wanted = [np.flatnonzero(targets[:, label] == 1)[:1] for label in range(len(store.labels))]
    wanted.insert(0, np.flatnonzero((targets == 1).sum(axis=1) == 0)[:1])
    chosen = rows[np.unique(np.concatenate(wanted))[:PICTURES]]
    titles = [", ".join(np.array(store.labels)[store.targets[row] == 1]) or "no finding" for row in chosen]
    return store.pixels[chosen], titles


def thousands(number: int | float | None) -> str:
    """'22,433', with a dash for what is not known."""
    return "–" if number is None else f"{number:,.0f}"


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(image) <= PICTURE_PIXELS:
        return image
    return cv2.resize(image, (PICTURE_PIXELS, PICTURE_PIXELS), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _note(images: NDArray[np.uint8]) -> str:
    side = images.shape[-1]
    reduced = f", reduced to {PICTURE_PIXELS} for this page" if side > PICTURE_PIXELS else ""
    return f"{side} × {side} pixels{reduced}"


def _score(score: ScoreRecord) -> Markup:
    """'0.842 (0.81–0.87)', or a dash that says why on being pointed at (the reason is also written out
    below).
    """
    if score.value is None:
        return Markup('<span class="none" title="{}">–</span>').format(score.reason or "")
    value = Markup("<b>{}</b>").format(f"{score.value:.3f}")
    if score.lo is None or score.hi is None:
        return value
    return value + Markup(' <span class="interval">{}</span>').format(f"{score.lo:.3f}–{score.hi:.3f}")


def _p_value(p: float | None) -> str:
    """Two digits; below what the normal distribution's tail can carry, only a bound."""
    if p is None:
        return "–"
    return "< 1e-15" if p < 1e-15 else f"{p:.2g}"


def _plain(name: str) -> str:
    """A label as it is written in a sentence."""
    return name.replace("_", " ")
