"""Word vectors from GloVe's and word2vec's text files, whole, packed and broken."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.text import word_vectors
from data_prep.text.vocabulary import Vocabulary
from data_prep.text.word_vectors import WordVectors, read_word_vectors

VOCABULARY = Vocabulary(("<padding>", "<unknown>", "film", "gem", "n't", "."), 9)
LINES = "the 9 9 9\nfilm 1 2.5 -3e-1\nn't 4 5 6\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    return path


def zipped(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "glove.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def read(path: Path, dimensions: int | None = None) -> WordVectors:
    return read_word_vectors(path, VOCABULARY, seed=0, dimensions=dimensions)


def test_the_vocabularys_words_are_kept_in_its_order(tmp_path: Path) -> None:
    vectors = read(write(tmp_path, LINES))
    assert (vectors.values.dtype, vectors.values.shape) == (np.float32, (6, 3))
    assert vectors.values[2].tolist() == np.float32([1, 2.5, -0.3]).tolist()
    assert vectors.values[4].tolist() == [4, 5, 6]
    assert vectors.values[0].tolist() == [0, 0, 0]
    assert vectors.found.tolist() == [False, False, True, False, True, False]
    assert vectors.share == 0.5


def test_what_is_not_found_is_drawn_with_the_seed_and_the_spread_of_what_is(tmp_path: Path) -> None:
    words = tuple(f"w{i}" for i in range(2000))
    known = np.random.default_rng(0).normal(0, 0.3, (1000, 20))
    path = write(tmp_path, "".join(f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(known)))
    vocabulary = Vocabulary(("<padding>", "<unknown>", *words), 9)
    one, same, other = (read_word_vectors(path, vocabulary, seed=seed) for seed in (0, 0, 1))
    assert one.values[~one.found][1:].std() == pytest.approx(known.std(), rel=0.05)
    assert one.identity == same.identity != other.identity
    assert (one.values[one.found] == other.values[other.found]).all()


@pytest.mark.parametrize("text", ["3 3\n" + LINES, LINES.replace("\n", " \r\n"), LINES + "\n\nfilm 7 7 7\n"])
def test_a_header_line_ends_blank_lines_and_repeated_words_change_nothing(tmp_path: Path, text: str) -> None:
    assert (read(write(tmp_path, text)).values == read(write(tmp_path, LINES)).values).all()


def test_a_word_with_spaces_is_not_taken_for_its_first_part(tmp_path: Path) -> None:
    vectors = read(write(tmp_path, LINES + ". . . 7 7 7\n"))
    assert not vectors.found[5]


@given(
    table=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1).filter(
            lambda w: w == w.strip()
        ),
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
        min_size=1,
    )
)
def test_what_was_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, table: dict[str, list[float]]) -> None:
    path = write(tmp_path_factory.mktemp("v"), "".join(f"{w} {' '.join(map(repr, v))}\n" for w, v in table.items()))
    vocabulary = Vocabulary(("<padding>", "<unknown>", *table), 9)
    vectors = read_word_vectors(path, vocabulary, seed=0)
    assert vectors.share == 1
    assert vectors.values[2:].tolist() == [list(np.float32(v)) for v in table.values()]


def test_a_packed_file_is_read_without_being_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"glove.6B.3d.txt": LINES, "glove.6B.2d.txt": "film 1 2\n", "README": "no vectors"})
    assert (read(path, 3).values == read(write(tmp_path, LINES)).values).all()
    assert read(path, 2).values.shape == (6, 2)
    assert {file.name for file in tmp_path.iterdir()} == {"glove.zip", "vectors.txt"}
    for dimensions, count in ((None, 2), (300, 0)):
        with pytest.raises(DataError, match=rf"{count} files fit .*name the dimensions of one of glove.6B.2d.txt, gl"):
            read(path, dimensions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("film 1 2 3\ngem 1 x 3\n", r"line 2: could not convert string to float: b?'x'; fetch the file again"),
        ("film 1 2 3\ngem 1 2\n", "line 2 has 2 numbers; 3 are expected"),
        ("film 1 2 nan\n", "line 1 has 3 numbers; 3 are expected, none beyond 1e\\+06"),
        ("film 1 2 1e99\n", "line 1 has 3 numbers; 3 are expected, none beyond 1e\\+06"),
        ("film\n", "line 1 has 0 numbers after its word"),
        ("der 1 2\n", "has none of the 4 words; is it a text file of word vectors, for this language"),
        ("", "has none of the 4 words"),
        ("film " + "1 " * 40_000, "line 1 is longer than 65536 bytes"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_cut_and_endless_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"none.txt: no such file; name another, or glove.6B to download GloVe"):
        read(tmp_path / "none.txt")
    with pytest.raises(DataError, match="line 1 has 3 numbers after its word; 50 are expected"):
        read(write(tmp_path, LINES), 50)
    rng = np.random.default_rng(0)
    many = "".join(f"w{i} {a} {b}\n" for i, (a, b) in enumerate(rng.normal(size=(5000, 2)).tolist())) + "film 1 2\n"
    path = zipped(tmp_path, {"glove.6B.2d.txt": many})
    raw = path.read_bytes()
    for content in (raw[: len(raw) // 2], raw[:2000] + b"\xff" * 50 + raw[2050:], b"PK"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read .*fetch it again"):
            read(path)
    monkeypatch.setattr(word_vectors, "MAX_BYTES", 20)
    with pytest.raises(DataError, match="or the file than 20"):
        read(write(tmp_path, LINES))
