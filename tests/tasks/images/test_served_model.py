"""What a registered model answers to pixels and files, and what it refuses, each in one line."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, integer_dtypes

from data_prep.decoding.raster import DECODE_VERSION
from data_prep.decoding.sandbox import safe_decode
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from tasks.images import served_model
from tasks.images.exported_program import Program, export_network
from tasks.images.model_facts import DecoderRecord, ModelFacts
from tasks.images.served_model import RefusedError, ServedModel
from tests.data_prep.dicom_files import dicom_file

LABELS, SIZE = ("Mass", "a, b"), 16
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()
DICOM = dicom_file(PICTURE.astype(np.uint16) * 16)


def network(size: int = SIZE) -> MultiTaskNetwork:
    pixels = torch.randint(0, 256, (5, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return initial_network(NetworkSettings(), LABELS, pixels, seed=0).eval()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ServedModel]:
    """Makes the model as MLflow loads it, of facts that may be changed."""

    def load(**changed: Any) -> ServedModel:
        trained = network()
        facts = ModelFacts.of(trained, {"decode_version": DECODE_VERSION}).model_copy(update=changed)
        program = export_network(trained, tmp_path_factory.mktemp("program"))
        config = facts.model_dump(mode="json", include=set(served_model.USED_FACTS))
        context = mlflow.pyfunc.PythonModelContext({served_model.PROGRAM: str(program)}, config)
        model = ServedModel()
        model.load_context(context)
        return model

    return load


@pytest.fixture(scope="module")
def model(make: Callable[..., ServedModel]) -> ServedModel:
    return make()


def refusal(model: ServedModel, given: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        model.predict(None, given)
    caught.value.message = "what MLflow's server would put before it"
    line = caught.value.message
    assert line.isprintable()
    assert len(line) < 400
    assert caught.value.get_http_status_code() == 400
    return line


def test_pixels_give_the_networks_probabilities_under_the_names_of_the_labels(model: ServedModel) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (150, 1, SIZE, SIZE), dtype=np.uint8)
    answer = model.predict(None, pixels)
    assert list(answer.columns) == list(LABELS)
    with torch.no_grad():
        expected = torch.sigmoid(network()(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-6)
    for same in (pixels.astype(np.int64), pixels[:, 0], np.asfortranarray(pixels)):
        pd.testing.assert_frame_equal(model.predict(None, same), answer)
    order = np.random.default_rng(2).permutation(len(pixels))
    np.testing.assert_allclose(model.predict(None, pixels[order]).to_numpy(), answer.to_numpy()[order], atol=1e-6)


@pytest.mark.parametrize("content", [PNG, DICOM], ids=["png", "dicom"])
def test_a_file_gives_what_its_decoded_pixels_give_in_any_form(model: ServedModel, content: bytes) -> None:
    pixels = safe_decode(content, SIZE).pixels
    expected = model.predict(None, pixels[None, None])
    text = base64.b64encode(content).decode()
    columns = {"file": [text]}
    for asked in ([content], content, text, columns, {"file": np.array([text])}, pd.DataFrame(columns)):
        pd.testing.assert_frame_equal(model.predict(None, asked), expected)


def test_the_user_may_vouch_for_a_file_that_does_not_say_what_it_shows(model: ServedModel) -> None:
    silent = dicom_file(PICTURE.astype(np.uint16) * 16, BodyPartExamined=None)
    assert "chest" in refusal(model, [silent])
    assert len(model.predict(None, [silent], {"chest_radiographs": True})) == 1


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.bool_, np.complex64, "U3"]), array_shapes(max_dims=5)
    )
    | arrays(integer_dtypes(), array_shapes(max_dims=5, max_side=SIZE))
)
def test_arrays_of_another_type_or_shape_are_refused(model: ServedModel, given: np.ndarray) -> None:
    assert "expected" in refusal(model, given)


@pytest.mark.parametrize("value", [-1, 256, 70_000])
def test_values_that_no_picture_has_are_refused(model: ServedModel, value: int) -> None:
    pixels = np.zeros((2, 1, SIZE, SIZE), np.int64)
    pixels[1, 0, 3, 3] = value
    assert str(value) in refusal(model, pixels)


def test_a_black_image_as_floats_is_refused_and_not_cast(model: ServedModel) -> None:
    assert "float64; expected whole numbers" in refusal(model, np.zeros((1, 1, SIZE, SIZE)))
    assert "float32; expected whole numbers" in refusal(model, np.ones((1, 1, SIZE, SIZE), np.float32))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "0 files at once; expected 1 to 64"),
        ([b"x"] * 65, "65 files at once; expected 1 to 64"),
        ([PNG, b""], "file 2 of 2: empty file"),
        ([PNG[:-30]], "file 1 of 1: truncated"),
        ([DICOM, DICOM[:-100]], "file 2 of 2: "),
        (["not base64!"], "file 1 of 1: it is not in base64"),
        ({"file": ["é"]}, "file 1 of 1: it is not in base64"),
        ({"pixels": [1]}, "a mapping with 1 entries; expected pixels"),
        (pd.DataFrame({"file": ["x"], "Jane": ["x"]}), "a table with 2 columns; expected pixels"),
        ([1, 2], "a list; expected pixels"),
        (None, "a NoneType; expected pixels"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_its_number(model: ServedModel, given: Any, said: str) -> None:
    line = refusal(model, given)
    assert said in line
    assert "Jane" not in line


def test_a_file_is_refused_where_it_would_be_decoded_to_other_pixels(make: Callable[..., ServedModel]) -> None:
    older = make(decoder=DecoderRecord(kind="radiograph", version=DECODE_VERSION - 1))
    line = refusal(older, [PNG])
    assert f"by version {DECODE_VERSION}, the training images were by {DECODE_VERSION - 1}: train a model anew" in line
    assert len(older.predict(None, np.zeros((1, 1, SIZE, SIZE), np.uint8))) == 1


def test_too_many_pixels_are_refused(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "MOST_PIXELS", 10 * SIZE * SIZE)
    assert "11 images at once; at most 10" in refusal(model, np.zeros((11, SIZE, SIZE), np.uint8))


def test_a_program_predicts_in_batches_of_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(torch.export.load(export_network(network(), tmp_path)))
    pixels = np.random.default_rng(1).integers(0, 256, (600, 1, SIZE, SIZE), dtype=np.uint8)
    sizes, run = [], program._module

    def count(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return run(batch)

    monkeypatch.setattr(program, "_module", count)
    assert program.predict(pixels).shape == (600, 2)
    assert sizes == [256, 256, 88]
