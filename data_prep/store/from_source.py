"""Build a store from a source that gives images by name, such as a folder: decode in parallel, in the source's order.

n items of a source.
"""

import itertools
from contextlib import closing
from pathlib import Path

from data_prep.sources.source import Source
from data_prep.store.build import UNREADABLE_LIMIT, Progress, WrittenShards, add_item, check_unreadable, open_or_build
from data_prep.store.decode_items import decode_items
from data_prep.store.recipe import Recipe
from data_prep.store.store import Store
from data_prep.store.writer import SHARD_IMAGES, StoreWriter


def build_store(
    source: Source,
    path: Path,
    size: int,
    *,
    key: bytes,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    unreadable_limit: float = UNREADABLE_LIMIT,
    shard_images: int = SHARD_IMAGES,
) -> Store:
    """Build the store of `source` at `path`, or open the one that was built there from the same source and settings.

    A build that was killed continues with the first shard that is not finished. Two builders of one path take
    turns: the second opens what the first has built.

    Args:
        source: the images and their labels.
        path: of the store.
        size: side of the images, in pixels.
        key: the secret for patient keys; not used for a public source.
        workers: processes that decode; the store is the same, byte for byte, for any number.
        progress: called with (items done, n).
        unreadable_limit: share of the items that may be unreadable.
        shard_images: items per shard.

    Raises:
        DataError: too many items are unreadable (it quotes the first reasons), another store or a damaged one is at
            `path`, or the disk is full or cannot be written.
    """
    recipe = Recipe.of(source, size, key, shard_images)

    def write_shards(writer: StoreWriter) -> WrittenShards:
        _write_shards(source, writer, recipe, workers, progress, unreadable_limit)
        counts = {
            "items": len(source),
            "images_without_row": source.images_without_row,
            "rows_without_image": source.rows_without_image,
            "unmatched_images": list(source.unmatched_images),
            "unmatched_rows": list(source.unmatched_rows),
            "remarks": list(source.remarks),
        }
        return counts, ()

    return open_or_build(recipe, path, unreadable_limit, write_shards)


def _write_shards(
    source: Source, writer: StoreWriter, recipe: Recipe, workers: int, progress: Progress, unreadable_limit: float
) -> None:
    total, shard_images = len(source), recipe.shard_images
    done = min(len(writer.finished) * shard_images, total)
    unreadable = [entry for record in writer.finished for entry in record.quarantine]
    progress(done, total)
    items = itertools.islice(source.items(), done, None)
    decoding = decode_items(items, recipe.size, workers, total - done, source.chest, source.picture_channels)
    with closing(decoding) as decoded:
        for start in range(done, total, shard_images):
            rows = min(shard_images, total - start)
            with writer.shard(rows) as shard:
                for done, (name, item) in enumerate(itertools.islice(decoded, rows), start=start + 1):
                    add_item(shard, name, item, source.population, recipe.secret)
                    if item.pixels is None:
                        unreadable.append(shard.record.quarantine[-1])
                        check_unreadable(unreadable, unreadable_limit, total)
                    progress(done, total)
    if done < total:
        raise RuntimeError(f"the source promised {total} items and gave {done}")
