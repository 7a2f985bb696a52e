"""How an arm on images trains: what comes before its training, and what a resumed one does not do again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.training.image_training import TrainingSettings
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import UniformSettings
from models.weighting.trust import TrustSettings
from tasks.images import kind as image_kind
from tasks.images.inputs import load_image_inputs
from tasks.images.kind import ImageKind
from tasks.images.spec import ImageArm
from tests.tasks.images.test_inputs import arm

CROSS_FITTED = [TrustSettings(), PermutedWeightsSettings(of=TrustSettings())]


def given(folder: Path, method: Any) -> tuple[ImageKind, ImageArm]:
    planned = arm(folder, 3, ("Mass", "Nodule"))
    planned = planned.model_copy(update={"method": method, "training": TrainingSettings(epochs=2)})
    return ImageKind(planned.store, planned.split), planned


@pytest.mark.parametrize("method", CROSS_FITTED, ids=lambda method: method.name)
def test_a_resumed_arm_neither_cross_fits_again_nor_forgets_what_that_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    kind, planned = given(tmp_path, method)
    whole, states = load_image_inputs(planned), []
    fitted = kind.fit(planned, whole, None, lambda epoch, metrics, state: states.append(state), lambda *steps: None)
    assert fitted.start_seconds > 0

    monkeypatch.setattr(image_kind, "start_weighting", lambda *arguments: pytest.fail("computed again"))
    resumed = load_image_inputs(planned)
    again = kind.fit(planned, resumed, states[0], lambda *epoch: None, lambda *steps: None)
    assert again.start_seconds == fitted.start_seconds
    assert torch.equal(resumed.weighting.weights(), whole.weighting.weights())
    assert resumed.weighting.trust() == whole.weighting.trust() is not None
    assert all(torch.equal(value, fitted.best_state[name]) for name, value in again.best_state.items())


@pytest.mark.parametrize("method", [*CROSS_FITTED, UniformSettings()], ids=lambda method: method.name)
def test_steps_are_counted_through_all_trainings_of_an_arm(tmp_path: Path, method: Any) -> None:
    kind, planned = given(tmp_path, method)
    steps: list[tuple[int, int]] = []
    kind.fit(planned, load_image_inputs(planned), None, lambda *epoch: None, lambda *step: steps.append(step))
    assert steps == [(done, len(steps)) for done in range(1, len(steps) + 1)]


def test_a_dry_run_counts_the_networks_of_cross_fitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_kind, "estimate_epoch_seconds", lambda *inputs, device: 3.0)
    seconds = {
        m.kind: kind.epoch_seconds(a)
        for m in (UniformSettings(), *CROSS_FITTED)
        for kind, a in [given(tmp_path / m.kind, m)]
    }
    assert seconds == {"uniform": 3.0, "trust": 6.0, "permuted_weights": 6.0}
