"""What docs/architecture.md says of the code is true: its files are there, and its examples run."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"\b(?:flows|tasks|models|data_prep|tests|benchmarks)/[\w/]+(?:\.py)?\b", PAGE))
    made_by_the_reader = {"models/weighting/halved.py", "data_prep/noise/positive.py"}
    assert len(named) > 30
    assert {name for name in named - made_by_the_reader if not (ROOT / name).exists()} == set()


def example(heading: str) -> dict[str, Any]:
    """Run the code under a heading, as a module of its own."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("        ") or not line.strip()]
    names: dict[str, Any] = {"__name__": "example"}
    exec(textwrap.dedent("\n".join(lines)), names)
    return names


def test_the_weighting_of_the_page_weights_the_tasks() -> None:
    names = example("Add a weighting")
    rule = names["Halved"](names["HalvedSettings"](), 3)
    assert rule.weights().tolist() == pytest.approx([0.6, 1.2, 1.2])
    assert rule.settings.name == "halved"


def test_the_noise_of_the_page_makes_the_selected_labels_positive() -> None:
    names = example("Add a noise model")
    targets = np.zeros((40, 2), np.int8)
    selected, noisy = names["PositiveNoise"](rate=0.25, labels=("Mass",)).draw(targets, ("Mass", "Hernia"), seed=0)
    assert selected.sum(axis=0).tolist() == [10, 0]
    assert (noisy == selected).all()
