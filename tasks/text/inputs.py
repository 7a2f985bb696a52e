"""Inputs of a text arm: encoded texts of its tasks, and the initial network."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.text.sentence_key import sentence_keys
from data_prep.text.subwords import Subwords
from data_prep.text.task import Texts, TextTask
from data_prep.text.token_cache import Encoder, cached_tokens
from data_prep.text.vocabulary import Vocabulary, VocabularySettings
from models.data.text_batches import TextExamples, text_examples
from models.networks.alignment import covariance_similarity
from models.networks.text import TextNetwork, embedding_covariance, initial_text_network, transfer_network
from tasks.arms.kept_network import read_network
from tasks.data.pretrained import read_encoder, read_vectors
from tasks.data.texts import read_texts
from tasks.runtime.home import home
from tasks.text.spec import TextArm

Similarities = dict[tuple[str, str], float | None]
"""Pair of tasks -> the covariance similarity of their embeddings; None if it is undefined."""


@dataclass(frozen=True)
class TextInputs:
    """The inputs of an arm; dictionaries are by task.

    Attributes:
        folder: folder of the data.
        tasks: the tasks trained on.
        train, val, test: encoded examples of each part.
        network: the initial network, which the training changes.
        initial_similarities: of the tasks' embeddings before training.
    """

    folder: Path
    tasks: Mapping[str, TextTask]
    train: Mapping[str, TextExamples]
    val: Mapping[str, TextExamples]
    test: Mapping[str, TextExamples]
    network: TextNetwork
    initial_similarities: Similarities

    def test_keys(self, name: str) -> np.ndarray:
        """Return (n,) uint64, equal for the same test sentence (or pair) in all arms and tasks."""
        keys = sentence_keys(self.tasks[name].test)
        digests = [hashlib.sha256(key.encode()).digest()[:8] for key in keys]
        return np.frombuffer(b"".join(digests), dtype="<u8")


def load_text_inputs(arm: TextArm) -> TextInputs:
    """Read and encode the texts, and build the initial network.

    Raises:
        DataError: a file cannot be read, or its content changed after the arms were planned.
        SettingError: the settings of the network do not fit the texts or the pretrained weights.
    """
    read = _read(arm, arm.overlap_group, arm.tasks)
    vocabulary_tasks = _read(arm, tuple(arm.vocabulary_tasks), arm.vocabulary_tasks) if arm.vocabulary_tasks else read
    encoder = _encoder(arm, list(vocabulary_tasks.values()))
    parts = {
        part: {name: _examples(getattr(task, part), encoder, home().tokens) for name, task in read.items()}
        for part in ("train", "val", "test")
    }
    assert arm.data.folder is not None  # for the type checker: reading fails without a folder
    network = _network(arm, encoder, read)
    initial_similarities = similarities(network, parts["train"], aligned=False)
    return TextInputs(arm.data.folder, read, **parts, network=network, initial_similarities=initial_similarities)


def similarities(network: TextNetwork, train: Mapping[str, TextExamples], *, aligned: bool) -> Similarities:
    """Compute the covariance similarity of each pair of tasks (`models.networks.alignment`).

    Args:
        network: trained or not.
        train: training texts by task.
        aligned: after the alignment matrices, not before.
    """
    pairs = list(combinations(train, 2))
    covariances = {task: embedding_covariance(network, task, train[task], aligned=aligned) for task in train if pairs}
    values = {(one, other): covariance_similarity(covariances[one], covariances[other]) for one, other in pairs}
    return {pair: value if math.isfinite(value) else None for pair, value in values.items()}


def _read(arm: TextArm, overlap_group: tuple[str, ...], wanted: Mapping[str, str]) -> dict[str, TextTask]:
    """Read the overlap group and return the wanted tasks (name -> fingerprint), after checking their fingerprints."""
    read = read_texts(arm.data, overlap_group, arm.paired_seed, arm.keep_overlap)
    for name, fingerprint in wanted.items():
        if read[name].fingerprint != fingerprint:
            raise DataError(f"{arm.data.folder}: {name} changed while the study ran; run the command again")
    return {name: read[name] for name in wanted}


def _encoder(arm: TextArm, vocabulary_tasks: Sequence[TextTask]) -> Encoder:
    if arm.encoder is not None:
        return Subwords.open(arm.encoder.folder, arm.max_length)
    return Vocabulary.build([task.train for task in vocabulary_tasks], VocabularySettings(max_length=arm.max_length))


def _examples(texts: Texts, encoder: Encoder, cache: Path) -> TextExamples:
    tokens = cached_tokens(texts, encoder, cache)
    return text_examples(tokens.ids, tokens.offsets, texts.labels, tokens.types)


def _network(arm: TextArm, encoder: Encoder, read: Mapping[str, TextTask]) -> TextNetwork:
    classes = {name: len(read[name].classes) for name in arm.tasks}
    if arm.source is not None:
        (target,) = arm.tasks
        source = TextNetwork.restore(read_network(arm.source.run_id))
        return transfer_network(source, target, classes[target], arm.network.alignment, seed=arm.seed)
    if arm.encoder is not None:
        config, weights = read_encoder(arm.encoder)
        return initial_text_network(arm.network, classes, seed=arm.seed, config=config, weights=weights)
    if arm.vectors is not None:
        assert isinstance(encoder, Vocabulary)
        vectors = read_vectors(arm.vectors, encoder)
        return initial_text_network(arm.network, classes, seed=arm.seed, vectors=vectors)
    return initial_text_network(arm.network, classes, seed=arm.seed, words=encoder.size)
