"""The recipe of a store: everything that decides its content, and the key that names the store.

Two stores of the same recipe are the same, byte for byte.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from data_prep.decoding.raster import DECODE_VERSION
from data_prep.errors import DataError
from data_prep.labels.patients import PUBLIC_KEY, check_secret, key_fingerprint
from data_prep.labels.table import LabelTable
from data_prep.store.store import SCHEMA
from data_prep.store.writer import SHARD_IMAGES

MIN_SIZE, MAX_SIZE = 8, 4096  # pixels


class LabelledSource(Protocol):
    """What a store is built from: images with a label table, of the patients of one population."""

    @property
    def table(self) -> LabelTable:
        """The label table; every item has a row in it."""

    @property
    def population(self) -> str:
        """The group of patients the images come from."""

    @property
    def public(self) -> bool:
        """Whether the patients' identifiers are public, so that no secret is needed."""

    @property
    def identity(self) -> str:
        """A hash that differs whenever the items or the table may differ."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the content of a store.

    Attributes:
        source: the images and their labels.
        size: side of the images, in pixels.
        secret: for the patient keys.
        shard_images: items per shard.
    """

    source: LabelledSource
    size: int
    secret: bytes
    shard_images: int = SHARD_IMAGES

    @classmethod
    def of(cls, source: LabelledSource, size: int, key: bytes, shard_images: int) -> "Recipe":
        """Return the recipe after checking it.

        Args:
            source: the images and their labels.
            size: side of the images, in pixels.
            key: the secret for patient keys; not used for a public source.
            shard_images: items per shard.

        Raises:
            DataError: the size is out of range, or the secret is too short.
        """
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise DataError(f"image size must lie in [{MIN_SIZE}, {MAX_SIZE}] pixels; got {size}")
        return cls(source, size, PUBLIC_KEY if source.public else check_secret(key), shard_images)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The recipe as it stands in the manifest: hashes instead of source and secret."""
        return {
            "schema": SCHEMA,
            "decode_version": DECODE_VERSION,
            "size": self.size,
            "source": self.source.identity,
            "population": self.source.population,
            "patient_key": key_fingerprint(self.secret),
            "shard_images": self.shard_images,
        }


def store_key(source: LabelledSource, size: int, key: bytes) -> str:
    """Return 16 hexadecimal digits that name the store of `source`: the same for the same recipe.

    Args:
        source: the images and their labels.
        size: side of the images, in pixels.
        key: the secret for patient keys; not used for a public source.
    """
    recipe = Recipe(source, size, PUBLIC_KEY if source.public else key)
    return hashlib.sha256(json.dumps(recipe.content).encode()).hexdigest()[:16]
