"""Word vectors: a file that the user names, or a release of GloVe that is downloaded by its name."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.text.word_vectors import GLOVE
from tasks.data.pretrained import prepare_vectors
from tasks.data.texts import SentimentData
from tests.data_prep.faulty_server import serving
from tests.sentences import FILLING, write_sentences


@pytest.fixture
def data(tmp_path: Path) -> SentimentData:
    write_sentences(tmp_path / "sentences")
    return SentimentData(folder=tmp_path / "sentences", tasks=("cr",))


def vectors_of(word: str) -> bytes:
    return f"{word} 1 2\n".encode()


def test_a_release_of_glove_is_downloaded_by_its_name_and_once(
    data: SentimentData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = FILLING[0]
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("glove.6B.2d.txt", vectors_of(word))
    content = (tmp_path / "packed.zip").read_bytes()
    with serving(content) as server:
        monkeypatch.setitem(GLOVE, "6B", RemoteFile("glove.6B.zip", server.url, len(content)))
        first = prepare_vectors.fn(Path("glove.6B"), 2, data)
    again = prepare_vectors.fn(Path("glove.6B"), 2, data)  # the server is gone
    assert again == first
    with np.load(first.path, allow_pickle=False) as arrays:
        row = arrays["words"].tolist().index(word)
        assert arrays["values"][row].tolist() == [1, 2]


def test_a_file_that_is_there_is_read_whatever_its_name(data: SentimentData, tmp_path: Path) -> None:
    file = tmp_path / "glove.6B"
    file.write_bytes(vectors_of(FILLING[0]))
    assert prepare_vectors.fn(file, 2, data).path.exists()


def test_a_file_that_is_not_there_is_not_taken_for_a_release(data: SentimentData, tmp_path: Path) -> None:
    for name in ("6B", "glove.7B", "vectors.txt"):
        with pytest.raises(DataError, match="no such file"):
            prepare_vectors.fn(tmp_path / name, 2, data)
