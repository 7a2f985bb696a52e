import numpy as np
import pytest

from models.theory.augmentation_order import OrderSettings, effect_order
from models.theory.augmented_ridge import CASES, draw_design, exact_risk
from models.theory.label_mixing import equivalent_ridge
from models.theory.linear_tasks import stream


def test_with_the_penalty_rescaled_the_rotation_has_less_bias_than_plain_ridge_and_mixup_more() -> None:
    rows = [row for row in effect_order(OrderSettings(designs=10), seed=0) if row["convention"] == "rescaled"]
    assert [row["dimensions"] for row in rows] == [case.dimensions for case in CASES]
    for row in rows:
        assert row["designs"] == 10
        assert row["biases"] >= 9
        assert row["variance_mixup_below_plain"] == 10
        assert row["bias_rotation"] < row["bias_plain"] < row["bias_mixup"]
        assert row["variance_mixup"] < row["variance_plain"]


def test_mixup_has_less_variance_than_the_rotation_in_some_regressions_only() -> None:
    rows = [row for row in effect_order(OrderSettings(designs=5), seed=1) if row["convention"] == "rescaled"]
    assert {row["variance_mixup_below_rotation"] for row in rows} == {0, 5}
    for row in rows:
        assert (row["variance_mixup"] < row["variance_rotation"]) == (row["variance_mixup_below_rotation"] == 5)


def test_with_the_penalty_kept_mixup_has_less_bias_than_plain_ridge() -> None:
    rows = [row for row in effect_order(OrderSettings(designs=5), seed=2) if row["convention"] == "kept"]
    for row in rows:
        assert row["rotation_below_plain"] == row["one_row_below_plain"] == 5
        assert row["plain_below_mixup"] == row["biases"] == 0
        assert row["bias_mixup"] < row["bias_plain"]


def test_one_added_row_with_the_penalty_rescaled_raises_the_bias_in_some_designs() -> None:
    (row,) = (
        row for row in effect_order(OrderSettings(cases=CASES[:1], designs=60), 3) if row["convention"] == "rescaled"
    )
    assert 10 < row["one_row_below_plain"] < 55
    assert row["rotation_below_plain"] == 60


def test_more_mixed_rows_raise_the_bias_further() -> None:
    few, many = (
        effect_order(OrderSettings(cases=CASES[2:3], designs=5, multiple=multiple), 4)[1] for multiple in (1, 50)
    )
    assert many["bias_mixup"] > few["bias_mixup"] > few["bias_plain"]


def test_the_bias_with_many_mixed_rows_is_that_of_the_ridge_that_they_act_as() -> None:
    case = CASES[0]
    for row in effect_order(OrderSettings(cases=(case,), designs=1, multiple=100), 5):
        inputs, beta = draw_design(stream(5, f"order of effects, {case}"), case.dimensions, case.samples)
        ratio = equivalent_ridge(row["convention"], case.samples, 100 * case.samples, 1.0)
        expected = exact_risk(inputs, np.eye(case.samples), beta, 0, case.samples * case.ridge * ratio).bias
        assert row["bias_mixup"] == pytest.approx(expected, rel=0.02)
