"""The six sentence sets: the real files, small ones made here, and broken ones."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.text.benchmarks import SENTIMENT
from data_prep.text.sentiment import read_sentiment
from tests.data_prep.sentence_files import write_sentiment


def test_the_real_files_have_their_published_sizes_classes_and_parts(shared_data: Path) -> None:
    tasks = read_sentiment(shared_data / "sentiment", seed=0, keep_overlap=True)
    sizes = {name: (len(task.train), len(task.val), len(task.test), task.skipped) for name, task in tasks.items()}
    assert sizes == {
        "mr": (8636, 960, 1066, 0),
        "sst": (6920, 872, 1821, 0),
        "subj": (8100, 900, 1000, 0),
        "cr": (3055, 339, 377, 4),
        "mpqa": (8589, 954, 1060, 3),
        "trec": (4907, 545, 500, 0),
    }
    for name, task in tasks.items():
        counts = Counter(label for part in (task.train, task.val, task.test) for label in part.labels.tolist())
        assert sorted(counts) == list(range(len(task.classes)))
        assert sum(counts.values()) + task.skipped == sum(SENTIMENT[name].rows)
    assert Counter(tasks["trec"].test.labels.tolist()) == {0: 138, 1: 94, 2: 9, 3: 65, 4: 81, 5: 113}
    accented = [word for text in tasks["mr"].train.first for word in text.split() if not word.isascii()]
    assert "cliché" in accented
    assert not any("\x80" <= c <= "\x9f" for task in tasks.values() for text in task.train.first for c in text)


@pytest.mark.parametrize("name", SENTIMENT)
def test_the_registered_lengths_and_sums_are_those_of_the_real_files(shared_data: Path, name: str) -> None:
    for file in SENTIMENT[name].files:
        raw = (shared_data / "sentiment" / file.name).read_bytes()
        assert (len(raw), hashlib.md5(raw).hexdigest()) == (file.bytes, file.md5)


@pytest.mark.parametrize("name", SENTIMENT)
def test_official_parts_stand_and_the_others_follow_the_seed(tmp_path: Path, name: str) -> None:
    write_sentiment(tmp_path, name)
    one, same, other = (read_sentiment(tmp_path, (name,), seed=seed)[name] for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint
    facts = SENTIMENT[name]
    assert (one.test.fingerprint == other.test.fingerprint) == (facts.test is not None)
    assert (one.val.fingerprint == other.val.fingerprint) == (facts.val is not None)
    assert len(one.train) + len(one.val) + len(one.test) == 40 + 10 * (len(facts.files) - 1)
    assert any("the published file has" in note for note in one.notes)


def test_what_else_is_read_changes_no_part(tmp_path: Path) -> None:
    for name in ("mr", "cr"):
        write_sentiment(tmp_path, name)
    together = read_sentiment(tmp_path, ("cr", "mr"), seed=5)
    assert list(together) == ["cr", "mr"]
    assert together["mr"].fingerprint == read_sentiment(tmp_path, ("mr",), seed=5)["mr"].fingerprint


def test_the_ten_folds_test_every_sentence_once(tmp_path: Path) -> None:
    write_sentiment(tmp_path, "subj")
    write_sentiment(tmp_path, "trec")
    folds = [read_sentiment(tmp_path, ("subj", "trec"), seed=0, fold=(i, 10)) for i in range(10)]
    assert len({sentence for fold in folds for sentence in fold["subj"].test.first}) == 40
    assert len({fold["trec"].fingerprint for fold in folds}) == 1  # it has an official test part
    assert all(not set(fold["subj"].train.first) & set(fold["subj"].test.first) for fold in folds)


def test_a_limit_holds_for_training_sentences_after_the_overlap_is_gone(shared_data: Path) -> None:
    folder = shared_data / "sentiment"
    for keep in (True, False):
        tasks = read_sentiment(folder, ("mr", "sst"), seed=0, limit=2000, keep_overlap=keep)
        assert [len(task.train) for task in tasks.values()] == [2000, 2000]
        assert len(tasks["sst"].test) == 1821


def test_lines_without_a_text_are_skipped_and_counted(tmp_path: Path) -> None:
    write_sentiment(tmp_path, "cr")
    with (tmp_path / "custrev.all").open("a") as file:
        file.write("1 \n\n0\n1 good\n")
    task = read_sentiment(tmp_path, ("cr",), seed=0)["cr"]
    assert task.skipped == 3
    assert "3 lines without a text left out" in task.notes
    assert len(task.train) + len(task.val) + len(task.test) == 41


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 a third class", r"line 41 begins with '2'; a line is LABEL TEXT with a label of 0, 1: correct it or get"),
        ("positive words", r"line 41 begins with 'positive'"),
        ("1\ttab between", r"line 41 begins with '1\\tt"),
    ],
)
def test_a_line_of_another_format_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_sentiment(tmp_path, "mr")
    with (tmp_path / "rt-polarity.all").open("a") as file:
        file.write(line + " and more\n")
    with pytest.raises(DataError, match=message):
        read_sentiment(tmp_path, ("mr",), seed=0)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"stsa.binary.train: not there; get it by hand: curl -L --create-dirs -o .*http"
    ):
        read_sentiment(tmp_path, ("sst",), seed=0)


def test_files_without_any_text_and_unknown_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rt-polarity.all").write_text("1 \n0 \n")
    with pytest.raises(DataError, match=r"rt-polarity.all: no line has a text"):
        read_sentiment(tmp_path, ("mr",), seed=0)
    with pytest.raises(DataError, match=r"there is no sentence set 'subjj'; did you mean subj\?"):
        read_sentiment(tmp_path, ("subjj",), seed=0)
