"""Folders and tables as public sets, spreadsheets and data frames write them, each with its right outcome.

The cases are in the folder of shared data; what is right is said here, by the number that a case's name begins with.
"""

from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS
from data_prep.sources.folder import FolderSource

NO_PATIENT = "no column 'Patient ID'; columns found: .*repeat the image's name"
UNCERTAIN = r"column '\w+' contains -1, uncertain; decide what uncertain means, and write 1, 0 or nothing"
A_LIST = "column 'Labels' contains a list; a label is written as 1 and 0, .*; columns found: .*'PatientID'.*'Labels'"
BOTH = ("Mass", "Edema")

# The labels of a table that is read, or what its refusal says.
OUTCOMES: dict[str, tuple[str, ...] | str] = {
    "03-chexpert/tables/1": NO_PATIENT,
    "03-chexpert/tables/2": UNCERTAIN,
    "03-chexpert/tables/3": "column 'Frontal/Lateral' says that 1 of 7 rows are lateral; keep the frontal rows",
    "03-chexpert/tables/4": "column 'Frontal/Lateral' says that 1 of 7 rows are lateral; keep the frontal rows",
    "04-mimic/tables/1": "no column 'Image Index'; columns found: 'subject_id', 'study_id', 'Atelectasis'",
    "04-mimic/tables/2": UNCERTAIN,
    "04-mimic/tables/3": ("Atelectasis", "Cardiomegaly", "Edema"),
    "04-mimic/tables/4": "column 'ViewPosition' says that 6 of 6 rows are lateral",
    "05-vindr/tables/1": NO_PATIENT,
    "05-vindr/tables/2": NO_PATIENT,
    "05-vindr/tables/3": ("Aortic enlargement", "Atelectasis", "No finding"),
    "05-vindr/tables/4": ("Aortic enlargement", "Atelectasis", "No finding"),
    "06-padchest/tables/1": A_LIST,
    "06-padchest/tables/2": A_LIST,
    "06-padchest/tables/3": A_LIST,
    **{f"08-csv/tables/{number:02d}": BOTH for number in range(1, 44)},
    "08-csv/tables/08": "not UTF-8 text .*; save it as CSV in UTF-8",  # Windows-1252, or another of its kind
    "08-csv/tables/17": UNCERTAIN,
    "08-csv/tables/18": UNCERTAIN,
    "08-csv/tables/22": "row 1, column 'Mass' contains '0.67'; a label is written as",
    "08-csv/tables/26": r"row 1 \('i0.png'\) and row 6 are of the same image",
    "08-csv/tables/27": ("Mass or nodule", "Edema"),
    "08-csv/tables/29": "the first line begins with '#' and names no columns; delete",
    "08-csv/tables/30": ("Mass",),
    "08-csv/tables/31": ("Mass",),
    "08-csv/tables/32": FINDINGS,
    "08-csv/tables/33": "row 2 names an unknown finding .*did you mean Pleural_Thickening",
    "08-csv/tables/34": "row 1 is empty in 'Finding Labels'; write the finding, or 'No Finding'",
    "08-csv/tables/35": "column 'View' says that 1 of 5 rows are lateral",
    "08-csv/tables/41": "columns 'path' and 'Image Index' could both identify the image",
    "08-csv/tables/43": ("Edema",),  # Mass is empty
    "22-padchest-drop/t.csv": A_LIST,
    "23-cr-csv-beside/in/labels.csv": ("Mass",),
    "23-cr-csv-beside/in2/labels.csv": ("Mass",),  # CR line ends
    "25-mixed-encodings/in/labels.csv": "column 'Effusion' contains -1, uncertain",
}


FOLDERS = {case.split("/")[0] for case in OUTCOMES}


def table_of(case: str, cases: Path) -> Path:
    """The table whose name begins as that of the case."""
    path = cases / case
    return path if path.suffix else next(path.parent.glob(f"{path.name}_*"))


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_table_is_read_with_its_own_labels_or_refused_in_one_line(shared_data: Path, case: str) -> None:
    cases, expected = shared_data / "cases", OUTCOMES[case]
    folder = cases / case.split("/")[0] / ("in2" if "/in2/" in case else "in")
    table = None if case.startswith("23") else table_of(case, cases)  # found beside a stray one
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected) as caught:
            FolderSource.open(folder, table)
        assert "\n" not in str(caught.value)
    else:
        source = FolderSource.open(folder, table)
        assert source.table.labels == expected
        assert (source.images_without_row, source.rows_without_image) == (0, 0)


def test_every_table_among_the_cases_has_an_expected_outcome(shared_data: Path) -> None:
    cases = shared_data / "cases"
    known = {table_of(case, cases) for case in OUTCOMES} | {cases / "23-cr-csv-beside" / "in" / "notes.csv"}
    assert known == {table for table in cases.rglob("*.csv") if table.relative_to(cases).parts[0] in FOLDERS}


def test_the_same_table_in_another_dress_says_the_same(shared_data: Path) -> None:
    """Cells, delimiters, encodings, line ends, normal forms, suffixes and folders differ, labels and images do not."""
    case = shared_data / "cases" / "08-csv"
    plain = FolderSource.open(case / "in", table_of("08-csv/tables/01", shared_data / "cases"))
    same = [*range(2, 8), *range(9, 13), 15, 16, 19, 20, 21, 23, 24, 25, 28, 36, 37, 39, 40]
    for number in same:
        source = FolderSource.open(case / "in", table_of(f"08-csv/tables/{number:02d}", shared_data / "cases"))
        targets = dict(zip(source.table.images.tolist(), source.table.targets.tolist(), strict=True))
        expected = dict(zip(plain.table.images.tolist(), plain.table.targets.tolist(), strict=True))
        found = {file: targets[name] for name, file in source.files}
        assert found == {file: expected[name] for name, file in plain.files}, number
        assert bool(source.remarks) == (number == 12)  # .jpg in the table


def test_what_a_user_names_is_taken_and_nothing_else(shared_data: Path) -> None:
    cases = shared_data / "cases"
    for number in (2, 3):
        table = table_of(f"06-padchest/tables/{number}", cases)
        source = FolderSource.open(cases / "06-padchest" / "in", table, columns=("effusion", "cardiomegaly"))
        assert source.table.labels == ("cardiomegaly", "effusion")
        assert source.table.ignored["PixelRepresentation_DICOM"] == "not named with --label-column"
        assert source.table.views.tolist() == ["PA"] * 6
    with pytest.raises(DataError, match=r"names 'Cardiomegaly', which is no column .*did you mean cardiomegaly"):
        FolderSource.open(cases / "06-padchest" / "in", table, columns=("Cardiomegaly",))
    mixed = cases / "25-mixed-encodings" / "in"
    source = FolderSource.open(mixed, columns=("Mass", "Edema", "Nodule", "Hernia"))
    assert source.table.labels == ("Mass", "Edema", "Nodule", "Hernia")
    assert source.table.targets.tolist()[:2] == [[0, 1, 1, 0], [1, 0, 0, 1]]
    with pytest.raises(DataError, match="column 'Effusion' contains -1"):
        FolderSource.open(mixed, columns=("Mass", "Effusion"))
