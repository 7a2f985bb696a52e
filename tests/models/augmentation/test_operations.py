"""Operations and their ranges: what may be asked for, and that the lists are those of torchvision and of the paper."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torchvision.transforms.autoaugment import RandAugment, TrivialAugmentWide

from models.augmentation.operations import LIMITS, LISTS, NAMES, Operation, Operations, operations_of

OPERATIONS: TypeAdapter = TypeAdapter(Operations)
TORCHVISION_NAMES = {
    "Identity": "identity",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "color",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "auto_contrast",
    "Equalize": "equalize",
}


def torchvision_spaces(side):
    return {
        "randaugment": RandAugment()._augmentation_space(31, (side, side)),
        "trivialaugment": TrivialAugmentWide()._augmentation_space(31),
    }


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_the_magnitudes_are_torchvisions_at_every_level(name):
    side = 224
    space = torchvision_spaces(side)[name]
    ours = {operation.name: operation for operation in LISTS[name]}
    assert sorted(ours) == sorted(TORCHVISION_NAMES[each] for each in space)
    levels = torch.arange(31, dtype=torch.float64) / 30
    for theirs, (magnitudes, signed) in space.items():
        operation = ours[TORCHVISION_NAMES[theirs]]
        found = operation.low + levels * (operation.high - operation.low)
        if theirs.startswith("Translate"):
            found = found * side
        if theirs == "Posterize":
            found = found.round()
        expected = magnitudes.double() if magnitudes.ndim else torch.zeros(31, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert operation.signed == signed


def test_the_papers_list_has_its_sixteen_operations():
    assert len(LISTS["paper"]) == 16
    assert {operation.name for operation in LISTS["paper"]} == set(TORCHVISION_NAMES.values()) - {"identity"} | {
        "invert",
        "cutout",
        "mixup",
    }


@pytest.mark.parametrize("name", LISTS)
def test_every_list_holds_valid_operations_once(name):
    names = [operation.name for operation in operations_of(name)]
    assert len(set(names)) == len(names)
    assert [Operation.model_validate(each.model_dump()) for each in LISTS[name]] == list(LISTS[name])


def test_an_operation_by_name_gets_the_magnitudes_of_the_first_list_that_has_it():
    rotate, invert = OPERATIONS.validate_python(["rotate", "invert"])
    assert (rotate.high, rotate.signed) == (10, True)
    assert (invert.low, invert.high) == (0, 0)
    (wide,) = OPERATIONS.validate_python([{"name": "rotate", "high": 30}])
    assert (wide.high, wide.signed) == (30, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["rotte"], "unknown operation 'rotte'; did you mean 'rotate'?"),
        ("papers", "unknown list of operations 'papers'; did you mean 'paper'?"),
        ([], "operations must be one of radiograph, paper"),
        ([{"name": "rotate", "high": 181}], "the magnitude of rotate must lie in -180 to 180; got"),
        ([{"name": "invert", "high": 1}], "the magnitude of invert must be left out: it has none; got 1"),
        (7, "operations must be one of"),
    ],
)
def test_what_is_no_operation_is_named_with_the_remedy(given, message):
    with pytest.raises(ValidationError) as refused:
        OPERATIONS.validate_python(given)
    assert refused.value.error_count() == 1
    assert message in str(refused.value)


@given(st.sampled_from(sorted(LIMITS)), st.floats(-0.1, 1.1), st.floats(-0.1, 1.1), st.booleans())
def test_a_magnitude_is_accepted_exactly_within_its_limits(name, low, high, signed):
    least, most = LIMITS[name]
    low, high = (least + share * (most - least) for share in (low, high))
    reached = [low, high] + ([-low, -high] if signed else [])
    allowed = all(LIMITS[name][0] <= value <= LIMITS[name][1] for value in reached)
    try:
        operation = Operation(name=name, low=low, high=high, signed=signed)
    except ValidationError:
        assert not allowed
    else:
        assert allowed
        assert operation.magnitudes == (min(reached), max(reached))


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)
