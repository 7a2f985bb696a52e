"""predictions.csv and predictions.json: the same content, read back exactly, and never a part of a file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.prediction.records import (
    DecoderRecord,
    PredictingModelRecord,
    PredictionCounts,
    PredictionRecord,
    PredictionsHead,
)
from tasks.prediction.row_writer import row_writer, shortest

COUNTS = PredictionCounts(
    files=1, predicted=1, trained_on=0, refused=0, positive={}, others=0, unreadable=0, reasons={}, seconds=1
)


def head(labels: tuple[str, ...]) -> PredictionsHead:
    decoder = DecoderRecord(kind="radiograph", version=4)
    model = PredictingModelRecord(
        name="a model",
        version="3",
        run_id="f00",
        labels=labels,
        size=8,
        decoder=None,
        operating_points={},
        knows_patients=False,
    )
    return PredictionsHead(config={"files": ["x"]}, version="0", git=None, model=model, decoder=decoder)


def write(folder: Path, labels: tuple[str, ...], predictions: list[PredictionRecord]) -> None:
    with row_writer(folder, head(labels)) as writer:
        for each in predictions:
            writer.write([each])
        writer.end(COUNTS)


def write_and(then: Callable[[], list[PredictionRecord]], folder: Path) -> None:
    with row_writer(folder, head(("Nodule",))) as writer:
        writer.write([PredictionRecord(file="a", status="refused", reason="why")] * 10_000)
        writer.write(then())


def read_table(folder: Path) -> list[list[str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, st.none() | st.floats(0, 1, width=32)), max_size=6))
def test_both_files_say_the_same_of_any_file(tmp_path_factory: pytest.TempPathFactory, drawn: list) -> None:
    folder = tmp_path_factory.mktemp("out")
    predictions = [
        PredictionRecord(file=name, status="refused", reason=f"why, {name}")
        if value is None
        else PredictionRecord(file=name, status="predicted", probabilities={"Mass": float(shortest(value))})
        for name, value in drawn
    ]
    write(folder, ("Mass",), predictions)
    first, *rows = read_table(folder)
    assert first == ["file", "status", "reason", "model", "Mass"]
    told = json.loads((folder / "predictions.json").read_text())
    assert told.keys() == {"schema", "config", "version", "git", "model", "decoder", "files", "counts"}
    assert told["schema"] == "medmtl/predictions/1"
    for row, each, (name, value) in zip(rows, told["files"], drawn, strict=True):
        assert row[:4] == [name, each["status"], each["reason"], "a model/3"]
        assert PredictionRecord.model_validate(each).file == name
        assert (row[4] == "") == (value is None)
        if value is not None:
            assert np.float32(row[4]) == np.float32(each["probabilities"]["Mass"]) == np.float32(value)


def test_a_name_that_is_no_unicode_stays_as_it_is(tmp_path: Path) -> None:
    name = b"J\xe9r\xf4me.png".decode("utf-8", "surrogateescape")
    write(tmp_path, ("Mass",), [PredictionRecord(file=name, status="refused", reason="why")])
    assert b"J\xe9r\xf4me.png,refused" in (tmp_path / "predictions.csv").read_bytes()
    assert json.loads((tmp_path / "predictions.json").read_text())["files"][0]["file"] == name


def test_a_label_with_the_name_of_another_column_is_told_apart(tmp_path: Path) -> None:
    write(tmp_path, ("status", "Mass"), [])
    assert read_table(tmp_path)[0] == ["file", "status", "reason", "model", "label status", "Mass"]


def test_predictions_of_before_stay_until_the_new_ones_are_complete(tmp_path: Path) -> None:
    write(tmp_path, ("Mass",), [])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"predictions.csv", "predictions.json", "config.yaml"}

    def stopped() -> list[PredictionRecord]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and(stopped, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
