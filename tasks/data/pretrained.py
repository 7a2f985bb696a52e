"""Pretrained parts of a text network: the files of an encoder, or word vectors such as GloVe's."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from data_prep.errors import DataError
from data_prep.fetch.hub import ENCODER_FILES, fetch_from_hub, manual_download
from data_prep.json_file import read_json
from data_prep.text.download import fetch_glove
from data_prep.text.vocabulary import Vocabulary, VocabularySettings
from data_prep.text.word_vectors import GLOVE, read_word_vectors
from tasks.data.texts import SentimentData, read_texts
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import absolute_path

_CONFIG, _TOKENIZER, _WEIGHTS = ENCODER_FILES


class EncoderRef(BaseModel, frozen=True):
    """The folder of a pretrained encoder and the hash of its files."""

    name: str
    folder: Path
    fingerprint: str


class VectorsRef(BaseModel, frozen=True):
    """A file with the vectors of the words that occur in the study's texts, and the hash of its content."""

    path: Path
    fingerprint: str


@task(name="take encoder", cache_policy=NO_CACHE)
def prepare_encoder(name: str) -> EncoderRef:
    """Find the files of a pretrained encoder; download them once from the Hugging Face hub if `name` is no folder.

    Raises:
        DataError: a file is missing, or the hub cannot be reached; the message names the command to download by hand.
    """
    folder = absolute_path(Path(name))
    if not folder.is_dir():
        folder = fetch_from_hub(name, ENCODER_FILES, home().texts / "encoders" / name.replace("/", "--"))
    digests = []
    for file in ENCODER_FILES:
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no {file}; the folder of an encoder must hold {', '.join(ENCODER_FILES)}")
        with (folder / file).open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    fingerprint = "sha256:" + hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    # Import it here, in one thread: when two arms (or an arm and lightning) imported it at once, one of them
    # saw a half-initialised module.
    from transformers import CONFIG_MAPPING, AutoModel  # noqa: F401

    return EncoderRef(name=folder.name, folder=folder, fingerprint=fingerprint)


def read_encoder(ref: EncoderRef) -> tuple[dict[str, Any], Mapping[str, torch.Tensor]]:
    """Read a pretrained encoder's configuration and weights.

    Raises:
        DataError: a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = read_json(ref.folder / _CONFIG)
        weights = load_file(ref.folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        remedy = manual_download(ref.name, ENCODER_FILES, ref.folder, "model")
        raise DataError(f"{ref.folder}: cannot be read ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(config, dict):
        raise DataError(f"{ref.folder / _CONFIG} is no encoder's configuration: expected a JSON object")
    return config, weights


@task(name="take vectors", cache_policy=NO_CACHE)
def prepare_vectors(file: Path, dimensions: int, data: SentimentData) -> VectorsRef:
    """Read the vectors of all words of the data's tasks from a file of word vectors.

    Such a file has gigabytes; so it is read once, and the arms read the selected vectors, a file under MEDMTL_HOME.
    Vectors of words that the file does not have are drawn with the data's seed.

    Args:
        file: GloVe's text file or its zip; where there is none and it is called glove.6B or glove.840B, that release is
            downloaded.
        dimensions: of the vectors.
        data: the sentiment tasks, with their folder.

    Raises:
        DataError: the file cannot be read, see `read_word_vectors`, or not be downloaded.
    """
    file = _downloaded(file)
    tasks = read_texts(data.model_copy(update={"limit": None}), data.tasks, keep_overlap=True)
    parts = [part for each in tasks.values() for part in (each.train, each.val, each.test)]
    vocabulary = Vocabulary.build(parts, VocabularySettings())
    found = read_word_vectors(file, vocabulary, seed=data.seed, dimensions=dimensions)
    path = home().texts / "vectors" / f"{found.identity.removeprefix('sha256:')[:16]}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, words=np.array(vocabulary.words), values=found.values)
    write_atomically(path, buffer.getvalue())
    LOGGER.info("word vectors: %s has %.0f %% of the %d words", file.name, 100 * found.share, vocabulary.size)
    return VectorsRef(path=path, fingerprint=found.identity)


def _downloaded(file: Path) -> Path:
    """Return the file, or the release of GloVe that its name stands for."""
    release = file.name.removeprefix("glove.")
    if file.exists() or file.name == release or release not in GLOVE:
        return file
    with progress(f"GloVe {release}", of_bytes=True) as update:
        return fetch_glove(home().texts / "vectors", release, progress=update)


def read_vectors(ref: VectorsRef, vocabulary: Vocabulary) -> np.ndarray:
    """Read the vectors of a vocabulary's words: (v, d) float32, one row per word."""
    with np.load(ref.path, allow_pickle=False) as arrays:
        values, rows = arrays["values"], {word: row for row, word in enumerate(arrays["words"].tolist())}
    return values[[rows[word] for word in vocabulary.words]]
