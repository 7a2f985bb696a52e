"""Files from the Hugging Face hub (huggingface_hub), with errors a person can act on.

The library resumes, verifies and caches by itself, and heeds HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging

from data_prep.errors import DataError

ENCODER_FILES = ("config.json", "tokenizer.json", "model.safetensors")  # no pickled weights


def fetch_from_hub(
    repository: str,
    files: Sequence[str],
    folder: Path,
    *,
    kind: Literal["model", "dataset"] = "model",
    endpoint: str | None = None,
) -> Path:
    """Fetch `files` of a repository into `folder`, unless they are there already, and return the folder.

    endpoint: address of another hub than huggingface.co; None: HF_ENDPOINT, if that is set.

    Raises DataError, which names the command to get the files by hand, where the hub cannot be reached, has no such
    repository or file, or does not give it to everybody.
    """
    remedy = by_hand(repository, files, folder, kind)
    with _quiet():
        for name in files:
            if (folder / name).is_file():
                continue
            try:
                hf_hub_download(repository, name, repo_type=kind, local_dir=folder, endpoint=endpoint)
            except GatedRepoError as error:
                raise DataError(
                    f"{repository}: the hub gives it only to those who accepted its terms; accept them, set HF_TOKEN, "
                    f"or {remedy}"
                ) from error
            except (HFValidationError, RepositoryNotFoundError) as error:
                raise DataError(
                    f"{repository!r}: no such {kind} on the hub; check the name, or name a folder"
                ) from error
            except RemoteEntryNotFoundError as error:
                raise DataError(f"{repository}: has no file {name} on the hub; choose another {kind}") from error
            except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, httpx.HTTPError) as error:
                raise DataError(f"{repository}: {name} not fetched, the hub cannot be reached; {remedy}") from error
            except OSError as error:
                raise DataError(f"{folder}: {name} not written ({error.strerror or error}); {remedy}") from error
    return folder


def by_hand(repository: str, files: Sequence[str], folder: Path, kind: Literal["model", "dataset"]) -> str:
    """Return the remedy that gets the files without medmtl."""
    options = ["--repo-type", kind, "--local-dir", str(folder)]
    return f"get them by hand: {shlex.join(['hf', 'download', repository, *files, *options])}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from printing a line per repetition: what went wrong is said once, in the end."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
