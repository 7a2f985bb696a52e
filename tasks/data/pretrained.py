"""What a text network may begin with: a pretrained encoder's files, or vectors of words."""

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
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from data_prep.fetch.hub import ENCODER_FILES, by_hand, fetch_from_hub
from data_prep.text.vocabulary import Vocabulary, VocabularySettings
from data_prep.text.word_vectors import read_word_vectors
from tasks.data.texts import SentimentData, read_texts
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.progress import LOGGER

_CONFIG, _TOKENIZER, _WEIGHTS = ENCODER_FILES


class EncoderRef(BaseModel):
    """An encoder's folder, and the hash of what is in it."""

    model_config = ConfigDict(frozen=True)

    name: str
    folder: Path
    fingerprint: str


class VectorsRef(BaseModel):
    """Word vectors, of the words that the study has, and the hash of the file's content."""

    model_config = ConfigDict(frozen=True)

    path: Path
    fingerprint: str


@task(name="take encoder", cache_policy=NO_CACHE)
def prepare_encoder(name: str) -> EncoderRef:
    """The files of an encoder: a folder's, or else fetched once from the Hugging Face hub.

    Raises:
        DataError: a file is missing, or the hub cannot be reached; it names the command to get them by hand.
    """
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        folder = fetch_from_hub(name, ENCODER_FILES, home().texts / "encoders" / name.replace("/", "--"))
    for file in ENCODER_FILES:
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no {file}; an encoder's folder holds {', '.join(ENCODER_FILES)}")
    sums = []
    for file in ENCODER_FILES:
        with (folder / file).open("rb") as stream:
            sums.append(hashlib.file_digest(stream, "sha256").hexdigest())
    fingerprint = "sha256:" + hashlib.sha256(json.dumps(sums).encode()).hexdigest()
    # here, in one thread: two arms that import it at once, or lightning, which does too, have found half of it
    from transformers import CONFIG_MAPPING, AutoModel  # noqa: F401

    return EncoderRef(name=folder.name, folder=folder, fingerprint=fingerprint)


def read_encoder(ref: EncoderRef) -> tuple[dict[str, Any], Mapping[str, torch.Tensor]]:
    """An encoder's configuration and weights.

    Raises:
        DataError: a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((ref.folder / _CONFIG).read_text(encoding="utf-8"))
        weights = load_file(ref.folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        remedy = by_hand(ref.name, ENCODER_FILES, ref.folder, "model")
        raise DataError(f"{ref.folder}: cannot be read ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(config, dict):
        raise DataError(f"{ref.folder / _CONFIG} holds no settings of an encoder")
    return config, weights


@task(name="take vectors", cache_policy=NO_CACHE)
def prepare_vectors(file: Path, dimensions: int, data: SentimentData) -> VectorsRef:
    """Read from a file of word vectors those of all the data's words: gigabytes, so once for all arms.

    Words that the file has not are drawn with the data's seed.

    Raises:
        DataError: see `read_word_vectors`.
    """
    tasks = read_texts(data.model_copy(update={"limit": None}), data.tasks, keep_overlap=True)
    everything = [part for each in tasks.values() for part in (each.train, each.val, each.test)]
    vocabulary = Vocabulary.build(everything, VocabularySettings())
    found = read_word_vectors(file, vocabulary, seed=data.seed, dimensions=dimensions)
    path = home().texts / "vectors" / f"{found.identity.removeprefix('sha256:')[:16]}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, words=np.array(vocabulary.words), values=found.values)
    write_atomically(path, buffer.getvalue())
    LOGGER.info("word vectors: %s has %.0f %% of the %d words", file.name, 100 * found.share, vocabulary.size)
    return VectorsRef(path=path, fingerprint=found.identity)


def read_vectors(ref: VectorsRef, vocabulary: Vocabulary) -> np.ndarray:
    """(v, d) float32, a row per word of the vocabulary."""
    with np.load(ref.path, allow_pickle=False) as arrays:
        values, places = arrays["values"], {word: row for row, word in enumerate(arrays["words"].tolist())}
    return values[[places[word] for word in vocabulary.words]]
