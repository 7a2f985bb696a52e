"""The map of help and harm: where a label-invariant transform lowers the risk of ridge regression, and where not.

The cells vary the ridge, the noise and the projection of the new row on beta. In each, the fall of the risk by direct
algebra is compared with the condition of `models.theory.label_invariant`.
"""

from typing import Any

from pydantic import Field

from models.settings import Settings


class AugmentationMapSettings(Settings):
    """Settings of the map of help and harm; each ridge with each noise and each projection."""

    dimensions: int = Field(60, ge=3, le=2000, description="p, more than the samples")
    samples: int = Field(30, ge=1, le=1999, description="n")
    relative_ridges: tuple[float, ...] = Field(
        (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0), min_length=1, max_length=100, description="lambda n / ||z||^2"
    )
    noises: tuple[float, ...] = Field(
        (0.03, 0.1, 0.3, 1.0, 3.0), min_length=1, max_length=100, description="sigma, where ||beta|| = 1"
    )
    projections: tuple[float, ...] = Field(
        (0.001, 0.01, 0.1, 0.5),
        min_length=1,
        max_length=100,
        description="squared cosine between the new direction z and the part of beta that the samples do not see",
    )


def help_and_harm(settings: AugmentationMapSettings, seed: int) -> list[dict[str, Any]]:
    """Compute the fall of the risk in each cell of the map, in one random design.

    Returns:
        One row per cell and convention: 'relative_ridge', 'noise', 'projection', 'convention'; 'change', the risk with
        the new row relative to plain ridge, minus 1 (negative where it helps); 'fall', the absolute fall of the risk
        by direct algebra; 'predicted', whether the condition for the kept penalty says that it helps; 'helps',
        whether it does.
    """
    raise NotImplementedError
