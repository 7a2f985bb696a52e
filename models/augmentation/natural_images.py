"""The augmentation policies with defaults for natural images, such as CIFAR's, instead of radiographs.

They are the policies of `models.augmentation.policies`, with the paper's list of operations (torchvision's for its own
two policies), and for `simple` a crop and a flip.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from models.augmentation.operations import Operations
from models.augmentation.policies import (
    ComposedPolicy,
    ComputeMatchedPolicy,
    JitterPolicy,
    NoPolicy,
    RandAugmentPolicy,
    SimplePolicy,
    TrivialAugmentPolicy,
    UncertaintyPolicy,
)


def _inherited(policy: type[BaseModel], name: str, default: Any) -> Any:
    """Return a policy's field with another default."""
    return Field(default, description=policy.model_fields[name].description)


class NaturalSimplePolicy(SimplePolicy):
    """See the base class."""

    images: Literal["radiograph", "natural"] = _inherited(SimplePolicy, "images", "natural")


class NaturalRandAugmentPolicy(RandAugmentPolicy):
    """See the base class."""

    operations: Operations = _inherited(RandAugmentPolicy, "operations", "randaugment")


class NaturalTrivialAugmentPolicy(TrivialAugmentPolicy):
    """See the base class."""

    operations: Operations = _inherited(TrivialAugmentPolicy, "operations", "trivialaugment")


class NaturalComposedPolicy(ComposedPolicy):
    """See the base class."""

    operations: Operations = _inherited(ComposedPolicy, "operations", "paper")


class NaturalUncertaintyPolicy(UncertaintyPolicy):
    """See the base class."""

    operations: Operations = _inherited(UncertaintyPolicy, "operations", "paper")


class NaturalComputeMatchedPolicy(ComputeMatchedPolicy):
    """See the base class."""

    of: Annotated[
        NoPolicy
        | NaturalSimplePolicy
        | JitterPolicy
        | NaturalRandAugmentPolicy
        | NaturalTrivialAugmentPolicy
        | NaturalComposedPolicy,
        Field(discriminator="kind"),
    ] = _inherited(ComputeMatchedPolicy, "of", NaturalComposedPolicy())


NaturalPolicySettings = Annotated[
    NoPolicy
    | NaturalSimplePolicy
    | JitterPolicy
    | NaturalRandAugmentPolicy
    | NaturalTrivialAugmentPolicy
    | NaturalComposedPolicy
    | NaturalUncertaintyPolicy
    | NaturalComputeMatchedPolicy,
    Field(discriminator="kind"),
]
