"""The map of help and harm: where a label-invariant transform lowers the risk of ridge regression, and where not.

The cells vary the ridge, the noise and how much of beta the new row points to. In each, the fall of the risk by direct
algebra is compared with the condition of `models.theory.label_invariant`, which is exact for the kept penalty. For the
rescaled one it is not: that penalty shrinks the samples' own directions too, which lowers their variance.

Shapes: n samples, p dimensions.
"""

from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from models.settings import Settings
from models.theory.augmented_ridge import (
    CONVENTIONS,
    draw_design,
    exact_risk,
    require_unseen_directions,
    ridge_penalty,
)
from models.theory.label_invariant import AddedRows, RelativeRidge, orthogonalise, transform_helps
from models.theory.linear_tasks import Floats, stream


class AugmentationMapSettings(Settings):
    """Settings of the map of help and harm; each ridge with each noise and each projection."""

    dimensions: int = Field(60, ge=4, le=2000, description="p, at least samples + 2")
    samples: int = Field(30, ge=1, le=1998, description="n")
    relative_ridges: tuple[RelativeRidge, ...] = Field(
        (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0), min_length=1, max_length=100, description="lambda n / ||z||^2"
    )
    noises: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (0.03, 0.1, 0.3, 1.0, 3.0), min_length=1, max_length=100, description="sigma, where ||beta|| = 1"
    )
    projections: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.001, 0.01, 0.1, 0.5),
        min_length=1,
        max_length=100,
        description="squared cosine between the new direction z and the part of beta that the samples do not see",
    )

    @model_validator(mode="after")
    def _is_over_parametrised(self) -> Self:
        require_unseen_directions(self.dimensions, self.samples, 2)
        return self


def help_and_harm(settings: AugmentationMapSettings, seed: int) -> list[dict[str, Any]]:
    """Compute the fall of the risk in each cell of the map, in one random design.

    Returns:
        One row per cell and convention: 'relative_ridge', 'noise', 'projection', 'convention'; 'change', the risk with
        the new row relative to plain ridge, minus 1 (negative where it helps); 'fall', the absolute fall of the risk
        by direct algebra; 'predicted', whether the condition for the kept penalty says that it helps; 'helps',
        whether it does.
    """
    n = settings.samples
    generator = stream(seed, "map of help and harm")
    inputs, beta = draw_design(generator, settings.dimensions, n)
    directions = generator.standard_normal((2, settings.dimensions))
    rows = []
    for projection in settings.projections:
        added = _row_with_projection(inputs, beta, directions, projection)
        square = float((added.rows**2).sum())
        for relative in settings.relative_ridges:
            before = relative * square
            for noise in settings.noises:
                cell = {"relative_ridge": relative, "noise": noise, "projection": projection}
                plain = exact_risk(inputs, np.eye(n), beta, noise, before).total
                predicted = transform_helps(added, beta, noise, before)
                for convention in CONVENTIONS:
                    after = ridge_penalty(convention, before / n, n, n + 1)
                    fall = plain - exact_risk(*added.after(inputs), beta, noise, after).total
                    found = {"change": -fall / plain, "fall": fall, "predicted": predicted, "helps": fall > 0}
                    rows.append(cell | {"convention": convention} | found)
    return rows


def _row_with_projection(inputs: Floats, beta: Floats, directions: Floats, projection: float) -> AddedRows:
    """Make the row of a linear transform F of the first sample, one that keeps its label, with a given projection.

    The new direction z is as long as that of a random row of the inputs' distribution would be. The part of F x in the
    samples' span is a random one, moved along the part of beta there until <F x, beta> = <x, beta>; F may be
    I + (F x - x) x^T / ||x||^2.

    Args:
        inputs: X, (n, p).
        beta: (p,).
        directions: two random ones, (2, p), of the parts inside and outside the samples' span.
        projection: squared cosine between z and the part of beta outside the span.
    """
    seen, inside, outside = (inputs.T @ np.linalg.lstsq(inputs.T, each)[0] for each in (beta, *directions))
    unseen, outside = _unit(beta - seen), directions[1] - outside
    outside = _unit(outside - (outside @ unseen) * unseen)
    share = len(inputs) / len(beta)
    z = np.sqrt(1 - share) * (np.sqrt(projection) * unseen + np.sqrt(1 - projection) * outside)
    row = z + np.sqrt(share) * _unit(inside)
    row += (inputs[0] - row) @ beta / (seen @ seen) * seen
    return orthogonalise(inputs, row[None], [0])


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
