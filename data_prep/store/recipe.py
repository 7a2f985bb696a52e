"""The recipe of a store: everything that decides its content, and the key that names the store.

Two stores of the same recipe are the same, byte for byte.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_prep.decoding.picture import PICTURE_VERSION
from data_prep.decoding.raster import DECODE_VERSION
from data_prep.errors import DataError
from data_prep.labels.patients import PUBLIC_KEY, check_secret, key_fingerprint
from data_prep.sources.source import LabelledSource
from data_prep.store.shards import SHARD_IMAGES
from data_prep.store.store import json_digest, schema_of

MIN_SIZE, MAX_SIZE = 8, 4096  # pixels


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the content of a store; `size` is the side of the images in pixels."""

    source: LabelledSource
    size: int
    secret: bytes
    shard_images: int = SHARD_IMAGES

    @classmethod
    def of(cls, source: LabelledSource, size: int, key: bytes, shard_images: int) -> "Recipe":
        """Return the recipe, with `key` as the secret for patient keys unless the source is public.

        Raises:
            DataError: the size is out of range, or the secret is too short.
        """
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise DataError(f"image size must lie in [{MIN_SIZE}, {MAX_SIZE}] pixels; got {size}")
        return cls(source, size, PUBLIC_KEY if source.public else check_secret(key), shard_images)

    @property
    def channels(self) -> int:
        """Channels of the images, 1 or 3: radiographs are grey."""
        return self.source.picture_channels or 1

    @cached_property
    def content(self) -> dict[str, Any]:
        """The recipe as it stands in the manifest: hashes instead of source and secret."""
        pictures = self.source.picture_channels
        of_pictures = {"picture_version": PICTURE_VERSION, "channels": pictures} if pictures else {}
        return {
            "schema": schema_of(self.source.table, self.channels),
            **of_pictures,
            "decode_version": DECODE_VERSION,
            "size": self.size,
            "source": self.source.identity,
            "labels": list(self.source.table.labels),
            "chest": self.source.chest,
            "population": self.source.population,
            "patient_key": key_fingerprint(self.secret),
            "shard_images": self.shard_images,
        }

    @cached_property
    def pixels_key(self) -> str:
        """16 hexadecimal digits, the same for recipes by which a file's content gives the same pixels and patient."""
        of_the_table = {"schema", "source", "labels", "shard_images"}
        return json_digest({name: value for name, value in self.content.items() if name not in of_the_table})[:16]


def store_key(source: LabelledSource, size: int, key: bytes) -> str:
    """Return 16 hexadecimal digits that name the store of `source`: the same for the same recipe (see `Recipe.of`)."""
    recipe = Recipe(source, size, PUBLIC_KEY if source.public else key)
    return hashlib.sha256(json.dumps(recipe.content).encode()).hexdigest()[:16]
