"""Archives of images: taken from a folder or downloaded, decoded one by one into a store, then deleted if wanted."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from data_prep.errors import DataError
from data_prep.fetch.download import Downloader, DownloadSettings, check_free_space
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.table import LabelTable, read_labels
from data_prep.sources.chestxray14 import (
    CHESTXRAY14,
    LIST_LENGTHS,
    Manifest,
    check_list,
    check_table,
    find_files,
    read_manifest,
)
from data_prep.store.from_archives import ArchiveFiles, ArchiveSource, build_from_archives
from data_prep.store.pool import PixelPool
from data_prep.store.recipe import store_key
from data_prep.store.store import Store
from tasks.data.label_settings import LabelSettings
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import AbsolutePath, Settings

MAX_ARCHIVES = 10_000
ArchiveNumber = Annotated[int, Field(ge=1, le=MAX_ARCHIVES)]


class ArchiveSettings(Settings):
    """Where the archives of images come from, which of them are used, and whether they are deleted afterwards."""

    folder: AbsolutePath | None = Field(None, description="folder that holds the files; then nothing is downloaded")
    manifest: AbsolutePath | None = Field(
        None,
        description="CSV of other archives than ChestX-ray14's, with the columns name, url, bytes, md5; "
        "none: ChestX-ray14",
    )
    parts: tuple[ArchiveNumber, ...] = Field(
        (), max_length=MAX_ARCHIVES, description="numbers of the archives to use; none: all"
    )
    discard: bool = Field(False, description="delete each archive once its images are in the store and were checked")
    download: DownloadSettings = Field(DownloadSettings(), description="how to download")

    @field_validator("parts", mode="before")
    @classmethod
    def _numbers(cls, parts: object) -> object:
        """Accept '1,2', as on the command line."""
        return tuple(part for part in parts.split(",") if part.strip()) if isinstance(parts, str) else parts


@dataclass(frozen=True)
class _FileProvider:
    """Provides files by name: those found in the user's folder, otherwise downloaded ones."""

    settings: ArchiveSettings
    found: dict[str, Path]
    downloader: Downloader

    def fetch(self, file: RemoteFile) -> Path:
        """Return the path of a file; download it if the user named no folder."""
        if file.name in self.found:
            return self.found[file.name]
        if self.settings.folder:
            raise DataError(
                f"{file.name} is not in {self.settings.folder}; name the parts that are there with --parts (and the "
                "label table with --labels), or omit --from to download it"
            )
        check = _checks(self.settings).get(file.name, lambda path: None)
        with progress(f"fetching {file.name}", of_bytes=True) as update:
            return self.downloader.fetch(file, update, check)

    def discard(self, archive: RemoteFile) -> None:
        """Delete an archive, if the settings say so."""
        if self.settings.discard:
            (self.found.get(archive.name) or self.downloader.folder / archive.name).unlink(missing_ok=True)


def prepare_archive_store(
    settings: ArchiveSettings,
    labels: LabelSettings,
    size: int,
    unreadable_limit: float,
    pool: PixelPool,
    *,
    chest: bool,
    allow_missing: bool,
) -> tuple[Store, bool]:
    """Build the store of the archives' images, or open it if it was built before.

    Args:
        settings: of the archives.
        labels: the label table, if not the manifest's, and its columns.
        size: side of the images, pixels.
        unreadable_limit: the share of images that may be unreadable.
        pool: decoded pixels that stores share.
        chest: the user vouches that DICOM files show the chest, see `LabelledSource`.
        allow_missing: more than 1 % of the images may lack a row, and of the rows an image.

    Returns:
        The store, and whether it was there already.

    Raises:
        DataError: see `find_files`, `Downloader.fetch`, `build_from_archives`.
    """
    manifest, folder = _manifest(settings)
    archives = manifest.parts(settings.parts)
    wanted = [*archives, *([manifest.table] if manifest.table else []), *manifest.lists]
    found = find_files(settings.folder, wanted) if settings.folder else {}
    key = home().patient_key
    with Downloader(folder, settings.download) as downloader:
        provider = _FileProvider(settings, found, downloader)
        table = _table(manifest, provider, labels)
        # the downloader checks the MD5 sums of the archives that it fetches
        files = ArchiveFiles(
            provider.fetch,
            expect=partial(_check_disk, provider, len(table.images) * size**2),
            discard=provider.discard,
            verified=lambda archive: archive.name not in found,
        )
        source = replace(
            ArchiveSource.of(table, archives, found, files),
            chest=chest,
            complete=not settings.parts,
            allow_missing=allow_missing,
        )
        path = home().stores / store_key(source, size, key)
        reused = path.exists()
        if not reused:
            _fetch_lists(provider, manifest)
        build = partial(build_from_archives, source, path, size, key=key, unreadable_limit=unreadable_limit, pool=pool)
        with progress("decoding archives", of_bytes=True) as update:
            store = build(workers=processors(), progress=update)
    return store, reused


def _manifest(settings: ArchiveSettings) -> tuple[Manifest, Path]:
    """Return the manifest, and the folder of its downloads."""
    if settings.manifest is None:
        return CHESTXRAY14, home().root / "downloads" / "chestxray14"
    manifest = read_manifest(settings.manifest)
    digest = hashlib.sha256(settings.manifest.read_bytes()).hexdigest()[:8]
    return manifest, home().root / "downloads" / f"{settings.manifest.stem}-{digest}"


def _table(manifest: Manifest, provider: _FileProvider, labels: LabelSettings) -> LabelTable:
    if labels.table:
        return read_labels(labels.table, labels.columns)
    if manifest.table is None:
        raise DataError("the manifest names no label table (.csv); name one with --labels FILE")
    return read_labels(provider.fetch(manifest.table), labels.columns)


def _fetch_lists(provider: _FileProvider, manifest: Manifest) -> None:
    """Download the lists; do nothing if the user named a folder."""
    if not provider.settings.folder:
        for file in manifest.lists:
            LOGGER.info("list: %s", provider.fetch(file))


def _check_disk(provider: _FileProvider, store_bytes: int, archives: Sequence[RemoteFile]) -> None:
    """Check that the disk has room for the archives that will be downloaded, and for the store."""
    if provider.settings.folder:
        return
    folder = provider.downloader.folder
    missing = [archive.bytes or 0 for archive in archives if not (folder / archive.name).exists()]
    # with `discard`, only the archives that are fetched and decoded at a time are on the disk: count the largest
    archive_bytes = sum(sorted(missing)[-processors() - 2 :]) if provider.settings.discard else sum(missing)
    folder.mkdir(parents=True, exist_ok=True)
    check_free_space(folder / "archives", archive_bytes + store_bytes)


def _checks(settings: ArchiveSettings) -> dict[str, partial[None]]:
    """Return, by file name, the checks of those ChestX-ray14 files that have no published checksum."""
    if settings.manifest is not None or CHESTXRAY14.table is None:
        return {}
    lists = {name: partial(check_list, length=length) for name, length in LIST_LENGTHS.items()}
    return {CHESTXRAY14.table.name: partial(check_table), **lists}
