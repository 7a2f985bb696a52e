"""How an arm on images trains: what comes before its training, and what a resumed one does not do again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.augmentation.policies import ComposedPolicy
from models.training.image_training import TrainingSettings, fit
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import UniformSettings
from models.weighting.trust import TrustSettings
from tasks.arms.runner import RunnerSettings
from tasks.engine import dry_run as dry_runs
from tasks.images import inputs as image_inputs
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
    monkeypatch.setattr(image_kind, "estimate_epoch_seconds", lambda *inputs, policy, device: 3.0)
    seconds = {
        m.kind: kind.epoch_seconds(a)
        for m in (UniformSettings(), *CROSS_FITTED)
        for kind, a in [given(tmp_path / m.kind, m)]
    }
    assert seconds == {"uniform": 3.0, "trust": 6.0, "permuted_weights": 6.0}


def test_an_arm_trains_under_its_policy(tmp_path: Path) -> None:
    kind, plain = given(tmp_path, UniformSettings())
    planned = plain.model_copy(update={"policy": ComposedPolicy(length=3)})
    states = [
        kind.fit(each, load_image_inputs(each), None, lambda *epoch: None, lambda *steps: None).best_state
        for each in (planned, plain)
    ]
    alone = load_image_inputs(planned)
    fit(*alone.trained, planned.training, seed=planned.seed, policy=planned.policy, device=planned.device)
    assert all(torch.equal(value, states[0][name]) for name, value in alone.network.state_dict().items())
    assert not all(torch.equal(value, states[0][name]) for name, value in states[1].items())


def test_the_networks_of_cross_fitting_train_under_the_policy_of_their_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, planned = given(tmp_path, TrustSettings())
    planned = planned.model_copy(update={"policy": ComposedPolicy(), "training": TrainingSettings(epochs=1)})
    policies, cross_fit = [], image_inputs.cross_fit

    def recording(*inputs: Any, policy: Any, **how: Any) -> Any:
        policies.append(policy)
        return cross_fit(*inputs, policy=policy, **how)

    monkeypatch.setattr(image_inputs, "cross_fit", recording)
    kind.fit(planned, load_image_inputs(planned), None, lambda *epoch: None, lambda *steps: None)
    assert policies == [ComposedPolicy()]


def test_a_dry_run_times_each_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, planned = given(tmp_path, UniformSettings())
    arms = [planned.model_copy(update={"policy": policy}) for policy in (planned.policy, ComposedPolicy())]
    seconds = {"none": 1.0, "composed": 3.0}
    monkeypatch.setattr(image_kind, "estimate_epoch_seconds", lambda *inputs, policy, device: seconds[policy.kind])
    monkeypatch.setattr(dry_runs.mlflow_runs, "connect", lambda: "0")
    monkeypatch.setattr(dry_runs.mlflow_runs, "find_run", lambda *what: None)
    monkeypatch.setattr(dry_runs, "create_table_artifact", lambda *rows, **how: None)
    assert dry_runs.dry_run.fn(arms, RunnerSettings(arms_at_once=1), kind.epoch_seconds) == 2 * (1 + 3)
