"""The text benchmarks and word vectors from where they are published, into a folder that their readers take."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import DataError, did_you_mean
from data_prep.fetch import hub
from data_prep.fetch.download import Downloader, DownloadSettings, Progress
from data_prep.fetch.remote_file import RemoteFile
from data_prep.text.benchmarks import GLUE, GLUE_REPOSITORY, SENTIMENT, by_hand
from data_prep.text.glue import HUB_DEV, HUB_TRAIN
from data_prep.text.word_vectors import GLOVE

_QUIET: Progress = lambda done, total: None  # noqa: E731


def fetch_sentiment(
    folder: Path,
    names: Sequence[str] = tuple(SENTIMENT),
    settings: DownloadSettings = DownloadSettings(),  # noqa: B008  frozen
    progress: Progress = _QUIET,
) -> Path:
    """Fetch the files of the sentence sets `names` into `folder`, verified by length and MD5 sum; return the folder.

    Raises DataError with the command to get a file by hand where it cannot be had.
    """
    with Downloader(folder, settings) as downloader:
        for name in names:
            for file in SENTIMENT[_known(name, SENTIMENT)].files:
                _fetch(downloader, file, progress)
    return folder


def fetch_glue(folder: Path, names: Sequence[str] = tuple(GLUE), *, endpoint: str | None = None) -> Path:
    """Fetch the tables of GLUE's tasks `names` from the Hugging Face hub into `folder`; return the folder.

    endpoint: address of another hub. Raises DataError with the command to get the files by hand.
    """
    files = [f"{_known(name, GLUE)}/{table}" for name in names for table in (HUB_TRAIN, HUB_DEV)]
    return hub.fetch_from_hub(GLUE_REPOSITORY, files, folder, kind="dataset", endpoint=endpoint)


def fetch_glove(
    folder: Path,
    name: str = "6B",
    settings: DownloadSettings = DownloadSettings(),  # noqa: B008  frozen
    progress: Progress = _QUIET,
) -> Path:
    """Fetch a release of GloVe ("6B", 0.9 GB, or "840B", 2.2 GB) into `folder`; return the path of the archive."""
    with Downloader(folder, settings) as downloader:
        return _fetch(downloader, GLOVE[_known(name, GLOVE)], progress)


def _fetch(downloader: Downloader, file: RemoteFile, progress: Progress) -> Path:
    try:
        return downloader.fetch(file, progress)
    except DataError as error:
        raise DataError(f"{error}; or {by_hand(downloader.folder / file.name, file)}") from error


def _known(name: str, table: dict) -> str:
    if name not in table:
        raise DataError(f"there is no {name!r} to fetch{did_you_mean(name, table)}")
    return name
