"""Pictures of a page: all of a few, else the highest of each label; captions name no file; the number kept is small."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.prediction.examples import FEW, Examples
from tasks.prediction.records import PredictionRecord

LABELS = ("Mass", "Nodule", "Edema")


def examples(values: list[list[float]]) -> Examples:
    chosen = Examples(LABELS)
    for row, of_row in enumerate(values, start=1):
        record = PredictionRecord(
            file=f"name{row}", status="predicted", probabilities=dict(zip(LABELS, of_row, strict=True))
        )
        chosen.add(row, np.full((2, 2), row, np.uint8), record)
    return chosen


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=30))
def test_what_is_shown_is_everything_or_the_highest_of_each_label(values: list[list[float]]) -> None:
    chosen = examples(values)
    rows = [int(pixels[0, 0]) for pixels, _ in chosen.chosen()]
    assert all(caption.startswith(f"row {row}: ") for row, (_, caption) in zip(rows, chosen.chosen(), strict=True))
    assert not any("name" in caption for _, caption in chosen.chosen())
    if len(values) <= FEW:
        assert rows == list(range(1, len(values) + 1))
    else:
        assert rows == sorted({int(np.argmax(column)) + 1 for column in np.array(values).T})


def test_a_picture_of_a_patient_of_the_training_is_marked() -> None:
    chosen = Examples(("Mass",))
    chosen.add(
        1, np.zeros((2, 2), np.uint8), PredictionRecord(file="a", status="trained_on", probabilities={"Mass": 0.5})
    )
    assert chosen.chosen()[0][1] == "row 1: Mass 0.50; patient of the training"
