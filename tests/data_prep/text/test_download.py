"""The text benchmarks fetched from servers on this machine, and read."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.fetch.download import DownloadSettings
from data_prep.fetch.remote_file import RemoteFile
from data_prep.text import download
from data_prep.text.benchmarks import SENTIMENT
from data_prep.text.download import fetch_glove, fetch_glue, fetch_sentiment
from data_prep.text.glue import HUB_DEV, HUB_TRAIN, read_glue
from data_prep.text.sentiment import read_sentiment
from data_prep.text.vocabulary import Vocabulary
from data_prep.text.word_vectors import read_word_vectors
from tests.data_prep.faulty_server import Fault, serving
from tests.data_prep.hub_server import serving_hub
from tests.data_prep.text.test_glue import DEV, ROWS, write_table
from tests.data_prep.text.test_word_vectors import zipped

SETTINGS = DownloadSettings(first_wait=0, longest_wait=0, attempts=3)
LINES = "".join(f"{i % 2} sentence {i}\n" for i in range(50)).encode()


def at(url: str, content: bytes) -> RemoteFile:
    return RemoteFile("custrev.all", url, len(content), hashlib.md5(content).hexdigest())


def test_a_sentence_set_is_fetched_resumed_verified_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(LINES) as server:
        server.faults.extend([Fault(cut=200), Fault(status=503)])
        facts = dataclasses.replace(SENTIMENT["cr"], train=at(server.url, LINES), rows=(50,))
        monkeypatch.setitem(SENTIMENT, "cr", facts)
        folder = fetch_sentiment(tmp_path / "new", ("cr",), SETTINGS)
        assert server.ranges == [None, "bytes=200-", "bytes=200-"]
    task = read_sentiment(folder, ("cr",), seed=0)["cr"]
    assert len(task.train) + len(task.val) + len(task.test) == 50
    assert task.notes == ()


def test_a_server_that_is_gone_leaves_the_command_to_get_the_file_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(b"") as gone:
        pass
    file = at(gone.url, LINES)
    monkeypatch.setitem(SENTIMENT, "cr", dataclasses.replace(SENTIMENT["cr"], train=file))
    command = rf"curl -L --create-dirs -o {tmp_path / 'custrev.all'} {gone.url}"
    with pytest.raises(
        DataError, match=rf"not downloaded from 127.0.0.1 after 3 attempts .*get it by hand: {command}$"
    ):
        fetch_sentiment(tmp_path, ("cr",), SETTINGS)


def test_other_content_than_was_published_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(LINES.replace(b"7", b"8")) as server:
        monkeypatch.setitem(SENTIMENT, "cr", dataclasses.replace(SENTIMENT["cr"], train=at(server.url, LINES)))
        with pytest.raises(DataError, match=r"sent something other than the published file, twice: MD5 sum .*by hand"):
            fetch_sentiment(tmp_path, ("cr",), SETTINGS)


def test_glue_is_fetched_from_the_hub_and_read(tmp_path: Path) -> None:
    files = {}
    for name, rows in ((HUB_TRAIN, ROWS), (HUB_DEV, DEV)):
        write_table(tmp_path / name, "rte", rows)
        files[f"/datasets/nyu-mll/glue/resolve/main/rte/{name}"] = (tmp_path / name).read_bytes()
    with serving_hub(files) as hub:
        folder = fetch_glue(tmp_path / "glue", ("rte",), endpoint=hub.url)
    task = read_glue(folder, ("rte",), seed=0)["rte"]
    assert task.test.first == tuple(row[0] for row in DEV)


def test_glove_is_fetched_as_it_is_packed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary(("<padding>", "<unknown>", "film", "gem"), 9)
    content = zipped(tmp_path, {"glove.6B.2d.txt": "film 1 2\n", "glove.6B.3d.txt": "film 3 4 5\n"}).read_bytes()
    with serving(content) as server:
        server.faults.append(Fault(cut=len(content) // 2))
        monkeypatch.setitem(download.GLOVE, "6B", RemoteFile("glove.6B.zip", server.url, len(content)))
        path = fetch_glove(tmp_path / "vectors", settings=SETTINGS)
    vectors = read_word_vectors(path, vocabulary, seed=0, dimensions=3)
    assert vectors.values[2].tolist() == [3, 4, 5]
    assert vectors.share == 0.5


def test_names_that_nobody_publishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no 'subjective' to download; did you mean subj\?"):
        fetch_sentiment(tmp_path, ("subjective",), SETTINGS)
    with pytest.raises(DataError, match=r"there is no 'rtee' to download; did you mean rte\?"):
        fetch_glue(tmp_path, ("rtee",))
    with pytest.raises(DataError, match=r"there is no '7B' to download; did you mean 6B\?"):
        fetch_glove(tmp_path, "7B", SETTINGS)
