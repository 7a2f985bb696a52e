"""The computations of the theory of data augmentation: one per statement of the paper.

Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data Augmentation (ICML 2020,
arXiv:2005.00695).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import Field

from models.theory.augmentation_map import AugmentationMapSettings, help_and_harm
from models.theory.augmentation_order import OrderSettings, effect_order
from models.theory.composition import CompositionSettings, composition
from models.theory.digit_ridge import DigitSettings, compare_on_digits
from models.theory.label_invariant import (
    ClosedFormSettings,
    LeadingOrderSettings,
    SimulationSettings,
    compare_with_algebra,
    compare_with_simulation,
    leading_order,
)
from models.theory.label_mixing import MixupSettings, mixup
from tasks.runtime.settings import Settings
from tasks.theory.digits import Digits
from tasks.theory.parts import Computation


class AugmentationSettings(Settings):
    """Settings of the computations of the theory of data augmentation."""

    closed_form: ClosedFormSettings = Field(
        ClosedFormSettings(), description="the closed form of the risk's fall against direct algebra"
    )
    simulation: SimulationSettings = Field(
        SimulationSettings(), description="the closed form of the risk's fall against simulation"
    )
    leading_order: LeadingOrderSettings = Field(
        LeadingOrderSettings(), description="the bias's exact fall against its leading orders"
    )
    composition: CompositionSettings = Field(CompositionSettings(), description="compositions of transforms")
    mixup: MixupSettings = Field(MixupSettings(), description="mixup against its equivalent ridge")
    order: OrderSettings = Field(OrderSettings(), description="the order of biases and of variances")
    map: AugmentationMapSettings = Field(AugmentationMapSettings(), description="the map of help and harm")
    digit_ridge: DigitSettings = Field(DigitSettings(), description="ridge regression on digits")


COMPUTATIONS: dict[str, tuple[str, Callable[[Any, int], Any]]] = {
    "closed form": ("closed_form", compare_with_algebra),
    "simulation": ("simulation", compare_with_simulation),
    "leading order": ("leading_order", leading_order),
    "composition": ("composition", composition),
    "mixup": ("mixup", mixup),
    "order of effects": ("order", effect_order),
    "help and harm": ("map", help_and_harm),
}
"""Computation -> the field of its settings, and its function of these and the seed.

The names are part of the stored parts' file names: do not change them.
"""

DIGITS = "digits"


def augmentation_computations(
    settings: AugmentationSettings, digits: Digits | None, seeds: range
) -> dict[str, Computation]:
    """Return the computations by name, to run for all `seeds`; the one on digits only if there are any."""
    computations = {
        name: Computation(_plain(settings, field), partial(run, getattr(settings, field)), seeds)
        for name, (field, run) in COMPUTATIONS.items()
    }
    if digits is None:
        return computations
    depends_on = _plain(settings, "digit_ridge") | {"digits": digits.fingerprint}
    run = partial(compare_on_digits, settings.digit_ridge, digits.images, digits.labels)
    return computations | {DIGITS: Computation(depends_on, run, seeds)}


def _plain(settings: AugmentationSettings, field: str) -> dict[str, Any]:
    return settings.model_dump(mode="json", include={field})
