"""GLUE from official files, Microsoft's and the hub's tables: the real ones, small ones made here, and broken ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from data_prep.errors import DataError
from data_prep.fetch import hub_table
from data_prep.text.benchmarks import GLUE
from data_prep.text.glue import HUB_DEV, HUB_TRAIN, MSR_TEST, MSR_TRAIN, read_glue
from data_prep.text.task import TextTask

Row = tuple[str, str, int]
ROWS: list[Row] = [(f'The "first of {i} .', f"Second, {i // 2}", i % 2) for i in range(30)]
DEV: list[Row] = [(f"Dev {i}", f"Other dev {i}", i % 2) for i in range(8)]


def write_tsv(path: Path, name: str, rows: Sequence[Row]) -> None:
    facts = GLUE[name]
    names = facts.classes if facts.named else ("0", "1")
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "cola":
        lines = [f"gj04\t{label}\t*\t{first}" for first, _, label in rows]
    elif name == "sst2":
        lines = ["sentence\tlabel", *(f"{first}\t{label}" for first, _, label in rows)]
    elif name == "mrpc":
        lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        lines += [f"{label}\t1\t2\t{first}\t{second}" for first, second, label in rows]
    else:
        lines = ["\t".join(["index", *map(str, facts.columns)])]
        lines += [f"{i}\t{first}\t{second}\t{names[label]}" for i, (first, second, label) in enumerate(rows)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_table(path: Path, name: str, rows: Sequence[Row]) -> None:
    first, second, label = GLUE[name].hub_columns
    columns = {first: [row[0] for row in rows], label: [row[2] for row in rows], "idx": list(range(len(rows)))}
    if second is not None:
        columns[second] = [row[1] for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)


def write_official(folder: Path, name: str) -> None:
    for file, rows in (("train.tsv", ROWS), ("dev.tsv", DEV)):
        write_tsv(folder / GLUE[name].folder / file, name, rows)


def one(folder: Path, name: str, seed: int = 0) -> TextTask:
    return read_glue(folder, (name,), seed=seed)[name]


def test_the_real_files_have_their_sizes_and_say_what_they_are(shared_data: Path) -> None:
    tasks = read_glue(shared_data / "glue", seed=0)
    sizes = {name: (len(task.train) + len(task.val), len(task.test)) for name, task in tasks.items()}
    assert sizes == {
        "cola": (8551, 1043),
        "mrpc": (4076, 1725),
        "qnli": (4916, 547),
        "rte": (2489, 277),
        "sst2": (60614, 872),
    }
    assert not any(task.skipped for task in tasks.values())
    shares = {name: round(float(task.test.labels.mean()), 3) for name, task in tasks.items()}
    assert shares == {"cola": 0.691, "mrpc": 0.665, "qnli": pytest.approx(0.5, abs=0.05), "rte": 0.473, "sst2": 0.509}
    assert {name: (task.metrics, task.train.second is not None) for name, task in tasks.items()} == {
        "cola": (("matthews",), False),
        "mrpc": (("accuracy", "f1"), True),
        "qnli": (("accuracy",), True),
        "rte": (("accuracy",), True),
        "sst2": (("accuracy",), False),
    }
    assert tasks["cola"].notes == ()
    assert "their test part, not on the 408 pairs of GLUE's dev part" in tasks["mrpc"].notes[0]
    assert "all three parts are drawn from the 5463 rows of the dev part" in tasks["qnli"].notes[-1]
    assert tasks["sst2"].notes == ("train.tsv: 60614 rows, the published file has 67349",)
    assert 'whom he called "the witness",' in tasks["mrpc"].train.first[0]


def test_no_question_or_premise_is_in_two_parts_that_were_cut_here(shared_data: Path) -> None:
    for name, task in read_glue(shared_data / "glue", ("qnli", "rte", "mrpc"), seed=3).items():
        assert not set(task.train.first) & set(task.val.first)
        if name == "qnli":
            assert not set(task.train.first + task.val.first) & set(task.test.first)


@pytest.mark.parametrize("name", GLUE)
def test_official_files_and_the_hubs_tables_give_the_same_task(tmp_path: Path, name: str) -> None:
    write_official(tmp_path / "official", name)
    for file, rows in ((HUB_TRAIN, ROWS), (HUB_DEV, DEV)):
        write_table(tmp_path / "hub" / name / file, name, rows)
    official, hub = one(tmp_path / "official", name), one(tmp_path / "hub", name)
    assert official.fingerprint == hub.fingerprint
    assert official.test.first == tuple(row[0] for row in DEV)
    assert official.test.labels.tolist() == [row[2] for row in DEV]
    assert len(official.train) + len(official.val) == len(ROWS)
    assert 'The "first of 0 .' in official.train.first + official.val.first
    assert one(tmp_path / "hub", name, seed=1).fingerprint != hub.fingerprint


def test_microsofts_files_are_read_with_their_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    write_official(tmp_path, "mrpc")
    plain = one(tmp_path, "mrpc")
    for old, new in (("train.tsv", MSR_TRAIN), ("dev.tsv", MSR_TEST)):
        path = tmp_path / "MRPC" / old
        (tmp_path / "MRPC" / new).write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        path.unlink()
    assert one(tmp_path, "mrpc").fingerprint == plain.fingerprint


def test_a_dev_part_alone_is_split_in_three(tmp_path: Path) -> None:
    write_tsv(tmp_path / "QNLI" / "dev.tsv", "qnli", ROWS)
    task = one(tmp_path, "qnli")
    assert len(task.train) + len(task.val) + len(task.test) == len(ROWS)
    assert len(task.test) == 3
    assert "no training part found" in task.notes[-1]


def test_a_limit_caps_the_training_part_alone(tmp_path: Path) -> None:
    write_official(tmp_path, "rte")
    whole, capped = (read_glue(tmp_path, ("rte",), seed=0, limit=limit)["rte"] for limit in (None, 5))
    assert len(capped.train) == 5
    assert [capped.val.fingerprint, capped.test.fingerprint] == [whole.val.fingerprint, whole.test.fingerprint]


def test_rows_without_a_text_are_skipped_and_counted(tmp_path: Path) -> None:
    write_official(tmp_path, "rte")
    write_tsv(tmp_path / "RTE" / "train.tsv", "rte", [*ROWS, (" ", "second", 0), ("first", "", 1)])
    task = one(tmp_path, "rte")
    assert task.skipped == 2
    assert "2 rows without a text left out" in task.notes
    assert len(task.train) + len(task.val) == len(ROWS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "only\ttwo",
            r"train.tsv: line 32 has 2 columns instead of 4; correct it or get them by hand: hf download nyu-mll",
        ),
        ("9\ta\tb\tentails", r"line 32 has the label 'entails'; RTE has entailment, not_entailment"),
        ("9\ta\tb\t0", r"line 32 has the label '0'"),
    ],
)
def test_a_row_of_another_format_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_official(tmp_path, "rte")
    with (tmp_path / "RTE" / "train.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        one(tmp_path, "rte")


def test_missing_files_columns_texts_and_tasks_are_refused(tmp_path: Path) -> None:
    remedy = rf"hf download nyu-mll/glue rte/{HUB_TRAIN} rte/{HUB_DEV} --repo-type dataset --local-dir {tmp_path}"
    with pytest.raises(DataError, match=rf"RTE/dev.tsv: not there; get them by hand: {remedy}"):
        one(tmp_path, "rte")
    write_tsv(tmp_path / "RTE" / "dev.tsv", "qnli", DEV)
    with pytest.raises(DataError, match=r"no column 'sentence1'; the first line has index, question, sentence, label"):
        one(tmp_path, "rte")
    write_tsv(tmp_path / "RTE" / "dev.tsv", "rte", [])
    with pytest.raises(DataError, match="no row from here on has a text"):
        one(tmp_path, "rte")
    (tmp_path / "RTE" / "dev.tsv").write_bytes("index\tsentence1\tsentence2\tlabel\n0\tcafé\t".encode("latin-1"))
    with pytest.raises(DataError, match=r"dev.tsv: line 2 is not UTF-8 \(byte 0xe9\)"):
        one(tmp_path, "rte")
    with pytest.raises(DataError, match=r"there is no GLUE task 'sst-2' here; did you mean sst2\?"):
        one(tmp_path, "sst-2")


def hub(folder: Path) -> Path:
    for file, rows in ((HUB_TRAIN, ROWS), (HUB_DEV, DEV)):
        write_table(folder / "rte" / file, "rte", rows)
    return folder / "rte" / HUB_TRAIN


def test_a_cut_or_changed_table_is_refused_in_one_line(tmp_path: Path) -> None:
    path = hub(tmp_path)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    broken = [raw[:-1], raw[: len(raw) // 2], b"", b"<html>404</html>"]
    for _ in range(100):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), 8):
            damaged[place] = rng.integers(256)
        broken.append(bytes(damaged))
    said = []
    for content in broken:
        path.write_bytes(content)
        try:
            one(tmp_path, "rte")
        except DataError as error:
            said.append(str(error))
    assert len(said) > len(broken) // 2  # not every byte matters
    assert not any("\n" in message for message in said)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"sentence1": ["a"], "label": [0]},
            "no column 'sentence2'; columns found: sentence1, label; get them by hand",
        ),
        ({"sentence1": ["a", None], "sentence2": ["b", "b"], "label": [0, 1]}, "row 2 is empty in .*'sentence1'"),
        ({"sentence1": ["a", "a"], "sentence2": ["b", "b"], "label": [0, None]}, "row 2 is empty in .*'label'"),
        ({"sentence1": [1], "sentence2": ["b"], "label": [0]}, "column 'sentence1' holds int64, not texts"),
        ({"sentence1": ["a"], "sentence2": ["b"], "label": ["x"]}, "column 'label' holds string, not whole numbers"),
        ({"sentence1": ["a"], "sentence2": ["b"], "label": [-1]}, "row 1 has the label '-1'; RTE has 0, 1"),
        (
            {"sentence1": ["a" * 20_001], "sentence2": ["b"], "label": [0]},
            "row 1 has 20001 characters in .*'sentence1'",
        ),
    ],
)
def test_a_table_with_other_content_is_refused(tmp_path: Path, columns: dict[str, list], message: str) -> None:
    path = hub(tmp_path)
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=message):
        one(tmp_path, "rte")


def test_a_small_table_that_stands_for_much_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub(tmp_path)
    many = 200_000
    columns = {"sentence1": ["x" * 10_000] * many, "sentence2": ["y"] * many, "label": [0] * many}
    arrays = {name: pyarrow.array(values[:1]).take(pyarrow.array([0] * 1)) for name, values in columns.items()}
    indices = pyarrow.array(np.zeros(many, dtype=np.int32))
    texts = {name: pyarrow.DictionaryArray.from_arrays(indices, arrays[name]) for name in ("sentence1", "sentence2")}
    parquet.write_table(pyarrow.table({**texts, "label": columns["label"]}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"268440000 in all rows so far; at most 20000 and 268435456 are read"):
        one(tmp_path, "rte")
    monkeypatch.setattr(hub_table, "MAX_ROWS", 1000)
    with pytest.raises(DataError, match=r"200000 rows and \d+ bytes; at most 1000 rows"):
        one(tmp_path, "rte")
