"""Download the text benchmarks and GloVe's word vectors from their publishers, into folders that the readers expect."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import DataError, did_you_mean
from data_prep.fetch import hub
from data_prep.fetch.download import Downloader, DownloadSettings, Progress
from data_prep.fetch.remote_file import RemoteFile
from data_prep.text.benchmarks import GLUE, GLUE_REPOSITORY, SENTIMENT, manual_download
from data_prep.text.glue import HUB_DEV, HUB_TRAIN
from data_prep.text.word_vectors import GLOVE

_QUIET: Progress = lambda done, total: None  # noqa: E731


def fetch_sentiment(
    folder: Path,
    names: Sequence[str] = tuple(SENTIMENT),
    settings: DownloadSettings = DownloadSettings(),  # noqa: B008  frozen
    progress: Progress = _QUIET,
) -> Path:
    """Download the files of the sentence sets `names`, verified by length and MD5 sum, and return `folder`.

    `progress` is called with (bytes done, bytes in all).

    Raises:
        DataError: a file cannot be downloaded; the message names the command to get it by hand.
    """
    with Downloader(folder, settings) as downloader:
        for name in names:
            for file in SENTIMENT[_checked(name, SENTIMENT)].files:
                _fetch(downloader, file, progress)
    return folder


def fetch_glue(folder: Path, names: Sequence[str] = tuple(GLUE), *, endpoint: str | None = None) -> Path:
    """Download the tables of the GLUE tasks `names` from the Hugging Face Hub, and return `folder`.

    `endpoint` is the address of a hub other than huggingface.co.

    Raises:
        DataError: a file cannot be downloaded; the message names the command to get the files by hand.
    """
    files = [f"{_checked(name, GLUE)}/{table}" for name in names for table in (HUB_TRAIN, HUB_DEV)]
    return hub.fetch_from_hub(GLUE_REPOSITORY, files, folder, kind="dataset", endpoint=endpoint)


def fetch_glove(
    folder: Path,
    name: str = "6B",
    settings: DownloadSettings = DownloadSettings(),  # noqa: B008  frozen
    progress: Progress = _QUIET,
) -> Path:
    """Download a release of GloVe, "6B" (0.9 GB) or "840B" (2.2 GB), into `folder`; return the path of the archive.

    `progress` is called with (bytes done, bytes in all).

    Raises:
        DataError: it cannot be downloaded; the message names the command to get it by hand.
    """
    with Downloader(folder, settings) as downloader:
        return _fetch(downloader, GLOVE[_checked(name, GLOVE)], progress)


def _fetch(downloader: Downloader, file: RemoteFile, progress: Progress) -> Path:
    try:
        return downloader.fetch(file, progress)
    except DataError as error:
        raise DataError(f"{error}; or {manual_download(downloader.folder / file.name, file)}") from error


def _checked(name: str, table: dict) -> str:
    if name not in table:
        raise DataError(f"there is no {name!r} to download{did_you_mean(name, table)}")
    return name
