"""Files from the Hugging Face Hub (huggingface_hub), with errors that name a remedy.

The library itself resumes, verifies and caches downloads, and reads HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE.
"""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
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
    """Download those files of a repository (OWNER/NAME) into `folder` that are not there yet, and return `folder`.

    The files keep the paths that they have in the repository. `endpoint` is the address of a hub other than
    huggingface.co; None: HF_ENDPOINT, if that is set.

    Raises:
        DataError: the hub cannot be reached, has no such repository or file, or restricts access to it, or a file
            cannot be written. The message names a remedy, such as the command that gets the files by hand.
    """
    remedy = manual_download(repository, files, folder, kind)
    with ExitStack() as stack:  # the library would log every repetition: the error is reported once, at the end
        stack.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity_error()
        for name in files:
            if (folder / name).is_file():
                continue
            try:
                hf_hub_download(repository, name, repo_type=kind, local_dir=folder, endpoint=endpoint)
            except GatedRepoError as error:
                raise DataError(
                    f"{repository}: the hub gives access only to users who accepted its terms; accept them, set "
                    f"HF_TOKEN, or {remedy}"
                ) from error
            except (HFValidationError, RepositoryNotFoundError) as error:
                raise DataError(
                    f"{repository!r}: no such {kind} on the hub; check the name, or give a folder"
                ) from error
            except RemoteEntryNotFoundError as error:
                raise DataError(f"{repository}: there is no file {name} on the hub; choose another {kind}") from error
            except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, httpx.HTTPError) as error:
                raise DataError(f"{repository}: {name} not downloaded, the hub cannot be reached; {remedy}") from error
            except OSError as error:
                raise DataError(f"{folder}: {name} not written ({error.strerror or error}); {remedy}") from error
    return folder


def manual_download(repository: str, files: Sequence[str], folder: Path, kind: Literal["model", "dataset"]) -> str:
    """Return the advice, for an error message, on how to download the files without medmtl."""
    options = ["--repo-type", kind, "--local-dir", str(folder)]
    return f"get them by hand: {shlex.join(['hf', 'download', repository, *files, *options])}"
