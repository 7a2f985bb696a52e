"""Compositions of transforms that keep the labels, in ridge regression: each new direction adds its part.

Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695), section 3.3. F_1 x, F_2 F_1 x, ... are added one after the other,
each orthogonalised against the samples and the rows added before: z_1, z_2, ... The bias falls by

    sum_k <z_k,beta>^2 / ||z_k||^2      for penalties t far below every ||z_k||^2
    2 sum_k <z_k,beta>^2 / t            for penalties far above

A reflection, whose square is the identity, gives a second row without a new direction: z_2 = 0.
"""

from typing import Any

from pydantic import Field

from models.settings import Settings


class CompositionSettings(Settings):
    """Settings of compositions of label-invariant transforms."""

    dimensions: int = Field(100, ge=4, le=2000, description="p, more than samples and transforms together")
    samples: int = Field(30, ge=1, le=1999, description="n")
    transforms: int = Field(4, ge=1, le=100, description="transforms in the longest composition")
    small: float = Field(1e-6, gt=0, le=1, description="small penalty, relative to the smallest ||z_k||^2")
    large: float = Field(1e6, ge=1, le=1e9, description="large penalty, relative to the largest squared singular value")


def composition(settings: CompositionSettings, seed: int) -> dict[str, Any]:
    """Compare the fall of the bias, by direct algebra, with the sums over sequential projections.

    The penalty is the same before and after.

    Returns:
        'rows', for 1, 2, ... transforms: 'transforms'; 'fall' and 'sum' for the small penalty, 'off', their relative
        difference; 'large_fall', 'large_sum' and 'large_off' for the large one. 'reflection': 'first', the fall of the
        bias by a reflected sample (small penalty); 'second', the further fall when the reflection is applied again;
        'rotation_second', the same for a rotation applied twice; 'length', ||z_2|| / ||x|| of the reflection.
    """
    raise NotImplementedError
