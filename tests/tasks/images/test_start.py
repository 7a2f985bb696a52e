"""An arm that starts from the network of a finished arm: its weights, its patients, its hash, and how it goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from data_prep.noise.registry import NoNoise, draw_noise
from models.errors import SettingError
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings, predict
from tasks.arms import mlflow_runs
from tasks.arms.base import Source
from tasks.data.open_split import open_split
from tasks.images.inputs import load_image_inputs
from tasks.images.kind import ImageKind
from tasks.images.model_facts import ModelFacts
from tasks.images.model_registry import log_model
from tasks.images.spec import ANEW, ImageArm, MaskRef, Start
from tests.tasks.images.test_inputs import arm

pytestmark = pytest.mark.slow

LABELS = ("Mass", "Nodule")


def trained(folder: Path, **changed: Any) -> tuple[ImageArm, Any, Start]:
    """A finished arm, its inputs with the trained network, and the start from it."""
    planned = arm(folder, 3, LABELS).model_copy(update={"training": TrainingSettings(epochs=2), **changed})
    inputs = load_image_inputs(planned)
    fit(planned, inputs)
    run_id = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {}, {})
    with mlflow_runs.active_run(run_id):
        log_model(inputs.network, ModelFacts.of(inputs.network, {}))
    return planned, inputs, Start(arm=Source(hash=planned.hash, run_id=run_id))


def fit(planned: ImageArm, inputs: Any, state: Any = None) -> tuple[Any, list[Any]]:
    """Train; return the result and the states after the epochs."""
    states: list[Any] = []
    kind = ImageKind(planned.store, planned.split)
    fitted = kind.fit(planned, inputs, state, lambda epoch, metrics, saved: states.append(saved), lambda *steps: None)
    return fitted, states


def test_an_arm_starts_from_the_network_of_another_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    planned, source, start = trained(tmp_path)
    assert planned.start == ANEW
    assert "start" not in planned.parameters()
    second = planned.model_copy(update={"start": start, "seed": 4})
    assert second.hash != planned.model_copy(update={"seed": 4}).hash
    assert second.factors["start"] == f"from {planned.hash[:8]}"
    assert second.parameters()["start"]["arm"]["run_id"] == start.arm.run_id  # type: ignore[union-attr]

    inputs, anew = load_image_inputs(second), load_image_inputs(second.model_copy(update={"start": ANEW}))
    found, expected, others = (predict(of.network, inputs.val.pixels) for of in (inputs, source, anew))
    torch.testing.assert_close(found, expected)  # up to rounding: training has put the memory in another order
    assert not torch.allclose(found, others, atol=1e-3)
    state = source.network.state_dict()
    assert inputs.network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in inputs.network.state_dict().items())

    whole, states = fit(second, inputs)
    again = load_image_inputs(second)
    resumed, _ = fit(second, again, states[0])
    assert all(torch.equal(value, resumed.best_state[name]) for name, value in whole.best_state.items())
    assert again.network.trained_on == inputs.network.trained_on == source.network.trained_on
    from_nothing, _ = fit(second, anew)
    assert from_nothing.history[0].losses != whole.history[0].losses


def test_an_arm_has_the_training_patients_of_both_and_is_scored_on_none_of_them(tmp_path: Path) -> None:
    planned, _, start = trained(tmp_path)
    other = {"split": SplitSettings(seed=2), "start": start}
    with pytest.raises(SettingError, match="patients to be scored are among the patients the model was trained on"):
        load_image_inputs(moved(planned, **other))

    fewer = load_image_inputs(planned.model_copy(update={"start": start}))
    some = fewer.network.trained_on[:3]
    fewer.network.trained_on = tuple(sorted({*some, "a patient of another night"}))
    run_id = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {}, {})
    with mlflow_runs.active_run(run_id):
        log_model(fewer.network, ModelFacts.of(fewer.network, {}))
    second = planned.model_copy(update={"start": Start(arm=Source(hash="0" * 16, run_id=run_id))})
    inputs = load_image_inputs(second)
    fit(second, inputs)
    assert inputs.network.trained_on == tuple(sorted({*inputs.train.patients, "a patient of another night"}))


def moved(planned: ImageArm, **changed: Any) -> ImageArm:
    """The arm with another split, and a mask of that split's training images."""
    opened, parts = open_split(planned.store, changed["split"])
    mask = draw_noise(NoNoise(), opened.targets[parts.train], planned.labels, 0)
    path = planned.mask.path.with_name("other.npz")
    mask.save(path)
    reference = MaskRef(path=path, fingerprint=mask.fingerprint)
    return planned.model_copy(update=changed | {"mask": reference, "split_fingerprint": parts.fingerprint})


def test_an_arm_does_not_start_from_a_network_that_does_not_fit(tmp_path: Path) -> None:
    planned, _, start = trained(tmp_path)
    again = planned.model_copy(update={"start": start})
    wider = again.model_copy(update={"network": NetworkSettings(width=8)})
    with pytest.raises(SettingError, match=r"another network \(first difference: .*\); start anew"):
        load_image_inputs(wider)
    residual = again.model_copy(update={"network": NetworkSettings(backbone="wide_resnet_10_1")})
    with pytest.raises(SettingError, match="another network"):
        load_image_inputs(residual)
    fewer = arm(tmp_path / "fewer", 3, LABELS[::-1]).model_copy(update={"start": start})
    with pytest.raises(SettingError, match="its labels are Mass, Nodule, and not Nodule, Mass"):
        load_image_inputs(fewer)
    gone = again.model_copy(update={"start": Start(arm=Source(hash="0" * 16, run_id="0" * 32))})
    with pytest.raises(DataError, match="MLflow has no model of run 0000"):
        load_image_inputs(gone)
