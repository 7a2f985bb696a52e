"""A model in the registry: found under any name, the same program whatever its example, no pixel of a patient in it."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from tasks.arms import mlflow_runs
from tasks.images import exported_program, model_registry
from tasks.images.gate import GateSettings
from tasks.images.inputs import load_image_inputs
from tasks.images.model_facts import DecoderRecord, ModelFacts, read_facts
from tasks.images.model_registry import log_model, register_model
from tasks.images.promotion import evaluate_models
from tests.tasks.images.test_inputs import arm

pytestmark = pytest.mark.slow

NAMES = ("chest X-ray 2", "a/b", "../models", 'it\'s 50 %: "best"', "Lésion (left)", "`$x$`", "\x1b[31m", "🩻" * 40)


def logged(network: MultiTaskNetwork, classes: tuple[str, ...] = ()) -> str:
    """The id of a finished run with the network as its model."""
    run_id = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {}, {})
    with mlflow_runs.active_run(run_id):
        log_model(network, ModelFacts.of(network, {"picture_version": 1, "decode_version": 4}, classes))
    return run_id


def model_of(run_id: str, folder: Path) -> Path:
    """The folder of a run's model, with all that MLflow keeps of it."""
    (model,) = model_registry._models_of(run_id)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=str(folder)))


def test_a_model_is_the_same_program_with_a_made_up_example_as_with_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = load_image_inputs(arm(tmp_path, 0, ("Mass", "Nodule")))
    images = inputs.test.pixels[:].numpy()
    made_up = model_of(logged(inputs.network), tmp_path / "a")
    monkeypatch.setattr(exported_program, "example_input", lambda channels, size: images[:2])
    of_patients = model_of(logged(inputs.network), tmp_path / "b")
    programs = [next(folder.rglob("*.pt2")) for folder in (made_up, of_patients)]
    one, other = (torch.export.load(program) for program in programs)
    assert one.graph_module.code == other.graph_module.code
    assert all(torch.equal(value, other.state_dict[name]) for name, value in one.state_dict.items())
    first, second = (mlflow.pyfunc.load_model(str(folder)).predict(images) for folder in (made_up, of_patients))
    assert np.array_equal(first, second)


def test_no_pixel_of_the_data_is_in_what_is_kept_with_a_model(tmp_path: Path) -> None:
    inputs = load_image_inputs(arm(tmp_path, 0, ("Mass", "Nodule")))
    kept = [
        file.read_bytes() for file in model_of(logged(inputs.network), tmp_path / "model").rglob("*") if file.is_file()
    ]
    assert len(kept) > 4
    for image in inputs.store.pixels[:]:
        rows = [row.tobytes() for row in image] + [str(row.tolist())[1:-1].encode() for row in image]
        assert not any(row in content or row.replace(b" ", b"") in content for row in rows for content in kept)


def test_nothing_of_the_machine_or_of_the_users_folder_is_kept_with_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = load_image_inputs(arm(tmp_path, 0, ("Mass", "Nodule")))
    (tmp_path / "project").mkdir()
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / "project" / name).write_text("[project]\nname = 'of-jane'\nversion = '0'\n")
    monkeypatch.chdir(tmp_path / "project")
    folder = model_of(logged(inputs.network), tmp_path / "model")
    kept = {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert not kept.keys() & {"uv.lock", "pyproject.toml"}
    here = str(Path(model_registry.__file__).parents[2]).encode()
    assert not [name for name, content in kept.items() if here in content or b"of-jane" in content]


@pytest.mark.parametrize("backbone", ["conv4", "wide_resnet_10_1"])
def test_a_model_of_classes_takes_any_number_of_colour_images_and_names_the_classes_of_its_outputs(
    tmp_path: Path, backbone: str
) -> None:
    pixels = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = ("aeroplane", "Löwe", "a, b", '"')
    network = initial_network(NetworkSettings(backbone=backbone), ("class",), pixels, seed=0, classes=4).eval()
    run_id = logged(network, names)
    facts = read_facts(run_id)
    assert (facts.labels, facts.classes, facts.outputs, facts.size, facts.channels) == (("class",), names, names, 32, 3)
    assert (facts.decoder, facts.population) == (DecoderRecord(kind="picture", version=1), None)
    model = mlflow.pyfunc.load_model(str(model_of(run_id, tmp_path / "model")))
    assert json.loads(model.metadata.metadata["classes"]) == list(names)
    assert json.loads(model.metadata.metadata["labels"]) == ["class"]
    for n in (1, 2, 5):
        answer = model.predict(pixels[:n].numpy())
        assert list(answer.columns) == list(names)
        np.testing.assert_allclose(answer, network(pixels[:n]).softmax(1).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_a_model_of_classes_without_a_name_for_each_is_not_logged(names: tuple[str, ...]) -> None:
    network = initial_network(
        NetworkSettings(), ("class",), torch.eye(32, dtype=torch.uint8)[None, None], seed=0, classes=3
    )
    with pytest.raises(ValueError, match=f"a network of 3 classes needs a name for each; got {len(names)}"):
        ModelFacts.of(network, {}, names)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_any_name_is_registered_and_found_again_under_it(tmp_path: Path, name: str) -> None:
    planned = arm(tmp_path, 0, ("Mass", "Nodule"))
    run_id = logged(load_image_inputs(planned).network)
    assert register_model.fn(run_id, name) == register_model.fn(run_id, name) == "1"
    split, rule = SplitSettings(seed=1), GateSettings()
    results = evaluate_models.fn(name, planned.store, split, rule)
    assert results.verdict.decision == "refused"  # fifteen patients are too few
    (version,) = MlflowClient().search_model_versions("")
    assert version.tags["medmtl.promotion"] == results.verdict.reason
    with pytest.raises(DataError, match="no registered model"):
        evaluate_models.fn(f"{name} ", planned.store, split, rule)
