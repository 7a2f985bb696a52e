"""Seconds from a folder to a store: the first time, with the same images and another table, and with 40 images more.

    python -m benchmarks.ingest_again --images DIR --table TABLE [--size 256] [--new 40]

The folder and its table are read before the time is taken. `processor` is that of this process alone, without those
that decode. The last line compares with a store that is built at once, and must say True.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool

_SETTLING = 2.5  # seconds after which the hash of a new file is remembered


def main() -> None:
    """Print one line for each store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--new", type=int, default=40)
    given = parser.parse_args()
    images = sorted(path for path in given.images.iterdir() if path.suffix == ".png")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "images")
        folder.mkdir()

        def build(name: str, pool: PixelPool) -> str:
            source = FolderSource.open(folder, given.table, allow_missing=True)
            source = replace(source, identity=name)  # as of another table
            begun, processor = time.monotonic(), time.process_time()
            store = build_store(source, Path(work, name), given.size, key=b"", workers=2, pool=pool)
            print(
                f"{name:>9}: {time.monotonic() - begun:6.2f} s, processor {time.process_time() - processor:5.2f} s, "
                f"{pool.decoded} decoded, {pool.reused} reused"
            )
            return store.fingerprint

        for image in images[: -given.new]:
            shutil.copy2(image, folder)
        time.sleep(_SETTLING)
        shared = Path(work, "pixels")
        build("first", PixelPool(shared))
        build("unchanged", PixelPool(shared))
        for image in images[-given.new :]:
            shutil.copy2(image, folder)
        grown = build("grown", PixelPool(shared))
        print("the same as built at once:", grown == build("at once", PixelPool()))


if __name__ == "__main__":
    main()
