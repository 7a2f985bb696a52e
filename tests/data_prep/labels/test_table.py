"""Label tables, whole and broken."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels import csv_table
from data_prep.labels.table import FINDINGS, read_labels

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
HEADER_2017 = NIH_HEADER + ","


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def nih_row(image: str = "00000001_000.png", findings: str = "No Finding", patient: str = "1", view: str = "PA") -> str:
    return f"{image},{findings},0,{patient},58,M,{view},2682,2749,0.143,0.143"


@pytest.mark.parametrize(("header", "end"), [(NIH_HEADER, ""), (HEADER_2017, ","), (HEADER_2017, "")])
def test_the_headers_of_2017_and_2020_give_the_same_table(tmp_path: Path, header: str, end: str) -> None:
    path = write(tmp_path, f"{header}\n{nih_row(findings='Mass|Hernia', patient='0013', view='AP')}{end}\n")
    table = read_labels(path)
    assert table.layout == "nih"
    assert table.labels == FINDINGS
    assert table.patients.tolist() == ["13"]
    assert table.views.tolist() == ["AP"]
    assert [FINDINGS[i] for i in np.flatnonzero(table.targets[0])] == ["Mass", "Hernia"]


def test_stray_spaces_blank_lines_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    clean = read_labels(write(tmp_path, f"{NIH_HEADER}\n{nih_row(findings='Mass|Edema')}\n"))
    spaced_row = nih_row(findings=" Mass | Edema ").replace(",", " , ")
    spaced = read_labels(write(tmp_path, f"\ufeff {NIH_HEADER.replace(',', ' ,')}\r\n\r\n{spaced_row}\r\n\r\n"))
    assert spaced.images.tolist() == clean.images.tolist()
    assert spaced.patients.tolist() == clean.patients.tolist()
    assert (spaced.targets == clean.targets).all()


@given(st.lists(st.sets(st.sampled_from(FINDINGS)), min_size=1, max_size=20))
def test_findings_written_in_nihs_way_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[set[str]]
) -> None:
    lines = [nih_row(f"{i}.png", "|".join(sorted(row)) or "No Finding") for i, row in enumerate(rows)]
    table = read_labels(write(tmp_path_factory.mktemp("labels"), "\n".join([NIH_HEADER, *lines])))
    read = [{FINDINGS[i] for i in np.flatnonzero(targets)} for targets in table.targets]
    assert read == rows


@given(st.lists(st.tuples(*[st.sampled_from([1, 0, -1])] * 3), min_size=1, max_size=20))
def test_one_column_per_label_is_read_back_with_its_unknowns(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    cells = {1: "1", 0: "0.0", -1: ""}
    lines = [f"{i}.png,p{i},{','.join(cells[value] for value in row)}" for i, row in enumerate(rows)]
    labels = ("Fracture", "Pleural Fluid", "Device")
    text = "\n".join([",".join(["FileName", "Subject_ID", *labels]), *lines])
    table = read_labels(write(tmp_path_factory.mktemp("labels"), text), labels)
    assert table.layout == "columns"
    assert table.labels == ("Fracture", "Pleural Fluid", "Device")
    assert table.targets.tolist() == [list(row) for row in rows]
    assert table.targets.dtype == np.int8


def test_columns_that_describe_are_no_labels_and_are_named(tmp_path: Path) -> None:
    text = "image,patient,sex,age,report,View,Mass,ward\na.png,x,1,1,clear,pa,1,east\nb.png,y,0,80,,AP erect,,west\n"
    table = read_labels(write(tmp_path, text))
    assert table.labels == ("Mass",)
    assert table.views.tolist() == ["PA", "AP"]
    assert table.ignored == {
        **dict.fromkeys(["sex", "age", "report"], "a technical column"), "ward": "text or numbers that are no label"
    }  # fmt: skip


def test_patients_of_a_foreign_table_keep_their_leading_zeros(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path, "image,patient,Mass\na.png,007,1\nb.png,7,0\n"))
    assert table.patients.tolist() == ["007", "7"]


def test_a_compressed_table_is_the_same_table(tmp_path: Path) -> None:
    text = f"{NIH_HEADER}\n{nih_row()}\n"
    plain = read_labels(write(tmp_path, text))
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_labels(packed).images.tolist() == plain.images.tolist()
    assert read_labels(packed).sha256 != plain.sha256  # it is of the bytes on disk


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NIH_HEADER.replace("Patient ID", "Person") + "\n" + nih_row(),
            r"no column 'Patient ID'; columns found: 'Image I",
        ),
        (NIH_HEADER.replace("Image Index", "Picture") + "\n" + nih_row(), r"no column 'Image Index'; columns found"),
        ("Image Index,Patient ID\na,1\n", r"no column 'Finding Labels' .*columns found: 'Image Index', 'Patient ID'"),
        ("Image Index,Patient ID,Finding Label\na,1,Mass\n", r"no column 'Finding Labels'.*'Finding Label'"),
        (
            f"{NIH_HEADER}\n{nih_row(findings='Efusion')}\n",
            r"unknown finding in 'Finding L.*did you mean Effusion\?",
        ),
        (f"{NIH_HEADER}\n{nih_row(findings='Pleural Thickening')}\n", r"did you mean Pleural_Thickening\?"),
        (
            f"{NIH_HEADER}\n{nih_row(findings='No Finding|Mass')}\n",
            r"'No Finding' .*cannot be combined with other findings",
        ),
        (
            "image,patient,Finding Labels,finding_labels\na.png,1,Mass,Hernia\n",
            r"columns 'Finding Labels' and 'finding_labels' could both hold the findings",
        ),
        ('image\tpatient\tMass\n"a"b\t1\t1\n', r"not a CSV table \('\\x09' expected"),
        (f"{NIH_HEADER}\n{nih_row()}\n{nih_row()}\n", r"row 1 \('00000001_000.png'\) and row 2 are of the same image"),
        (f"{NIH_HEADER}\n{nih_row(patient=' ')}\n", r"row 1 is empty in column 'Patient ID'"),
        (f"{NIH_HEADER}\n{nih_row()[:39]}\n", r"row 1 has 7 cells, the header has 11 columns"),
        (f"{NIH_HEADER}\n{nih_row()},more\n", r"row 1 has 12 cells"),
        (
            "image,patient,Mass\na.png,1,1\nb.png,2,yes\n",
            r"column 'Mass' mixes 1 and 0 with Yes and No",
        ),
        ("image,patient,Mass,Mass\na.png,1,1,0\n", r"two columns are named 'Mass'"),
        ("image,file,patient,Mass\na.png,b,1,1\n", r"columns 'image' and 'file' could both"),
        ("image,patient,Mass\n", r"has no rows"),
        ("", r"no rows below the 0 names"),
        ('image,patient,Mass\n"a.png,1,1\n', r"not a CSV table"),
    ],
)
def test_a_broken_table_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_expands_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 200_000))
    monkeypatch.setattr(csv_table, "FREE_EXPANSION_BYTES", 10_000)
    with pytest.raises(DataError, match=r"bytes decompress to more than \d+, the limit"):
        read_labels(path)


def test_a_truncated_gzip_and_a_missing_or_binary_file_are_named(tmp_path: Path) -> None:
    packed = tmp_path / "cut.csv.gz"
    packed.write_bytes(gzip.compress(NIH_HEADER.encode() * 9)[:-20])
    with pytest.raises(DataError, match="not a complete gzip file"):
        read_labels(packed)
    with pytest.raises(DataError, match=r"none\.csv: the table cannot be read \(No such file"):
        read_labels(tmp_path / "none.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_labels(binary)
    with pytest.raises(DataError, match=r"must be named \*\.csv"):
        read_labels(tmp_path / "table.xlsx")


def test_the_official_table_has_the_published_counts(shared_data: Path) -> None:
    table = read_labels(shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz")
    assert len(table.images) == 112_120
    assert len(set(table.patients.tolist())) == 30_805
    assert dict(zip(table.labels, table.targets.sum(axis=0).tolist(), strict=True)) == {
        "Atelectasis": 11_559, "Cardiomegaly": 2_776, "Effusion": 13_317, "Infiltration": 19_894, "Mass": 5_782,
        "Nodule": 6_331, "Pneumonia": 1_431, "Pneumothorax": 5_302, "Consolidation": 4_667, "Edema": 2_303,
        "Emphysema": 2_516, "Fibrosis": 1_686, "Pleural_Thickening": 3_385, "Hernia": 227,
    }  # fmt: skip
    assert (table.targets.sum(axis=1) == 0).sum() == 60_361  # "No Finding"
    assert set(table.views.tolist()) == {"PA", "AP"}
