"""The operations that a policy draws from: their names, their ranges, and the lists of papers and libraries.

An operation has a level in [0, 1], from which its magnitude follows: low + level (high - low), with a random sign if
it is signed. Magnitude 0 changes nothing, except for `posterize` and `solarize`. Lengths are shares of the image's
side, so that a level means the same at every size.

| operation | magnitude |
|---|---|
| rotate | angle in degrees |
| shear_x, shear_y | shift of the farthest row or column, about the upper left corner, as a share of the side |
| translate_x, translate_y | shift, as a share of the side |
| scale | change of size, as a share |
| crop | largest shift along each axis after reflect padding, as a share of the side; whole pixels, drawn uniformly |
| brightness, color, contrast, sharpness | change of Pillow's factor from 1: -0.9 is the factor 0.1 |
| cutout | side of a square that the image's mean fills, at a random place, as a share of the side |
| posterize | bits that are kept, rounded, at least 1: Pillow refuses 0 |
| solarize | grey value from which values are inverted |
| mixup | share of the image itself; the rest is another training image |
| identity, auto_contrast, equalize, invert, horizontal_flip, vertical_flip | none |

Sources: Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data Augmentation (ICML
2020, arXiv:2005.00695), section 4 and the authors' code, for 32 px; Cubuk et al.: RandAugment (arXiv:1909.13719) and
Müller, Hutter: TrivialAugment (arXiv:2103.10158), as torchvision implements them, the latter for 224 px.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from models.errors import unknown_name
from models.settings import Settings

OperationName = Literal[
    "identity",
    "auto_contrast",
    "equalize",
    "invert",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "cutout",
    "mixup",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "scale",
    "crop",
    "horizontal_flip",
    "vertical_flip",
]
NAMES: tuple[OperationName, ...] = get_args(OperationName)

LIMITS: Mapping[str, tuple[float, float]] = {
    "rotate": (-180, 180),
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-1, 1)),
    "scale": (-0.9, 9),
    "crop": (0, 0.5),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (-1, 9)),
    "cutout": (0, 1),
    "posterize": (0, 8),
    "solarize": (0, 256),
    "mixup": (0, 1),
}
"""The least and the greatest magnitude of each operation that has one."""


class Operation(Settings):
    """An operation with the magnitudes at its lowest and its highest level."""

    name: OperationName = Field(description="of the operation")
    low: float = Field(0.0, ge=-1000, le=1000, description="magnitude at level 0")
    high: float = Field(0.0, ge=-1000, le=1000, description="magnitude at level 1")
    signed: bool = Field(False, description="whether the magnitude gets a random sign")

    @model_validator(mode="after")
    def _magnitudes_are_possible(self) -> Self:
        least, most = LIMITS.get(self.name, (0.0, 0.0))
        for value in self._reached:
            if not least <= value <= most:
                allowed = f"lie in {least:g} to {most:g}" if most > least else "be left out: it has none"
                raise ValueError(f"the magnitude of {self.name} must {allowed}; got {value:g}")
        return self

    def __str__(self) -> str:
        """Return the name, with the magnitudes if they are not those of the first list that has the operation."""
        if self == Operation.model_validate(_default_of(self.name)):
            return self.name
        return f"{self.name} {'±' * self.signed}{self.low:g} to {self.high:g}"

    @property
    def magnitudes(self) -> tuple[float, float]:
        """The least and the greatest magnitude, sign included."""
        return min(self._reached), max(self._reached)

    @property
    def _reached(self) -> tuple[float, ...]:
        return (self.low, self.high, *((-self.low, -self.high) if self.signed else ()))


def _operations(*entries: tuple[OperationName, float, float, bool] | OperationName) -> tuple[Operation, ...]:
    return tuple(
        Operation(name=entry)
        if isinstance(entry, str)
        else Operation(name=entry[0], low=entry[1], high=entry[2], signed=entry[3])
        for entry in entries
    )


def _torchvision(blend: float, shear: float, translate: float, rotate: float, bits: float) -> tuple[Operation, ...]:
    """Return the operations that RandAugment and TrivialAugment have in common, with the magnitudes at level 1."""
    return _operations(
        "identity",
        ("shear_x", 0, shear, True),
        ("shear_y", 0, shear, True),
        ("translate_x", 0, translate, True),
        ("translate_y", 0, translate, True),
        ("rotate", 0, rotate, True),
        ("brightness", 0, blend, True),
        ("color", 0, blend, True),
        ("contrast", 0, blend, True),
        ("sharpness", 0, blend, True),
        ("posterize", 8, bits, False),
        ("solarize", 255, 0, False),
        "auto_contrast",
        "equalize",
    )


ListName = Literal["radiograph", "paper", "randaugment", "trivialaugment"]

LISTS: Mapping[str, tuple[Operation, ...]] = {
    "radiograph": _operations(
        ("rotate", 0, 10, True),
        ("translate_x", 0, 0.05, True),
        ("translate_y", 0, 0.05, True),
        ("scale", 0, 0.05, True),
        ("shear_x", 0, 0.1, True),
        ("shear_y", 0, 0.1, True),
        ("brightness", 0, 0.2, True),
        ("contrast", 0, 0.2, True),
        ("sharpness", 0, 0.5, True),
        "auto_contrast",
        "equalize",
        ("cutout", 0, 0.2, False),
    ),
    "paper": _operations(
        "auto_contrast",
        "equalize",
        "invert",
        ("brightness", -0.9, 0.9, False),
        ("color", -0.9, 0.9, False),
        ("contrast", -0.9, 0.9, False),
        ("sharpness", -0.9, 0.9, False),
        ("cutout", 0, 0.5, False),
        ("posterize", 0, 4, False),
        ("rotate", 0, 30, True),
        ("shear_x", 0, 0.3, True),
        ("shear_y", 0, 0.3, True),
        ("solarize", 0, 256, False),
        ("translate_x", 0, 10 / 32, True),
        ("translate_y", 0, 10 / 32, True),
        ("mixup", 0, 1, False),
    ),
    "randaugment": _torchvision(blend=0.9, shear=0.3, translate=150 / 331, rotate=30, bits=4),
    "trivialaugment": _torchvision(blend=0.99, shear=0.99, translate=32 / 224, rotate=135, bits=2),
}
"""Lists by name: operations that keep what a radiograph shows (see `models.augmentation.label_keeping`); the paper's
sixteen; and torchvision's."""


def _parse(given: Any) -> Any:
    """Accept a list's name, or a list of operations by name or with magnitudes."""
    if isinstance(given, str):
        if given not in LISTS:
            raise ValueError(unknown_name("list of operations", given, LISTS))
        return given
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"operations must be one of {', '.join(LISTS)}, or a list of operations; got {given!r}")
    return tuple(_parse_operation(entry) for entry in given)


def _parse_operation(given: Any) -> Any:
    name = given if isinstance(given, str) else given.get("name") if isinstance(given, Mapping) else None
    if isinstance(given, Operation) or name is None:
        return given
    if name not in NAMES:
        raise ValueError(unknown_name("operation", str(name), NAMES))
    return {**_default_of(str(name)), **(given if isinstance(given, Mapping) else {})}


def _default_of(name: str) -> dict[str, Any]:
    """Return an operation as the first list has it, or without magnitudes."""
    listed = (each.model_dump() for of_list in LISTS.values() for each in of_list if each.name == name)
    return next(listed, {"name": name})


Operations = Annotated[
    Annotated[ListName, Tag("name")] | Annotated[tuple[Operation, ...], Field(max_length=100), Tag("list")],
    Discriminator(lambda given: "name" if isinstance(given, str) else "list"),
    BeforeValidator(_parse),
]
"""A list's name, or operations. What is not given of an operation is taken from the first list that has it."""


def operations_of(given: ListName | tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Return the operations of a list's name, or those given."""
    return LISTS[given] if isinstance(given, str) else given
