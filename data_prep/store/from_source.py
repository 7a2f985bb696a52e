"""Build a store from a source that gives images by name, such as a folder: decode what is new, in the source's order.

n items of a source.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

from data_prep.labels.patients import opaque_name
from data_prep.labels.safe_names import is_harmless
from data_prep.sources.source import Item, Source
from data_prep.store.build import UNREADABLE_LIMIT, Progress, WrittenShards, add_item, check_unreadable, open_or_build
from data_prep.store.decode_items import DecodedItem, batches, decode_items
from data_prep.store.pool import DecodedFiles, Known, PixelPool, pool_name
from data_prep.store.recipe import Recipe
from data_prep.store.shards import RECORDS, ShardWriter
from data_prep.store.store import Store
from data_prep.store.writer import StoreWriter


def build_store(
    source: Source,
    path: Path,
    size: int,
    *,
    key: bytes,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    unreadable_limit: float = UNREADABLE_LIMIT,
    pool: PixelPool | None = None,
) -> Store:
    """Build the store of `source` at `path`, or open the one that was built there from the same source and settings.

    Files whose content the pool knows are not decoded; those that did not change are not even read. A build that was
    killed continues with the first shard that is not finished. Two builders of one path take turns: the second opens
    what the first has built.

    Args:
        source: the images and their labels.
        path: of the store.
        size: side of the images, in pixels.
        key: the secret for patient keys; not used for a public source.
        workers: processes that decode; the store is the same, byte for byte, for any number.
        progress: called with (items done, n).
        unreadable_limit: share of the items that may be unreadable.
        pool: decoded pixels that stores share; it also counts. None: a pool of this store alone. The store's rows and
            fingerprint are the same whatever was in the pool before.

    Raises:
        DataError: too many items are unreadable (it quotes the first reasons), another store or a damaged one is at
            `path`, or the disk is full or cannot be written.
    """
    pool = pool or PixelPool()
    recipe = Recipe.of(source, size, key, pool.shard_images)

    def write_shards(writer: StoreWriter) -> WrittenShards:
        with pool.opened(recipe, writer.partial / RECORDS) as decoded:
            intake = _Intake(source, recipe, decoded, progress, unreadable_limit)
            intake.run(workers)
            pool.decoded += intake.decoded
            pool.reused += len(source) - intake.decoded
            found = intake.found()
            links, rows = decoded.link([known for _, known in found if not known.reason], writer.partial)
            records = [decoded.content(found), *links]
        counts = {
            "items": len(source),
            "images_without_row": source.images_without_row,
            "rows_without_image": source.rows_without_image,
            "unmatched_images": list(source.unmatched_images),
            "unmatched_rows": list(source.unmatched_rows),
            "remarks": list(source.remarks),
        }
        return WrittenShards(counts, records, rows)

    return open_or_build(recipe, path, unreadable_limit, write_shards)


class _Intake:
    """One pass over the items of a source, in which those that are not known are decoded into the pool.

    Attributes:
        decoded: number of items that were decoded.
    """

    def __init__(
        self, source: Source, recipe: Recipe, pool: DecodedFiles, progress: Progress, unreadable_limit: float
    ) -> None:
        self._source, self._recipe, self._pool = source, recipe, pool
        self._progress, self._limit = progress, unreadable_limit
        self._names: list[tuple[str, bool]] = []  # of each item so far; whether it may be shown
        self._known: dict[int, Known] = {}  # by the number of the item
        self._same: dict[int, tuple[str, int]] = {}  # items with the content of an earlier one that is being decoded
        self._awaited: deque[int] = deque()
        self._unreadable: list[tuple[str, str]] = []
        self.decoded = 0

    def run(self, workers: int) -> None:
        """Decode what is not known, in `workers` processes.

        Raises:
            DataError: too many items are unreadable, or the disk is full or cannot be written.
        """
        self._progress(0, len(self._source))
        options = (self._source.chest, self._source.picture_channels)
        with (
            ThreadPoolExecutor() as threads,  # reading and hashing release the interpreter's lock
            closing(decode_items(self._unknown(threads), self._recipe.size, workers, *options)) as decoded,
        ):
            while (first := next(decoded, None)) is not None:
                with self._pool.shard() as (name, shard):
                    for _, item in chain([first], islice(decoded, self._recipe.shard_images - 1)):
                        self._add(name, shard, item)
        self._pool.remember_hashes()
        for same, (digest, of_first) in self._same.items():
            known = self._known[of_first]
            if not known.reason:
                known = self._pool.find(digest) or Known(reason="cannot be read (it changed meanwhile)")
            self._settle(same, known)
        if len(self._names) < len(self._source):
            raise RuntimeError(f"the source promised {len(self._source)} items and gave {len(self._names)}")

    def found(self) -> list[tuple[str, Known]]:
        """Return the name in the store, and what is known, of each item."""
        return [(self._name(item), self._known[item]) for item in range(len(self._names))]

    def _unknown(self, threads: ThreadPoolExecutor) -> Iterator[Item]:
        """Yield the items to be decoded: one for each content that the pool does not know."""
        first: dict[str, int] = {}
        for batch in batches(self._source.items()):
            digests = threads.map(self._pool.hashes.of, [item for _, item in batch])
            for (image, item), digest in zip(batch, digests, strict=True):
                number = len(self._names)
                self._names.append((image, is_harmless(item.name if isinstance(item, Path) else image)))
                if digest is not None and (known := self._pool.find(digest)):
                    self._settle(number, known)
                elif digest is not None and digest in first:
                    self._same[number] = digest, first[digest]
                else:
                    if digest is not None:
                        first[digest] = number
                    self._awaited.append(number)
                    yield image, item

    def _add(self, name: str, shard: ShardWriter, item: DecodedItem) -> None:
        """Add the next decoded item to the pool, unless another try may give something else."""
        self.decoded += 1
        if item.source_sha256:
            named = pool_name(item.source_sha256, item.dicom)
            add_item(shard, named, item, self._source.population, self._recipe.secret)
        row = -1 if item.pixels is None else len(shard.record.images) - 1
        known = Known("" if item.pixels is None else name, row, item.reason, item.dicom)
        self._settle(self._awaited.popleft(), known)

    def _settle(self, item: int, known: Known) -> None:
        self._known[item] = known
        if known.reason:
            self._unreadable.append((self._name(item), known.reason))
            check_unreadable(self._unreadable, self._limit, len(self._source))
        self._progress(len(self._known), len(self._source))

    def _name(self, item: int) -> str:
        """Return the name of an item in the store: that of a file that is or may be DICOM identifies a patient."""
        image, harmless = self._names[item]
        if harmless and not self._known[item].dicom:
            return image
        return opaque_name(image, self._source.population, self._recipe.secret)
