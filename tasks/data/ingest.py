"""Ingest: build a store of decoded images and labels from a source (phantom, folder, archives, ChestMNIST).

Phantoms and stores are saved under a hash of their inputs, so each is made once. Prefect's own cache is not used:
it would return a path without a look at the files there, whereas opening a store checks them.
"""

import hashlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.errors import DataError
from data_prep.labels.patients import CHESTXRAY14
from data_prep.phantom.dataset import PHANTOM_VERSION, PhantomSettings, write_phantom
from data_prep.sources.chestxray14 import IMAGE_COUNT
from data_prep.sources.folder import FolderSource
from data_prep.sources.medmnist import CHESTMNIST, MedMnistSource, file_name
from data_prep.store.build import UNREADABLE_LIMIT
from data_prep.store.checks import Expected, check_store, require, table
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.recipe import store_key
from data_prep.store.store import Store
from tasks.data.archives import ArchiveSettings, prepare_archive_store
from tasks.data.label_settings import LabelSettings
from tasks.records.data import CheckRecord
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings, absolute_path

PHANTOM = "phantom"
_NAMED = 5  # of the files or rows that a log line is about
NAMED_SOURCES = (PHANTOM, CHESTXRAY14, CHESTMNIST)  # any other source is a folder


class DataSettings(Settings):
    """The images and labels of a run, and the size at which images are decoded."""

    source: str = Field(
        PHANTOM, description="'phantom', 'chestxray14', 'chestmnist', or a folder of images with a label table"
    )
    labels: LabelSettings = Field(LabelSettings(), description="the label table, and which of its columns are labels")
    size: int = Field(64, ge=8, le=4096, description="side of the decoded images, pixels")
    unreadable_limit: float = Field(
        UNREADABLE_LIMIT, ge=0, le=1, description="share of unreadable images above which the run stops"
    )
    allow_missing: bool = Field(
        False, description="go on if more than 1 % of the images have no row, or of the rows no image"
    )
    chest_radiographs: bool = Field(
        False, description="vouch that a DICOM file shows a chest radiograph where it does not say what it shows"
    )
    phantom: PhantomSettings = Field(PhantomSettings(), description="the images to render if the source is 'phantom'")
    archives: ArchiveSettings = Field(ArchiveSettings(), description="the archives if the source is 'chestxray14'")

    @field_validator("source")
    @classmethod
    def _absolute_source(cls, source: str) -> str:
        return source if source in NAMED_SOURCES else str(absolute_path(Path(source)))

    @property
    def name(self) -> str:
        """Name of the data in reports and run names."""
        return self.source if self.source in NAMED_SOURCES else Path(self.source).name

    @property
    def expected_images(self) -> int | None:
        """Number of images of the whole data set; None if it is not known."""
        is_complete = self.source == CHESTXRAY14 and not (self.archives.parts or self.archives.manifest)
        return IMAGE_COUNT if is_complete else None


class StoreRef(BaseModel):
    """The path of a store and the hash of its content.

    Attributes:
        reused: the store was there already; then nothing was decoded.
        decoded: number of images that were decoded for it, those that cannot be read included.
        reused_images: number of images that were not, because their files had been decoded before.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    path: Path
    fingerprint: str
    reused: bool
    decoded: int = 0
    reused_images: int = 0

    def log(self, content: str) -> None:
        """Say where the store is, how much of its `content` was decoded now, and how much before."""
        new = f"{self.decoded} new images decoded, {self.reused_images} reused"
        LOGGER.info("store: %s; %s, in %s", "reused, nothing decoded" if self.reused else new, content, self.path)


@task(name="render phantom", cache_policy=NO_CACHE)
def render_phantom(settings: PhantomSettings) -> Path:
    """Render the phantom's images and label table in NIH's layout, unless they are there already.

    Returns:
        The folder of the images and the table.
    """
    identity = hashlib.sha256(f"{PHANTOM_VERSION} {settings.model_dump_json()}".encode()).hexdigest()[:16]
    folder = home().phantoms / identity
    with progress("rendering the phantom") as update:
        rendered = write_phantom(settings, folder, workers=processors(), progress=update)
    LOGGER.info("phantom: %s %s", "rendered into" if rendered else "reused, nothing rendered:", folder)
    return folder


@task(name="decode images", cache_policy=NO_CACHE)
def decode_images(data: DataSettings, folder: Path) -> StoreRef:
    """Decode the images of a folder into a store, unless it is there already.

    Raises:
        DataError: see `FolderSource.open` and `build_store`.
    """
    population = f"{PHANTOM}/{folder.name}" if data.source == PHANTOM else None
    labels = data.labels
    source = FolderSource.open(
        folder, labels.table, population, columns=labels.columns, allow_missing=data.allow_missing
    )
    return _decode(data, replace(source, chest=data.chest_radiographs))


@task(name="decode chestmnist", cache_policy=NO_CACHE)
def decode_chestmnist(data: DataSettings) -> StoreRef:
    """Build the store of ChestMNIST; if its file is missing, the package `medmnist` downloads it.

    Raises:
        DataError: see `MedMnistSource.open`.
    """
    folder = data.archives.folder or Path.home() / ".medmnist"
    if not data.archives.folder and not (folder / file_name(data.size)).exists():
        _download_chestmnist(folder, data.size)
    return _decode(data, MedMnistSource.open(folder, data.size))


def _download_chestmnist(folder: Path, size: int) -> None:
    remedy = f"name the folder of {file_name(size)} with --from"
    try:
        package = importlib.import_module("medmnist")
    except ImportError as error:
        raise DataError(
            f"ChestMNIST is not on this machine: pip install 'medmtl[medmnist]' to download it, or {remedy}"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        package.ChestMNIST(split="train", size=size, download=True, root=str(folder))
    except RuntimeError as error:
        raise DataError(f"ChestMNIST cannot be downloaded ({error}): {remedy}") from error


@task(name="decode archives", cache_policy=NO_CACHE)
def decode_archives(data: DataSettings) -> StoreRef:
    """Build the store of ChestX-ray14's archives, or of those in a manifest; missing archives are downloaded.

    Raises:
        DataError: see `prepare_archive_store`.
    """
    pool = PixelPool(home().pixels, say=LOGGER.info)
    vouch = {"chest": data.chest_radiographs, "allow_missing": data.allow_missing}
    store, reused = prepare_archive_store(data.archives, data.labels, data.size, data.unreadable_limit, pool, **vouch)
    return _ref(data, store, reused, decoded=pool.decoded, reused_images=pool.reused)


def _decode(data: DataSettings, source: FolderSource | MedMnistSource) -> StoreRef:
    key = home().patient_key
    path = home().stores / store_key(source, data.size, key)
    reused, pool = path.exists(), PixelPool(home().pixels, say=LOGGER.info)
    decode = partial(build_store, source, path, data.size, key=key, unreadable_limit=data.unreadable_limit, pool=pool)
    with progress("decoding images") as update:
        store = decode(workers=processors(), progress=update)
    return _ref(data, store, reused, decoded=pool.decoded, reused_images=pool.reused)


def _ref(data: DataSettings, store: Store, reused: bool, **images: int) -> StoreRef:
    """Return a store's reference, with the numbers of `images` that were decoded and reused; say what it holds."""
    ref = StoreRef(name=data.name, path=store.path, fingerprint=store.fingerprint, reused=reused, **images)
    ref.log(f"{len(store.images)} images of {store.size} px, {len(store.quarantine)} quarantined")
    for line in _left_out(store):
        LOGGER.info(line)
    return ref


def _left_out(store: Store) -> Iterator[str]:
    """Say which columns are labels and which are not, what was left out, and which pictures have several patients."""
    facts = store.manifest
    yield f"labels: {', '.join(store.labels)}"
    if ignored := facts["label_table"]["ignored_columns"]:
        yield f"columns that are not used: {', '.join(f'{name} ({why})' for name, why in ignored.items())}"
    for what, missing in (("images", "a row"), ("rows", "an image")):
        if count := facts[f"{what}_without_{missing.split()[1]}"]:
            yield f"{what} without {missing} ({count}): {_some(facts[f'unmatched_{what}'])}"
    yield from facts["remarks"]
    if store.same_pixels:
        yield f"pictures under several patients ({len(store.same_pixels)}), such as {_some(store.same_pixels[0])}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


@task(name="check store", cache_policy=NO_CACHE)
def check_images(ref: StoreRef, expected: int | None = None) -> tuple[CheckRecord, ...]:
    """Check a store against the rules for the data; the results also become a table artifact of the Prefect run.

    Args:
        ref: the store.
        expected: number of images of the whole data set; None: not known.

    Returns:
        One record per rule.

    Raises:
        DataError: a rule is broken.
    """
    results = check_store(Store.open(ref.path), Expected(images=expected))
    rows = table(results)
    create_table_artifact(rows, key="checks", description=f"checks of the store {ref.path}")
    for row in rows:
        LOGGER.log(logging.DEBUG if row["result"] == "ok" else logging.WARNING, "%(result)s: %(rule)s, %(found)s", row)
    require(results)
    LOGGER.info("checks: all %d passed", len(rows))
    return tuple(CheckRecord(**row) for row in rows)
