"""A grammar of label tables as spreadsheets, data frames and databases write them; the truth is the drawn targets.

Every label has a notation of its own. Columns that are no labels stand among them, some with nothing but 0 and 1.
"""

import csv
import gzip
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.case import CANARIES, Case, Format, Random, chance, pick
from data_prep.labels.table import FINDINGS, NO_FINDING, UNKNOWN, LabelTable, read_labels

NOTATIONS: dict[str, tuple[str, str]] = {
    "0/1": ("0", "1"), "0.0/1.0": ("0.0", "1.0"), "0.00/1.00": ("0.00", "1.00"), "False/True": ("False", "True"),
    "FALSE/TRUE": ("FALSE", "TRUE"), "false/true": ("false", "true"), "N/Y": ("N", "Y"), "n/y": ("n", "y"),
    "No/Yes": ("No", "Yes"), "0,0/1,0": ("0,0", "1,0"), "mixed 0 and 1.0": ("0", "1.0"),
}  # fmt: skip
MISSING = ("", "", "", "nan", "NaN", "NA", "N/A", "<NA>", "null", "None")
NAMES = (
    *FINDINGS, "Lung Lesion", "Fracture", "Támara", "Derrame pleural", "胸水", "A,B", "A;B", "(left) effusion", "a\tb",
    'the "white" lung', "Support Devices", "x" * 90,
)  # fmt: skip
OTHERS: dict[str, Callable[[Random], str]] = {
    "Sex": lambda random: pick(random, "MF"),
    "Male": lambda random: str(random.integers(0, 2)),
    "fold": lambda random: str(random.integers(0, 2)),
    "Patient Age": lambda random: str(random.integers(0, 99)),
    "PixelRepresentation_DICOM": lambda random: str(random.integers(0, 2)),
    "Unnamed: 0": lambda random: str(random.integers(0, 10**6)),
    "split": lambda random: pick(random, ["train", "test"]),
    "report": lambda random: f"{pick(random, CANARIES)} was seen, no pneumonia",
    "bbox": lambda random: "" if chance(random, 0.7) else "12",
}


@dataclass
class Truth:
    """What a table says.

    Attributes:
        images: n names.
        patients: n identifiers.
        labels: (n,) of 1, 0 and -1, by name.
    """

    images: list[str]
    patients: list[str]
    labels: dict[str, list[int]]


@dataclass
class Drawn:
    """A table on its way into a file.

    Attributes:
        truth: what it says.
        header: names of the columns.
        rows: cells, as many as the header has names.
        delimiter: between cells.
        end: of a line.
        encoding: of the text.
        before: what stands before the header.
        after: what stands after the last row.
        quoting: of the cells, as in the module csv.
        gzipped: the file is compressed.
        asked: the labels that the user names, none if the table is to say it.
        rules: what was drawn.
        legal: the table is one that is read.
        refuse: why no reading is right, "" if one is.
        change: what happens to the bytes before they are compressed.
        change_file: what happens to the bytes of the file.
    """

    truth: Truth
    header: list[str]
    rows: list[list[str]]
    delimiter: str = ","
    end: str = "\n"
    encoding: str = "utf-8"
    before: str = ""
    after: str = ""
    quoting: int = csv.QUOTE_MINIMAL
    gzipped: bool = False
    asked: tuple[str, ...] = ()
    rules: list[str] = field(default_factory=list)
    legal: bool = True
    refuse: str = ""
    change: Callable[[bytes], bytes] = bytes
    change_file: Callable[[bytes], bytes] = bytes

    def column(self, *names: str) -> int:
        """Return where the first column with one of these names stands."""
        return next(index for index, name in enumerate(self.header) if name in names)


IMAGE_NAMES, PATIENT_NAMES = ("Image Index", "image", "filename", "Path"), ("Patient ID", "patient", "subject_id")


def draw(random: Random) -> Case:
    """Draw a label table; six in ten are legal."""
    drawn = _draw_rows(random)
    _draw_form(drawn, random)
    if chance(random, 0.2) and "nih" not in drawn.rules:
        drawn.asked = tuple(drawn.truth.labels)
    if chance(random, 0.4):
        defect = pick(random, DEFECTS)
        drawn.legal = False
        drawn.rules.append(f"defect: {defect.__name__}")
        defect(drawn, random)
    data = _file(drawn)
    suffix = ".csv.gz" if drawn.gzipped else ".csv"
    return Case(suffix, data, tuple(drawn.rules), drawn.legal, drawn.refuse or drawn.truth, drawn.asked)


def _draw_rows(random: Random) -> Drawn:
    n = int(random.integers(2, 30))
    suffix = pick(random, [".png", ".jpg", ".dcm", ""])
    folder = pick(random, ["", "", "images/", "p10\\s1\\"])
    word = pick(random, ["img", "Ü", CANARIES[0]] if suffix in (".dcm", "") else ["img", "Ü", "a b"])
    images = [f"{folder}{word}{number:03d}{suffix}" for number in range(n)]
    patients = [f"{CANARIES[1]}-{number}" for number in random.integers(0, max(1, n // 2), n).tolist()]
    header = [pick(random, IMAGE_NAMES), pick(random, PATIENT_NAMES)]
    columns = [images, patients]
    if nih := chance(random, 0.2):
        labels, cells = _draw_findings(n, random)
        header.append("Finding Labels")
        columns.append(cells)
    else:
        labels = {}
        for name in random.permutation(NAMES)[: random.integers(1, 6)].tolist():
            labels[name], cells = _draw_label(n, random)
            header.append(name)
            columns.append(cells)
    for name, cell in OTHERS.items():
        if chance(random, 0.2):
            header.append(name)
            columns.append([cell(random) for _ in range(n)])
    if chance(random, 0.2):
        header.append("View Position")
        columns.append([pick(random, ["PA", "AP", ""]) for _ in range(n)])
    order = random.permutation(len(header)).tolist()
    labels = dict(sorted(labels.items(), key=lambda each: order.index(header.index(each[0])))) if not nih else labels
    rows = [[columns[column][row] for column in order] for row in range(n)]
    return Drawn(Truth(images, patients, labels), [header[column] for column in order], rows, rules=["nih"] * nih)


def _draw_label(n: int, random: Random) -> tuple[list[int], list[str]]:
    """Draw targets with both values among them, and the cells that say so."""
    targets = random.choice([0, 1, UNKNOWN], n, p=[0.5, 0.4, 0.1])
    targets[random.permutation(n)[:2]] = [0, 1]
    notation, missing = NOTATIONS[pick(random, NOTATIONS)], pick(random, MISSING)
    return targets.tolist(), [missing if value == UNKNOWN else notation[value] for value in targets.tolist()]


def _draw_findings(n: int, random: Random) -> tuple[dict[str, list[int]], list[str]]:
    present = random.random((n, len(FINDINGS))) < 0.1
    cells = ["|".join(np.array(FINDINGS)[row][random.permutation(row.sum())]) or NO_FINDING for row in present]
    return {name: present[:, index].astype(int).tolist() for index, name in enumerate(FINDINGS)}, cells


def _draw_form(drawn: Drawn, random: Random) -> None:
    drawn.delimiter = pick(random, ",,,;\t")
    drawn.end = pick(random, ["\n", "\n", "\r\n", "\r"])
    drawn.encoding = pick(random, ["utf-8", "utf-8", "utf-8-sig", "utf-16"])
    drawn.quoting = pick(random, [csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    drawn.gzipped = chance(random, 0.2)
    if chance(random, 0.1):
        drawn.before = f"sep={drawn.delimiter}{drawn.end}"
    if chance(random, 0.1):
        drawn.after = pick(random, [drawn.end, drawn.delimiter * (len(drawn.header) - 1) + drawn.end]) * 3
    if chance(random, 0.1):  # spreadsheets write columns that were emptied
        drawn.header, drawn.rows = [*drawn.header, "", ""], [[*row, "", ""] for row in drawn.rows]
    drawn.rules += [repr(drawn.delimiter), repr(drawn.end), drawn.encoding, f"quoting {drawn.quoting}"]


def _file(drawn: Drawn) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=drawn.delimiter, lineterminator=drawn.end, quoting=drawn.quoting)  # type: ignore[arg-type]
    writer.writerows([drawn.header, *drawn.rows])
    data = drawn.change((drawn.before + text.getvalue() + drawn.after).encode(drawn.encoding))
    return drawn.change_file(gzip.compress(data, 1) if drawn.gzipped else data)


def _cell(drawn: Drawn, random: Random, *columns: str) -> tuple[int, int]:
    return int(random.integers(len(drawn.rows))), drawn.column(*columns)


def _a_label(drawn: Drawn, random: Random) -> str:
    names = [name for name in drawn.truth.labels if name in drawn.header]
    return pick(random, names) if names else "Finding Labels"


def _other_notation(drawn: Drawn, random: Random) -> None:
    """Put one cell into a label that its notation does not have: the label must not vanish."""
    row, column = _cell(drawn, random, _a_label(drawn, random))
    cells = [
        "2",
        "-1",
        "-1.0",
        "0.5",
        "maybe",
        "u",
        "?",
        "positive",
        "1 1",
        "0x1",
        "١",
        "1/0",
        CANARIES[0],
        "Mass|",
        "[1]",
    ]
    drawn.rows[row][column] = pick(random, cells)
    drawn.rules.append(f"cell {drawn.rows[row][column]!r}")
    drawn.refuse = "a cell of a label is none"
    if drawn.rows[row][column] == "Mass|" and drawn.header[column] == "Finding Labels":  # which NIH's form allows
        drawn.truth.labels = {
            name: [int(name == "Mass") if at == row else value for at, value in enumerate(values)]
            for name, values in drawn.truth.labels.items()
        }
        drawn.refuse = ""


def _mixed_notations(drawn: Drawn, random: Random) -> None:
    column = drawn.column(_a_label(drawn, random))
    row = next(row for row, cells in enumerate(drawn.rows) if cells[column] not in MISSING)
    before = drawn.rows[row][column]
    drawn.rows[row][column] = "Yes" if before.casefold() in ("true", "false", "0", "1", "0.0", "1.0") else "TRUE"
    drawn.refuse = "a label has two notations"


def _ragged(drawn: Drawn, random: Random) -> None:
    row = drawn.rows[int(random.integers(len(drawn.rows)))]
    if chance(random, 0.5):
        row.pop(int(random.integers(len(row))))
    else:
        row.insert(int(random.integers(len(row))), pick(random, ["1", "x", CANARIES[0]]))
    drawn.refuse = "" if drawn.header[-1] == "" else "a row has another number of cells"


def _empty_name(drawn: Drawn, random: Random) -> None:
    row, column = _cell(drawn, random, *pick(random, [IMAGE_NAMES, PATIENT_NAMES]))
    drawn.rows[row][column] = pick(random, ["", "  ", "\u00a0"])
    drawn.refuse = "a row does not say which image or patient"


def _repeated_image(drawn: Drawn, random: Random) -> None:
    drawn.rows.insert(int(random.integers(len(drawn.rows))), list(pick(random, drawn.rows)))
    drawn.refuse = "an image has two rows"


def _no_role(drawn: Drawn, random: Random) -> None:
    drawn.header[drawn.column(*pick(random, [IMAGE_NAMES, PATIENT_NAMES]))] = pick(random, ["", "key", "Mass_", "Age"])
    drawn.refuse = "no column names the image, or the patient"


def _two_roles(drawn: Drawn, random: Random) -> None:
    name = pick(random, [pick(random, IMAGE_NAMES), pick(random, PATIENT_NAMES)])
    drawn.header.append(name)
    drawn.rows = [[*row, row[0]] for row in drawn.rows]
    drawn.refuse = "two columns could name the image, or the patient"


def _repeated_label(drawn: Drawn, random: Random) -> None:
    name = _a_label(drawn, random)
    column = drawn.column(name)
    drawn.header.append(pick(random, [name, name.upper(), f" {name}"]))
    drawn.rows = [[*row, row[column]] for row in drawn.rows]
    if drawn.header[-1].strip() in drawn.asked or not drawn.asked:  # else it is one that nobody asked for
        drawn.refuse = "two labels have the same name"


def _long_cell(drawn: Drawn, random: Random) -> None:
    """Write a cell as long as a book, in any column; text beside the labels may be that long."""
    row, column = _cell(drawn, random, pick(random, drawn.header))
    drawn.rows[row][column] = "x" * int(random.choice([1025, 131_072, 131_073, 1_000_000]))
    drawn.refuse = "a name or a label is that long"
    if drawn.header[column] in OTHERS or drawn.header[column] in ("", "View Position"):
        drawn.refuse = ""


def _strange_characters(drawn: Drawn, random: Random) -> None:
    row, column = _cell(drawn, random, *pick(random, [IMAGE_NAMES, PATIENT_NAMES]))
    drawn.rows[row][column] += pick(random, ["\x1b[31m", "\0", "\x7f", "\u202e", "\n", "\r\n", "\u2028"]) + "x"
    drawn.refuse = "a name holds a control character"


def _other_bytes(drawn: Drawn, random: Random) -> None:
    """Put bytes into the text that are none of its encoding."""
    bad = pick(random, [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\0", b"\xfe\xff", b"\x80abc"])

    def change(data: bytes) -> bytes:
        place = int(random.integers(len(data) // 2, len(data)))
        return data[:place] + bad + data[place:]

    drawn.change = change
    drawn.refuse = "bytes are no text" if drawn.encoding != "utf-16" else ""
    drawn.truth = drawn.truth if drawn.refuse else None  # type: ignore[assignment]  # in UTF-16 they may be a cell's text


def _other_encoding(drawn: Drawn, random: Random) -> None:
    drawn.encoding = pick(random, ["latin-1", "cp1252", "utf-16-le", "utf-16-be", "utf-32"])
    drawn.header = [name.replace("胸水", "ä") for name in drawn.header]
    drawn.truth.labels = {name.replace("胸水", "ä"): values for name, values in drawn.truth.labels.items()}
    drawn.rules.append(drawn.encoding)


def _quotes(drawn: Drawn, random: Random) -> None:
    """Put a quotation mark where it opens or closes what it should not."""
    mark = pick(random, [b'"', b'""', b'"x', b'\n"', b'",'])

    def change(data: bytes) -> bytes:
        place = int(random.integers(len(data)))
        return data[:place] + mark + data[place:]

    drawn.change = change
    drawn.truth = None  # type: ignore[assignment]  # it may be part of a name


def _cut(drawn: Drawn, random: Random) -> None:
    """Cut the file; a table that ends after a whole row is a smaller table."""
    share = float(random.random())
    drawn.change_file = lambda data: data[: int(share * len(data))]
    if drawn.gzipped:
        drawn.refuse = "the file is cut"
    else:
        drawn.truth = None  # type: ignore[assignment]


def _bomb(drawn: Drawn, random: Random) -> None:
    drawn.gzipped = True
    drawn.after = drawn.end * int(random.choice([3_000_000, 20_000_000]))
    drawn.encoding = "utf-8"


def _damaged_gzip(drawn: Drawn, random: Random) -> None:
    drawn.gzipped = True

    def change(data: bytes) -> bytes:
        place = int(random.choice([0, 2, len(data) // 2, len(data) - 6, len(data) - 2]))
        return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]

    drawn.change_file = pick(random, [change, lambda data: data + b"garbage", lambda data: data + data[:20]])
    drawn.refuse = "the compressed file is damaged"


def _many_columns(drawn: Drawn, random: Random) -> None:
    count = int(random.choice([4000, 5000, 200_000]))
    drawn.header += [f"Patient Age {number}" for number in range(count)]
    drawn.rows = [row + ["7"] * count for row in drawn.rows[:3]]
    drawn.truth = None  # type: ignore[assignment]


def _nothing(drawn: Drawn, random: Random) -> None:
    content = pick(
        random, [b"", b"\xef\xbb\xbf", b"\n" * 100, b"image,patient,Mass\n", b"\xff\xfe", b"sep=,\n", b"\0" * 50, b","]
    )
    drawn.change = lambda _: content
    drawn.refuse = "there is no table"


def _laterals(drawn: Drawn, random: Random) -> None:
    if "View Position" not in drawn.header:
        drawn.header.append("View Position")
        drawn.rows = [[*row, "PA"] for row in drawn.rows]
    row, column = _cell(drawn, random, "View Position")
    drawn.rows[row][column] = pick(random, ["LATERAL", "LL", "L"])
    drawn.refuse = "the table shows laterals"


def _comment_lines(drawn: Drawn, random: Random) -> None:
    drawn.before = pick(random, ["# made by a program\n", "Title of the table\n", ",,,\n", "Report, of 2024\n"])
    drawn.encoding = "utf-8"


DEFECTS: tuple[Callable[[Drawn, Random], None], ...] = (
    _other_notation, _other_notation, _other_notation, _mixed_notations, _ragged, _empty_name, _repeated_image,
    _no_role, _two_roles, _repeated_label, _long_cell, _long_cell, _strange_characters, _other_bytes, _other_encoding,
    _quotes, _cut, _bomb, _damaged_gzip, _many_columns, _nothing, _laterals, _comment_lines,
)  # fmt: skip


def read(case: Case) -> LabelTable:
    """Read the table as an ingest does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"labels{case.suffix}")
        path.write_bytes(case.data)
        return read_labels(path, case.asked)


def difference(table: LabelTable, truth: Truth | str) -> str:
    """Say in what a table that was read differs from what was drawn; "" if in nothing."""
    if isinstance(truth, str):
        return f"taken, although {truth}"
    labels = {" ".join(name.split()): values for name, values in truth.labels.items()}
    if set(table.labels) != set(labels):
        return f"labels {sorted(set(table.labels) ^ set(labels))} are lost or invented"
    if table.images.tolist() != truth.images or table.patients.tolist() != truth.patients:
        return "other images or patients"
    targets = np.array([labels[name] for name in table.labels]).T
    return "" if np.array_equal(table.targets, targets) else f"{(table.targets != targets).sum()} other targets"


FORMAT = Format(draw, read, difference)
