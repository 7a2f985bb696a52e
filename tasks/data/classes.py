"""Images of one class each: find them in a public form, and decode them into a store."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator

from data_prep.sources.classes import NAMED_SETS, open_classes
from data_prep.store.build import UNREADABLE_LIMIT
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.recipe import store_key
from data_prep.store.store import Store
from tasks.data.ingest import StoreRef
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import AbsolutePath, Settings, absolute_path


class ClassDataSettings(Settings):
    """The images of a classification, and the size at which they are decoded."""

    source: str = Field(
        "cifar10",
        description="'cifar10', 'cifar100' or 'mnist' in a public form; or a folder or tar file with a folder of "
        "images for each class, in train and test folders or not",
    )
    folder: AbsolutePath | None = Field(
        None, description="the folder or tar file of a named set: python batches, IDX files, or folders by class"
    )
    size: int | None = Field(
        None, ge=8, le=4096, description="side of the decoded images, pixels; none: 28 for mnist, otherwise 32"
    )
    unreadable_limit: float = Field(
        UNREADABLE_LIMIT, ge=0, le=1, description="share of unreadable images above which the run stops"
    )

    @field_validator("source")
    @classmethod
    def _absolute_source(cls, source: str) -> str:
        return source if source in NAMED_SETS else str(absolute_path(Path(source)))

    @property
    def name(self) -> str:
        """Name of the data in reports and run names."""
        return self.source if self.source in NAMED_SETS else Path(self.source).name

    @property
    def pixels(self) -> int:
        """Side of the decoded images, pixels."""
        return self.size or (28 if self.source == "mnist" else 32)


@task(name="decode images by class", cache_policy=NO_CACHE)
def prepare_classes(data: ClassDataSettings) -> StoreRef:
    """Build the store of the images, unless it is there already.

    Raises:
        DataError: see `open_classes` and `build_store`.
    """
    source = open_classes(data.source, data.folder)
    path = home().stores / store_key(source, data.pixels, home().patient_key)
    reused, pool = path.exists(), PixelPool(home().pixels, say=LOGGER.info)
    with progress("decoding images") as update:
        store = build_store(
            source,
            path,
            data.pixels,
            key=home().patient_key,
            workers=processors(),
            progress=update,
            unreadable_limit=data.unreadable_limit,
            pool=pool,
        )
    ref = StoreRef(
        name=data.name,
        path=store.path,
        fingerprint=store.fingerprint,
        reused=reused,
        decoded=pool.decoded,
        reused_images=pool.reused,
    )
    _log(ref, store)
    return ref


def _log(ref: StoreRef, store: Store) -> None:
    kind = "colour" if store.channels == 3 else "grey"
    ref.log(f"{len(store.images)} {kind} images of {store.size} px, {len(store.classes)} classes")
    for remark in store.manifest["remarks"]:
        LOGGER.info(remark)
    if store.quarantine:
        LOGGER.warning("%d images cannot be read, such as %s: %s", len(store.quarantine), *store.quarantine[0])
