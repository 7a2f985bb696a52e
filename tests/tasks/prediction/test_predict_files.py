"""What a prediction holds in memory: a few files at a time, whatever their number; nothing is decoded far ahead."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_prep.store.decode_items import DecodedItem
from tasks.images.exported_program import batch_images
from tasks.images.model_facts import ModelFacts
from tasks.prediction import predict_files as module
from tasks.prediction.examples import FEW
from tasks.prediction.predict_files import predict_files
from tasks.prediction.registered import RegisteredModel

FILES, SIZE, LABELS = 3000, 8, ("Mass", "Nodule")


class Program:
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return np.stack([pixels[:, 0, 0, 0] / 255, 1 - pixels[:, 0, 0, 0] / 255], axis=1).astype(np.float32)


@pytest.mark.parametrize("every", [1, 3, FILES])
def test_no_more_files_are_in_memory_than_two_batches(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in `every` file can be read."""
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def decode(files: list[tuple[str, Path]], *options: object) -> Iterator[tuple[str, DecodedItem]]:
        nonlocal alive, most
        for number, (name, _) in enumerate(files):
            pixels = np.full((SIZE, SIZE), number % 256, np.uint8) if number % every == 0 else None
            item = DecodedItem(pixels, "" if pixels is not None else f"cut after {number} bytes")
            alive += 1
            weakref.finalize(item, gone)
            most = max(most, alive)
            yield name, item

    facts = ModelFacts(labels=LABELS, size=SIZE, trained_on=())
    model = RegisteredModel("a model", "3", "f00", facts, Program())  # type: ignore[arg-type]
    monkeypatch.setattr(module, "load_registered", lambda reference: model)
    monkeypatch.setattr(module, "decode_items", decode)
    names = [f"{number}.png" for number in range(FILES)]
    predict_files(names, "a model/3", False, True, {}, tmp_path)
    assert most <= 2 * batch_images(1, SIZE) + FEW
    told = json.loads((tmp_path / "predictions.json").read_text())
    assert [each["file"] for each in told["files"]] == names
    read = len(range(0, FILES, every))
    assert (told["counts"]["predicted"], told["counts"]["refused"]) == (read, FILES - read)
    assert told["counts"]["reasons"] == ({"cut after N bytes": FILES - read} if read < FILES else {})
    for number in range(0, FILES, every):
        assert told["files"][number]["probabilities"]["Mass"] == pytest.approx(number % 256 / 255, abs=1e-6)
