"""A registered model behind `mlflow models serve`, asked by HTTP as docs/serving.md says."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pytest
import torch

from data_prep.decoding.raster import DECODE_VERSION
from models.networks.multitask import NetworkSettings, initial_network
from tasks.arms import mlflow_runs
from tasks.images.championship import promote
from tasks.images.model_facts import ModelFacts
from tasks.images.model_registry import log_model, register_model
from tests.data_prep.test_canaries import CANARIES, found_in
from tests.flows.test_canaries import image
from tests.stack.service import ROOT, free_port

pytestmark = pytest.mark.slow

SIZE, LABELS, AT_ONCE = 32, ("Mass", "Nodule"), 50
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
PNG, JPEG = (cv2.imencode(suffix, PICTURE)[1].tobytes() for suffix in (".png", ".jpg"))
DICOM = image(7)
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 1, SIZE, SIZE), dtype=np.uint8)


class Server:
    """The champion, served."""

    def __init__(self, folder: Path, tracking_uri: str) -> None:
        self.port, self.log = free_port(), folder / "serve.log"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as after activating .venv
        command = ["models", "serve", "-m", "models:/medmtl@champion", "--env-manager", "local"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command, "--host", "127.0.0.1", "--port", str(self.port)],
                env=os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "PYTHONPATH": str(ROOT), "PATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2)
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.2)
            else:
                return
        raise AssertionError(self.log.read_text())

    def ask(self, content: object) -> tuple[int, Any]:
        """Send JSON; return the status and the answer."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        network = initial_network(NetworkSettings(), LABELS, torch.from_numpy(PIXELS[:, 0]), seed=0).eval()
        run_id = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {}, {})
        with mlflow_runs.active_run(run_id):
            log_model(network, ModelFacts.of(network, {"decode_version": DECODE_VERSION}))
        register_model.fn(run_id, "medmtl")
        promote("medmtl", "1")
        started = Server(folder, mlflow.get_tracking_uri())
        try:
            started.wait()
            yield started
        finally:
            if started.process.poll() is None:
                os.killpg(started.process.pid, signal.SIGTERM)
            started.process.wait(30)


def base64_of(*files: bytes) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def records(*files: bytes) -> dict[str, Any]:
    return {"dataframe_records": [{"file": file} for file in base64_of(*files)]}


def test_pictures_dicom_and_pixels_are_answered_by_label(server: Server) -> None:
    for asked, n in (
        (records(PNG), 1),
        (records(PNG, JPEG, DICOM), 3),
        ({"inputs": {"file": base64_of(PNG, DICOM)}}, 2),
        ({"dataframe_split": {"columns": ["file"], "data": [[file] for file in base64_of(DICOM)]}}, 1),
        ({"inputs": PIXELS.tolist()}, 2),
        ({"instances": PIXELS.tolist()}, 2),
        ({**records(PNG), "params": {"chest_radiographs": True}}, 1),
    ):
        status, answer = server.ask(asked)
        assert status == 200, answer
        assert len(answer["predictions"]) == n
        for row in answer["predictions"]:
            assert row.keys() == set(LABELS)
            assert all(0 < value < 1 for value in row.values())
    as_column = {"inputs": {"file": base64_of(PNG)}}
    assert server.ask(records(PNG))[1]["predictions"] == server.ask(as_column)[1]["predictions"]


WRONG = {
    "floats": {"inputs": (PIXELS / 255).tolist()},
    "black, as floats": {"inputs": np.zeros((1, 1, SIZE, SIZE)).tolist()},
    "another size": {"inputs": PIXELS[:, :, :16].tolist()},
    "three channels": {"inputs": PIXELS.repeat(3, axis=1).tolist()},
    "above 255": {"inputs": (PIXELS.astype(int) + 200).tolist()},
    "negative": {"inputs": (PIXELS.astype(int) - 200).tolist()},
    "no image": {"inputs": []},
    "another column": {"dataframe_records": [{"picture": base64_of(PNG)[0]}]},
    "not base64": {"dataframe_records": [{"file": "/home/jane/picture.png"}]},
    "text": records(b"no picture at all"),
    "cut": records(PNG, PNG[:-40]),
    "a knee": records(image(8, lambda dataset: setattr(dataset, "BodyPartExamined", "KNEE"))),
    "a damaged DICOM": records(image(9)[:-700]),
    "no file": {"inputs": {"file": []}},
    "numbers as files": {"inputs": {"file": [1, 2]}},
    "65 files": records(*[PNG] * 65),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_input_is_refused_with_one_line(server: Server, name: str) -> None:
    status, answer = server.ask(WRONG[name])
    assert status == 400
    assert "stack_trace" not in answer
    print(f"{name}: {answer['message']}")
    assert answer["message"].isprintable()
    assert len(answer["message"]) < 400


def test_fifty_at_a_time_are_all_answered(server: Server) -> None:
    asked = [records(PNG), records(DICOM), {"inputs": PIXELS.tolist()}, WRONG["cut"]]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda number: server.ask(asked[number % 4])[0], range(8 * AT_ONCE)))
    assert answers == [200, 200, 200, 400] * (2 * AT_ONCE)


def test_no_identity_is_in_answers_log_or_model(server: Server) -> None:
    asked = (records(DICOM), WRONG["a knee"], WRONG["a damaged DICOM"])
    answers = json.dumps([server.ask(each) for each in asked])
    assert not [canary for canary in CANARIES if canary in answers]
    assert not found_in(server.log.parent)
    assert "Traceback" not in server.log.read_text()
