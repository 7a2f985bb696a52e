"""Files from a hub, and one clear line where they cannot be had."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import _http

from data_prep.errors import DataError
from data_prep.fetch.hub import ENCODER_FILES, fetch_from_hub
from tests.data_prep.hub_server import LocalHub, serving_hub

FILES = {f"/some/encoder/resolve/main/{name}": name.encode() * 1000 for name in ENCODER_FILES}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # the library waits between its repetitions
    with serving_hub(FILES) as told:
        yield told


def fetch(hub: LocalHub, folder: Path, name: str = "some/encoder") -> Path:
    return fetch_from_hub(name, ENCODER_FILES, folder, endpoint=hub.url)


def test_files_are_fetched_once(hub: LocalHub, tmp_path: Path) -> None:
    for _ in range(2):
        folder = fetch(hub, tmp_path / "encoder")
    assert folder == tmp_path / "encoder"
    assert {name: (folder / name).read_bytes() for name in ENCODER_FILES} == {
        Path(path).name: content for path, content in FILES.items()
    }
    assert sorted(hub.gets) == sorted(FILES)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepoNotFound", r"'some/encoder': no such model on the hub; check the name, or give a folder"),
        ("GatedRepo", r"only to users who accepted its terms; accept them, set HF_TOKEN, or get them by hand: hf dow"),
        ("EntryNotFound", r"some/encoder: there is no file config.json on the hub; choose another model"),
    ],
)
def test_what_a_hub_refuses_is_said_in_one_line(hub: LocalHub, tmp_path: Path, error: str, message: str) -> None:
    hub.error = error
    with pytest.raises(DataError, match=message) as caught:
        fetch(hub, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have_is_refused(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such model on the hub"):
        fetch(hub, tmp_path, "some/encoder/too/deep")


def test_a_hub_that_cannot_be_reached_leaves_the_command_to_get_the_files_by_hand(
    hub: LocalHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_hub({}) as gone:
        pass
    command = rf"hf download some/encoder {' '.join(ENCODER_FILES)} --repo-type model --local-dir {tmp_path}"
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    with pytest.raises(DataError, match=rf"the hub cannot be reached; get them by hand: {command}$"):
        fetch(gone, tmp_path)
    logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    assert caplog.records == []  # the library would tell of each repetition


def test_a_folder_that_is_a_file_is_a_data_error(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"config.json not"):
        fetch(hub, tmp_path / "file")
