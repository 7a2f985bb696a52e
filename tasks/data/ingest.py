"""From a source to a store: the phantom rendered or a folder taken as it is, then decoded, each once.

What is made is kept under a name that says what went into it, so it is made once. Prefect's own cache is not
used here: it would vouch for a path without looking at what lies there, and opening a store checks it.
"""

import hashlib
import importlib
import logging
from functools import partial
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.errors import DataError
from data_prep.labels.patients import CHESTXRAY14
from data_prep.phantom.dataset import PHANTOM_VERSION, PhantomSettings, write_phantom
from data_prep.sources.chestxray14 import IMAGES
from data_prep.sources.folder import FolderSource
from data_prep.sources.medmnist import CHESTMNIST, MedMnistSource, file_name
from data_prep.store.checks import Expected, check_store, require, table
from data_prep.store.recipe import UNREADABLE_LIMIT, build_store, store_key
from data_prep.store.store import Store
from tasks.data.archives import ArchiveSettings, archive_store
from tasks.records.study import CheckRecord
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings

PHANTOM = "phantom"
_NAMED = (PHANTOM, CHESTXRAY14, CHESTMNIST)  # sources that are no folder


class DataSettings(Settings):
    """Which images and labels, and at what size they are decoded."""

    source: str = Field(
        PHANTOM, description="'phantom', 'chestxray14', 'chestmnist', or a folder of images with a label table"
    )
    labels: Path | None = Field(None, description="the label table, when it does not lie in the folder")
    size: int = Field(64, ge=8, le=4096, description="side of the decoded images, pixels")
    unreadable_limit: float = Field(
        UNREADABLE_LIMIT, ge=0, le=1, description="share of images that may be unreadable before the run stops"
    )
    phantom: PhantomSettings = Field(PhantomSettings(), description="what is rendered when the source is 'phantom'")
    archives: ArchiveSettings = Field(ArchiveSettings(), description="the archives when the source is 'chestxray14'")

    @field_validator("source")
    @classmethod
    def _absolute_source(cls, source: str) -> str:
        return source if source in _NAMED else str(Path(source).expanduser().resolve())

    @field_validator("labels")
    @classmethod
    def _absolute_labels(cls, labels: Path | None) -> Path | None:
        return labels and labels.expanduser().resolve()

    @property
    def name(self) -> str:
        """How the data are called in reports and run names."""
        return self.source if self.source in _NAMED else Path(self.source).name


class StoreRef(BaseModel):
    """Where a store is, and the hash of what is in it."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: Path
    fingerprint: str
    reused: bool


@task(name="render phantom", cache_policy=NO_CACHE)
def render_phantom(settings: PhantomSettings) -> Path:
    """The folder of the phantom's images and table, in NIH's layout; rendered if it is not there yet."""
    identity = hashlib.sha256(f"{PHANTOM_VERSION} {settings.model_dump_json()}".encode()).hexdigest()[:16]
    folder = home().phantoms / identity
    with progress("rendering the phantom") as update:
        rendered = write_phantom(settings, folder, workers=processors(), progress=update)
    LOGGER.info("phantom: %s %s", "rendered into" if rendered else "reused, nothing rendered:", folder)
    return folder


@task(name="decode images", cache_policy=NO_CACHE)
def decode_images(data: DataSettings, folder: Path) -> StoreRef:
    """The store of a folder's images; decoded if it is not there yet.

    Raises:
        DataError: see `FolderSource.open` and `build_store`.
    """
    population = f"{PHANTOM}/{folder.name}" if data.source == PHANTOM else None
    return _decoded(data, FolderSource.open(folder, data.labels, population))


@task(name="decode chestmnist", cache_policy=NO_CACHE)
def decode_chestmnist(data: DataSettings) -> StoreRef:
    """The store of ChestMNIST at the size asked for; its file is downloaded by the package `medmnist` if need be.

    Raises:
        DataError: see `MedMnistSource.open`.
    """
    folder = data.archives.folder or Path.home() / ".medmnist"
    if not data.archives.folder and not (folder / file_name(data.size)).exists():
        _download_chestmnist(folder, data.size)
    return _decoded(data, MedMnistSource.open(folder, data.size))


def _download_chestmnist(folder: Path, size: int) -> None:
    remedy = f"name a folder that holds {file_name(size)} with --from"
    try:
        package = importlib.import_module("medmnist")
    except ImportError as error:
        raise DataError(f"no ChestMNIST here: pip install 'medmtl[medmnist]' to download it, or {remedy}") from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        package.ChestMNIST(split="train", size=size, download=True, root=str(folder))
    except RuntimeError as error:
        raise DataError(f"ChestMNIST cannot be downloaded ({error}): {remedy}") from error


@task(name="decode archives", cache_policy=NO_CACHE)
def decode_archives(data: DataSettings) -> StoreRef:
    """The store of ChestX-ray14's archives (or of others of the same shape), downloaded if they are not at hand.

    Raises:
        DataError: see `archive_store`.
    """
    return _ref(data, *archive_store(data.archives, data.labels, data.size, data.unreadable_limit))


def _decoded(data: DataSettings, source: FolderSource | MedMnistSource) -> StoreRef:
    key = home().patient_key
    path = home().stores / store_key(source, data.size, key)
    reused = path.exists()
    decode = partial(build_store, source, path, data.size, key=key, unreadable_limit=data.unreadable_limit)
    with progress("decoding images") as update:
        return _ref(data, decode(workers=processors(), progress=update), reused)


def _ref(data: DataSettings, store: Store, reused: bool) -> StoreRef:
    found = f"{len(store.images)} images of {store.size} px, {len(store.quarantine)} quarantined"
    LOGGER.info("store: %s (%s) %s", "reused, nothing decoded:" if reused else "decoded into", found, store.path)
    return StoreRef(name=data.name, path=store.path, fingerprint=store.fingerprint, reused=reused)


@task(name="check store", cache_policy=NO_CACHE)
def check_images(data: DataSettings, ref: StoreRef) -> tuple[CheckRecord, ...]:
    """Check the rules that must hold of a store; a row for each, kept as a table with the run.

    Raises:
        DataError: a rule is broken.
    """
    whole = data.source == CHESTXRAY14 and not (data.archives.parts or data.archives.manifest)
    results = check_store(Store.open(ref.path), Expected(images=IMAGES if whole else None))
    rows = table(results)
    create_table_artifact(rows, key="checks", description=f"what must hold of the store {ref.path}")
    for row in rows:
        LOGGER.log(logging.DEBUG if row["result"] == "ok" else logging.WARNING, "%(result)s: %(rule)s, %(found)s", row)
    require(results)
    LOGGER.info("checks: all %d rules hold", len(rows))
    return tuple(CheckRecord(**row) for row in rows)
