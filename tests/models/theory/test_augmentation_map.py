import numpy as np
import pytest
from pydantic import ValidationError

from models.theory.augmentation_map import AugmentationMapSettings, _row_with_projection, help_and_harm
from models.theory.augmented_ridge import draw_design, exact_risk
from models.theory.linear_tasks import stream

SMALL = AugmentationMapSettings(dimensions=12, samples=6)


@pytest.mark.parametrize("projection", [0.001, 0.3, 1.0])
def test_the_new_row_keeps_the_label_and_has_the_given_projection(projection: float) -> None:
    generator = stream(0, "test")
    inputs, beta = draw_design(generator, 12, 6)
    (z,), (a,) = _row_with_projection(inputs, beta, generator.standard_normal((2, 12)), projection)
    unseen = beta - np.linalg.pinv(inputs) @ inputs @ beta
    assert (z @ unseen) ** 2 / (z @ z) / (unseen @ unseen) == pytest.approx(projection)
    assert z @ z == pytest.approx(0.5)
    np.testing.assert_allclose(inputs @ z, 0, atol=1e-12)
    # its label without noise, y_1 minus what the samples explain, is z^T beta: F x keeps the first sample's
    assert a @ inputs @ beta == pytest.approx(z @ beta)


@pytest.mark.parametrize("seed", range(4))
def test_with_the_penalty_kept_the_condition_says_in_every_cell_whether_it_helps(seed: int) -> None:
    cells = [cell for cell in help_and_harm(SMALL, seed) if cell["convention"] == "kept"]
    assert len(cells) == 7 * 5 * 4
    assert all(cell["predicted"] == cell["helps"] for cell in cells)
    assert 10 < sum(cell["helps"] for cell in cells) < 130
    for cell in cells:
        assert (cell["fall"] > 0) == cell["helps"] == (cell["change"] < 0)


def test_with_the_penalty_rescaled_the_condition_is_not_exact() -> None:
    cells = [cell for cell in help_and_harm(SMALL, 0) if cell["convention"] == "rescaled"]
    agree = sum(cell["predicted"] == cell["helps"] for cell in cells)
    assert len(cells) / 2 < agree < len(cells)


def test_a_cell_is_the_change_of_the_risk_by_one_row() -> None:
    settings = AugmentationMapSettings(
        dimensions=12, samples=6, relative_ridges=(3.0,), noises=(0.3,), projections=(0.5,)
    )
    kept, rescaled = help_and_harm(settings, 5)
    generator = stream(5, "map of help and harm")
    inputs, beta = draw_design(generator, 12, 6)
    added = _row_with_projection(inputs, beta, generator.standard_normal((2, 12)), 0.5)
    before = 3.0 * 0.5
    plain = exact_risk(inputs, np.eye(6), beta, 0.3, before).total
    for cell, after in ((kept, before), (rescaled, before * 7 / 6)):
        risk = exact_risk(*added.after(inputs), beta, 0.3, after).total
        assert cell["change"] == pytest.approx(risk / plain - 1)
        assert cell["fall"] == pytest.approx(plain - risk)


def test_a_map_without_a_direction_beside_beta_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"at least samples \+ 2"):
        AugmentationMapSettings(dimensions=20, samples=19)
