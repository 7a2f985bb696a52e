"""Which columns are labels: tables drawn with labels in every notation, beside columns that are none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary

from data_prep.errors import DataError
from data_prep.labels.column_names import is_technical
from data_prep.labels.label_columns import meaning_of
from data_prep.labels.table import FINDINGS, LabelTable, read_labels

CASES = st.sampled_from([str.lower, str.upper, str.title])
NOTATIONS = (
    st.integers(0, 9).map(lambda zeros: tuple(f"{bit}.{'0' * zeros}" if zeros else str(bit) for bit in (0, 1))),
    st.just(("0", "1.00e+00")),
    CASES.map(lambda case: (case("false"), case("true"))),
    CASES.map(lambda case: (case("no"), case("yes"))),
    CASES.map(lambda case: (case("n"), case("y"))),
)
MISSING = st.sampled_from(["", "nan", "NaN", "NA", "N/A", "null", "None", "<NA>", "#N/A"])
LABELS = ("Fracture", "Pleural Fluid", "Device", "left (old)", "α", *FINDINGS[:3])
OTHERS = {
    "Sex (1=male)": ["0", "1"], "Male": ["1", "0"], "fold": ["0", "1", "2"], "is_train": ["True", "False"],
    "PixelRepresentation_DICOM": ["0", "1"], "InstanceNumber": ["1", "0"], "x": ["0", "1"], "ymin": ["0", "1"],
    "Unnamed: 0": ["0", "1"], "study_id": ["1", "0"], "ReportID": ["0", "1"], "split": ["Y", "N"], "bbox_1": ["0", "1"],
    "Modality": ["CR", "DX"], "ward": ["east", "west"], "weight_kg": ["70.5", "81"], "Follow-up #": ["0", "1"],
    "constant": ["0"], "always": ["True"], "empty": [""], "nothing": ["nan", ""],
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], dict[str, list[int]]]:
    """Names of columns and their cells, and the values of those that are labels."""
    rows = draw(st.integers(2, 8))
    names, cells, values = [], [], {}
    for name in draw(st.permutations(LABELS))[: draw(st.integers(1, 4))]:
        marks = draw(draw(st.sampled_from(NOTATIONS)))
        column = draw(st.lists(st.sampled_from([0, 1, -1]), min_size=rows, max_size=rows))
        column[:2] = draw(st.permutations([0, 1]))
        names.append(name)
        cells.append([marks[value] if value >= 0 else draw(MISSING) for value in column])
        values[name] = column
    for name in draw(st.lists(st.sampled_from(sorted(OTHERS)), unique=True, max_size=5)):
        place = draw(st.integers(0, len(names)))
        names.insert(place, name)
        cells.insert(place, [draw(st.sampled_from(OTHERS[name])) for _ in range(rows)])
    return names, cells, values


def read(folder: Path, names: list[str], cells: list[list[str]], columns: tuple[str, ...] = ()) -> LabelTable:
    rows = [[f"{i}.png", str(i), *row] for i, row in enumerate(zip(*cells, strict=True))]
    path = folder / "table.csv"
    path.write_text("\n".join(";".join(row) for row in [["image", "patient", *names], *rows]))
    return read_labels(path, columns)


@given(tables())
def test_every_label_is_read_in_its_notation_and_every_other_column_named(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], list[list[str]], dict[str, list[int]]]
) -> None:
    names, cells, values = drawn
    table = read(tmp_path_factory.mktemp("labels"), names, cells)
    assert table.labels == tuple(name for name in names if name in values)
    assert {name: table.targets[:, i].tolist() for i, name in enumerate(table.labels)} == values
    assert set(table.ignored) == set(names) - set(values)
    assert all(table.ignored.values())


UNREADABLE = st.sampled_from(
    ["-1", "-1.0", "-1,00", "0.67", "2", "pos", "uncertain", "x", "['a', 'b']", "Mass|Nodule", "??", "T", "unknown"]
)


@given(tables(), UNREADABLE, st.data())
def test_a_label_that_cannot_be_read_is_refused_and_never_dropped(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], list[list[str]], dict[str, list[int]]],
    cell: str, data: st.DataObject,
) -> None:  # fmt: skip
    names, cells, values = drawn
    name = data.draw(st.sampled_from(sorted(values)))
    row = data.draw(st.integers(2, len(cells[0]))) if len(cells[0]) > 2 else 2
    for column, of in zip(cells, names, strict=True):
        column.insert(row, cell if of == name else column[0])
    folder = tmp_path_factory.mktemp("labels")
    for columns in ((), (name,)):
        with pytest.raises(DataError, match=f"column '{name.replace('(', '.').replace(')', '.')}'") as caught:
            read(folder, names, cells, columns)
        assert str(caught.value).isprintable()
    others = tuple(each for each in values if each != name)
    if others:  # the remedy
        assert set(read(folder, names, cells, others).labels) == set(others)


@given(tables(), st.data())
def test_exactly_the_columns_that_are_named_are_labels_technical_ones_too(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], list[list[str]], dict[str, list[int]]],
    data: st.DataObject,
) -> None:  # fmt: skip
    names, cells, values = drawn
    readable = [
        name for name, column in zip(names, cells, strict=True)
        if name in values or all(meaning_of(cell) is not None for cell in column)
    ]  # fmt: skip
    asked = data.draw(st.lists(st.sampled_from(readable), min_size=1, unique=True))
    table = read(tmp_path_factory.mktemp("labels"), names, cells, tuple(asked))
    assert table.labels == tuple(name for name in names if name in asked)
    assert set(table.ignored) == set(names) - set(asked)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "True"), ("0", "No"), ("Y", "No"), ("true", "n"), ("Yes", "False"), ("1.0", "N")]
)
def test_two_notations_in_one_column_are_refused(tmp_path: Path, one: str, other: str) -> None:
    with pytest.raises(DataError, match=r"column 'Fracture' mixes .*; write it in one of these ways"):
        read(tmp_path, ["Fracture"], [[one, other]])
    assert read(tmp_path, ["Fracture"], [["1", "0.0"]]).targets.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("Labels", ["['cardiomegaly', 'effusion']", "[]"]),
        ("whatever", ["Mass|Nodule", "|"]),
        ("diagnosis", ["pneumonia", "normal"]),
        ("Finding Label", ["Mass", "Nodule"]),
        ("class_name", ["Aortic enlargement", "No finding"]),
        ("probability", ["0.2", "0.93"]),
        ("Effusion", ["present", "absent"]),
        ("Effusion", ["-1", "-1"]),
        ("Effusion", ["+", "-"]),
    ],
)
def test_labels_in_a_form_that_is_not_read_are_refused_beside_labels_that_are(
    tmp_path: Path, name: str, cells: list[str]
) -> None:
    with pytest.raises(DataError, match=f"column '{name}' contains .*--label-column"):
        read(tmp_path, ["Mass", name], [["1", "0"], cells])
    assert read(tmp_path, ["Mass", name], [["1", "0"], cells], ("Mass",)).labels == ("Mass",)


def test_a_cell_that_may_be_a_name_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains other text") as caught:
        read(tmp_path, ["Mass"], [["1", "Doe^Jane MRN4711"]])
    assert "Doe" not in str(caught.value)


def test_keywords_of_dicom_are_technical_and_findings_are_not() -> None:
    several = [keyword for *_, keyword in DicomDictionary.values() if sum(map(str.isupper, keyword)) > 1]
    technical = [name for name in several if is_technical(name) and is_technical(f"{name}_DICOM")]
    assert len(technical) > 0.99 * len(several) > 4000
    others = "Lung Opacity,Support Devices,Pleural_Thickening,Sarcoidosis,Enlarged Cardiomediastinum,COVID,Rib fracture"
    assert not [name for name in [*FINDINGS, *others.split(",")] if is_technical(name)]


def test_identifying_unknown_and_repeated_names_are_refused(tmp_path: Path) -> None:
    for columns, message in {
        ("patient",): "identifies the image or the patient",
        ("Mas",): r"which is no column of the table; did you mean Mass\?",
        ("Mass", "Mass"): "names 'Mass' twice",
    }.items():
        with pytest.raises(DataError, match=message):
            read(tmp_path, ["Mass"], [["1", "0"]], columns)


def test_of_nihs_form_some_findings_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("Image Index,Finding Labels,Patient ID,Extra\na.png,Mass|Edema|,01,1\nb.png,No Finding,2,0\n")
    table = read_labels(path, ("Edema", "Hernia"))
    assert (table.labels, table.targets.tolist(), table.layout) == (("Edema", "Hernia"), [[1, 0], [0, 0]], "nih")
    assert read_labels(path, ("Extra",)).labels == ("Extra",)
    assert read_labels(path).ignored == {"Extra": "the labels are in 'Finding Labels'"}
