"""Compositions of transforms that keep the labels, in ridge regression: each new direction adds its part.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3.3. F_1 x, F_2 F_1 x, ... are added one after the other,
each orthogonalised against the samples and the rows added before: z_1, z_2, ... With the same penalty t before and
after, the bias falls by

    sum_k <z_k,beta>^2 / ||z_k||^2      for penalties far below every ||z_k||^2
    2 sum_k <z_k,beta>^2 / t            for penalties far above

A reflection, whose square is the identity, gives a second row without a new direction: z_2 = 0.

Shapes: n samples, p dimensions.
"""

from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.augmented_ridge import draw_design, exact_risk, require_unseen_directions
from models.theory.label_invariant import AddedRows, orthogonalise, rotate_around
from models.theory.linear_tasks import Floats, stream


class CompositionSettings(Settings):
    """Settings of compositions of label-invariant transforms."""

    dimensions: int = Field(100, ge=4, le=2000, description="p, at least samples + transforms, and samples + 2")
    samples: int = Field(30, ge=1, le=1999, description="n")
    transforms: int = Field(4, ge=1, le=100, description="transforms in the longest composition")
    small: float = Field(1e-6, gt=0, le=1, description="small penalty, relative to the smallest ||z_k||^2")
    large: float = Field(1e5, ge=1, le=1e9, description="large penalty, relative to the largest squared singular value")

    @model_validator(mode="after")
    def _is_over_parametrised(self) -> Self:
        require_unseen_directions(self.dimensions, self.samples, max(self.transforms, 2))
        return self


def composition(settings: CompositionSettings, seed: int) -> dict[str, Any]:
    """Compare the fall of the bias, by direct algebra, with the sums over sequential projections.

    Returns:
        'rows', for 1, 2, ... transforms: 'transforms'; 'fall' and 'sum' for the small penalty, 'off', their relative
        difference; 'large_fall', 'large_sum' and 'large_off' for the large one. 'reflection': 'first', the fall of the
        bias by a reflected sample (small penalty); 'second', the further fall when the reflection is applied again;
        'rotation_second', the same for a rotation applied twice; 'length', ||z_2|| / ||x|| of the reflection.
    """
    generator = stream(seed, "composition")
    inputs, beta = draw_design(generator, settings.dimensions, settings.samples)
    composed = [inputs[0]]
    for _ in range(settings.transforms):
        composed.append(rotate_around(generator, beta, composed[-1]))
    added = orthogonalise(inputs, np.stack(composed[1:]), [0] * settings.transforms)
    squares, projections = (added.rows**2).sum(1), (added.rows @ beta) ** 2
    small = settings.small * float(squares.min())
    large = settings.large * float(np.linalg.norm(added.after(inputs)[0], 2) ** 2)
    rows = []
    for count in range(1, settings.transforms + 1):
        fall, total = _bias_fall(inputs, added, beta, count, small), float((projections / squares)[:count].sum())
        large_fall = _bias_fall(inputs, added, beta, count, large)
        large_total = 2 * float(projections[:count].sum()) / large
        at_small = {"fall": fall, "sum": total, "off": fall / total - 1}
        at_large = {"large_fall": large_fall, "large_sum": large_total, "large_off": large_fall / large_total - 1}
        rows.append({"transforms": count} | at_small | at_large)
    return {"rows": rows, "reflection": _applied_twice(generator, inputs, beta, small)}


def _two_reflections(generator: np.random.Generator, beta: Floats) -> tuple[Floats, Floats]:
    """Draw two reflections, (p, p) each, that keep beta, (p,)."""
    axes = generator.standard_normal((2, len(beta)))
    axes -= np.outer(axes @ beta, beta) / (beta @ beta)
    first, second = (np.eye(len(beta)) - 2 * np.outer(axis, axis) / (axis @ axis) for axis in axes)
    return first, second


def _applied_twice(generator: np.random.Generator, inputs: Floats, beta: Floats, penalty: float) -> dict[str, float]:
    """Reflect the first sample twice, and rotate it twice by the product of two reflections; all keep beta."""
    first, second = _two_reflections(generator, beta)
    falls = {}
    for name, transform in (("reflection", first), ("rotation", first @ second)):
        once = transform @ inputs[0]
        added = orthogonalise(inputs, np.stack([once, transform @ once]), [0, 0])
        falls[name] = [_bias_fall(inputs, added, beta, count, penalty) for count in (1, 2)]
        if name == "reflection":
            length = float(np.linalg.norm(added.rows[1]) / np.linalg.norm(inputs[0]))
    return {
        "first": falls["reflection"][0],
        "second": falls["reflection"][1] - falls["reflection"][0],
        "rotation_second": falls["rotation"][1] - falls["rotation"][0],
        "length": length,
    }


def _bias_fall(inputs: Floats, added: AddedRows, beta: Floats, count: int, penalty: float) -> float:
    """Return the fall of the bias by the first `count` of the added rows."""
    after = AddedRows(added.rows[:count], added.mixing[:count]).after(inputs)
    plain = exact_risk(inputs, np.eye(len(inputs)), beta, 0, penalty).bias
    return plain - exact_risk(*after, beta, 0, penalty).bias
