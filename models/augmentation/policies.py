"""Augmentation policies: how the images of a training are changed at random, and which of several changes are trained.

A policy is a row of slots. A slot holds operations, of which one is drawn for each image, and the probability that it
is applied. All policies are of this form, so one function draws them and one applies them (`models.augmentation.draws`,
`models.augmentation.augment`).

Sources: Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data Augmentation (ICML
2020, arXiv:2005.00695), section 4 and Algorithm 1, for `composed` and `uncertainty`; Cubuk et al.: RandAugment
(arXiv:1909.13719); Müller, Hutter: TrivialAugment (arXiv:2103.10158).
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from models.augmentation.candidates import CandidateSettings, check_selected
from models.augmentation.operations import (
    Operation,
    OperationName,
    Operations,
    operations_of,
)
from models.settings import KindSettings

BINS = 31
"""Levels of RandAugment and TrivialAugment: 0 to 30, as in torchvision."""

Interpolation = Literal["nearest", "bilinear"]
Outside = Literal["border", "black"]


class Slot(NamedTuple):
    """One place in a policy's row of operations.

    Attributes:
        operations: of which one is drawn for each image, all with the same probability.
        probability: that it is applied.
        level: of the operation, in [0, 1]; None: drawn uniformly for each image.
        bins: number of levels of a drawn level; None: any number in [0, 1).
    """

    operations: tuple[Operation, ...]
    probability: float = 1.0
    level: float | None = None
    bins: int | None = None


class BasePolicy(KindSettings):
    """The base class of all policies. A subclass adds a field `kind`, which identifies it."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The operations in the order in which they are applied."""
        return ()

    @property
    def sampling(self) -> tuple[Interpolation, Outside]:
        """How positions between pixels, and outside the image, get a grey value."""
        return "bilinear", "border"

    @property
    def mixes(self) -> bool:
        """Whether images, and with them their targets, are mixed."""
        return any(operation.name == "mixup" for slot in self.slots for operation in slot.operations)

    @property
    def allowed(self) -> tuple[OperationName, ...]:
        """Operations that change what a radiograph shows and are wanted all the same."""
        return ()

    @property
    def trained(self) -> int:
        """The number of candidates of each image that a step trains on, S."""
        return 1

    @property
    def cost(self) -> float:
        """The computing of a training, as a multiple of one that trains once on each image and scores nothing.

        A forward pass counts as a third of a step; augmentation does not count. See `UncertaintyPolicy`.
        """
        return 1.0

    def epochs(self, epochs: int) -> int:
        """Return the epochs of a training that has `epochs` without this policy."""
        return epochs


class NoPolicy(BasePolicy):
    """No augmentation."""

    kind: Literal["none"] = "none"


NO_POLICY = NoPolicy()


class JitterPolicy(BasePolicy):
    """A random flip, rotation, shift, change of size, brightness and contrast, all of them in every image."""

    kind: Literal["jitter"] = "jitter"
    flip: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of a left-right flip (common, although it puts the heart on the wrong side)",
    )
    rotation: float = Field(0.0, ge=0, le=180, description="largest rotation in either direction, in degrees")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift along each axis, as a share of the image's side")
    scale: float = Field(0.0, ge=0, le=0.9, description="largest change of size in either direction, as a share")
    brightness: float = Field(
        0.0, ge=0, le=1, description="largest change of brightness in either direction, as a share of the image's own"
    )
    contrast: float = Field(
        0.0, ge=0, le=1, description="largest change of contrast in either direction, as a share of the image's own"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class."""
        amounts: tuple[tuple[OperationName, float], ...] = (
            ("rotate", self.rotation),
            ("scale", self.scale),
            ("translate_x", self.shift),
            ("translate_y", self.shift),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
        )
        flips = (Slot((Operation(name="horizontal_flip"),), self.flip),) if self.flip else ()
        return flips + tuple(
            Slot((Operation(name=name, high=amount, signed=True),)) for name, amount in amounts if amount
        )


class SimplePolicy(BasePolicy):
    """The usual mild augmentation: of radiographs a small rotation, shift and change of size; else crop and flip."""

    kind: Literal["simple"] = "simple"
    images: Literal["radiograph", "natural"] = Field(
        "radiograph",
        description="radiograph: rotation up to 10 degrees, shift and change of size up to 5 %; natural: a random crop "
        "after reflect padding by an eighth of the side, and a left-right flip of every second image",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class."""
        if self.images == "natural":
            return CROP_AND_FLIP
        return JitterPolicy(rotation=10, shift=0.05, scale=0.05).slots


class _ListPolicy(BasePolicy):
    """The base class of policies that draw from a list."""

    operations: Operations = Field(
        "radiograph",
        description="radiograph: operations that keep what a radiograph shows; paper: the sixteen of the paper; "
        "randaugment, trivialaugment: torchvision's; or a list: names, or {name, low, high, signed}",
    )
    allow: tuple[OperationName, ...] = Field(
        (),
        max_length=100,
        description="operations of the list that change what a radiograph shows and are wanted all the same",
    )
    interpolation: Interpolation = Field("bilinear", description="grey values between pixels: bilinear or nearest")
    outside: Outside = Field(
        "border", description="what comes in from outside the image: its border repeated, or black"
    )

    @property
    def sampling(self) -> tuple[Interpolation, Outside]:
        """See the base class."""
        return self.interpolation, self.outside

    @property
    def allowed(self) -> tuple[OperationName, ...]:
        """See the base class."""
        return self.allow

    @property
    def drawn(self) -> tuple[Operation, ...]:
        """The operations of the list."""
        return operations_of(self.operations)


class RandAugmentPolicy(_ListPolicy):
    """RandAugment, by torchvision's rule: a few operations in a row, all at the same level."""

    kind: Literal["randaugment"] = "randaugment"
    length: int = Field(2, ge=1, le=16, description="operations in a row")
    level: int = Field(9, ge=0, le=BINS - 1, description="level of every operation, 0 to 30")

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class."""
        return self.length * (Slot(self.drawn, level=self.level / (BINS - 1)),)


class TrivialAugmentPolicy(_ListPolicy):
    """TrivialAugment, by torchvision's rule: one operation at a random level."""

    kind: Literal["trivialaugment"] = "trivialaugment"

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class."""
        return (Slot(self.drawn, bins=BINS),)


class _CompositionPolicy(_ListPolicy):
    """Operations in a row, each at a random level, then default operations (section 4 of the paper)."""

    length: int = Field(
        2,
        ge=1,
        le=16,
        description="operations in a row, L; each is left out with probability one half, as in the paper",
    )
    then: Literal["nothing", "crop_and_flip", "paper"] = Field(
        "nothing",
        description="default operations after those of the list: nothing; a crop and a left-right flip; or the paper's "
        "for CIFAR, which add cutout of up to half the side, and mixup of every second image",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class; a probability that is uniform in [0, 1] is one half in all."""
        defaults = {"nothing": (), "crop_and_flip": CROP_AND_FLIP, "paper": PAPER_DEFAULTS}[self.then]
        return self.length * (Slot(self.drawn, 0.5),) + defaults


class ComposedPolicy(_CompositionPolicy):
    """Random compositions without selection: `uncertainty` with one candidate, its baseline."""

    kind: Literal["composed"] = "composed"


UnselectedPolicy = NoPolicy | SimplePolicy | JitterPolicy | RandAugmentPolicy | TrivialAugmentPolicy | ComposedPolicy
"""The policies that train on whatever candidate they draw."""


class UncertaintyPolicy(CandidateSettings, _CompositionPolicy):
    """Uncertainty-based sampling (Algorithm 1): of several random compositions of each image, train on the worst.

    Short trainings are hurt by it, far more with wrong labels: docs/augmentation.md.
    """

    kind: Literal["uncertainty"] = "uncertainty"
    score: Literal["cross_entropy", "kl_divergence"] = Field(
        "cross_entropy",
        description="score of a candidate: its cross-entropy; or its Kullback-Leibler divergence, which is the "
        "cross-entropy less the entropy of the label: that of a mixed label cannot be learnt away",
    )
    task_weights: Literal["uniform", "current"] = Field(
        "uniform",
        description="weights of the tasks in the score: all alike, or those of the method after the last epoch",
    )

    @property
    def trained(self) -> int:
        """See the base class."""
        return self.selected

    @property
    def cost(self) -> float:
        """See the base class: (1 - w) C / 3 + S for a warm-up w, in which S candidates train and none is scored.

        Just S if all candidates are selected, because none is scored then.
        """
        return (1 - self.warmup) * _scoring_cost(self.candidates, self.selected) + self.selected


class ComputeMatchedPolicy(BasePolicy):
    """A policy without selection, trained for as many more epochs as uncertainty-based sampling costs.

    Sampling S of C candidates without a warm-up multiplies the computing, and so the epochs here, by C / 3 + S: see
    `UncertaintyPolicy.cost`.
    """

    kind: Literal["compute_matched"] = "compute_matched"
    of: UnselectedPolicy = Field(
        ComposedPolicy(), discriminator="kind", description="the policy that is trained for longer"
    )
    candidates: int = Field(4, ge=1, le=64, description="candidates of each image whose cost is matched, C")
    selected: int = Field(1, ge=1, le=64, description="selected candidates whose cost is matched, S")

    @model_validator(mode="after")
    def _enough_candidates(self) -> Self:
        check_selected(self.candidates, self.selected)
        return self

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See the base class."""
        return self.of.slots

    @property
    def sampling(self) -> tuple[Interpolation, Outside]:
        """See the base class."""
        return self.of.sampling

    @property
    def allowed(self) -> tuple[OperationName, ...]:
        """See the base class."""
        return self.of.allowed

    @property
    def cost(self) -> float:
        """See the base class."""
        return _scoring_cost(self.candidates, self.selected) + self.selected

    def epochs(self, epochs: int) -> int:
        """See the base class."""
        return round(epochs * self.cost)


def _scoring_cost(candidates: int, selected: int) -> float:
    return candidates / 3 if selected < candidates else 0.0


CROP_AND_FLIP = (
    Slot((Operation(name="crop", low=1 / 8, high=1 / 8),)),
    Slot((Operation(name="horizontal_flip"),), 0.5),
)
"""The default operations for natural images: for 32 px, reflect padding by 4."""

PAPER_DEFAULTS = (
    *CROP_AND_FLIP,
    Slot((Operation(name="cutout", high=0.5),)),
    Slot((Operation(name="mixup", high=1),), 0.5),
)
"""The authors' default operations on CIFAR."""

PolicySettings = Annotated[
    UnselectedPolicy | UncertaintyPolicy | ComputeMatchedPolicy,
    Field(discriminator="kind"),
]
