"""Archives of images: taken from a folder or downloaded, decoded as they come, let go if asked."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field, field_validator

from data_prep.errors import DataError
from data_prep.fetch.download import Downloader, DownloadSettings, check_space
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
from data_prep.store.from_archives import ArchiveSource, build_from_archives
from data_prep.store.recipe import store_key
from data_prep.store.store import Store
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.settings import Settings


class ArchiveSettings(Settings):
    """Where archives of images come from, and what becomes of them."""

    folder: Path | None = Field(None, description="take the files from this folder; nothing is downloaded then")
    manifest: Path | None = Field(None, description="CSV of another archive of the same shape: name, url, bytes, md5")
    parts: tuple[int, ...] = Field((), description="numbers of the archives to take; none: all")
    discard: bool = Field(False, description="remove each archive once its images are in the store and were checked")
    download: DownloadSettings = Field(DownloadSettings(), description="how to download")

    @field_validator("folder", "manifest")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().resolve()

    @field_validator("parts", mode="before")
    @classmethod
    def _numbers(cls, parts: object) -> object:
        """'1,2' as on the command line."""
        return tuple(part for part in parts.split(",") if part.strip()) if isinstance(parts, str) else parts


@dataclass(frozen=True)
class _Supply:
    """Gives files by name: those found in the person's folder, else downloaded ones."""

    settings: ArchiveSettings
    found: dict[str, Path]
    downloader: Downloader

    def fetch(self, file: RemoteFile) -> Path:
        if file.name in self.found:
            return self.found[file.name]
        if self.settings.folder:
            raise DataError(
                f"{file.name} is not in {self.settings.folder}; name the parts that are there with --parts (and the "
                "label table with --labels), or leave --from out to download it"
            )
        check = _checks(self.settings).get(file.name, lambda path: None)
        with progress(f"fetching {file.name}", of_bytes=True) as update:
            return self.downloader.fetch(file, update, check)

    def discard(self, archive: RemoteFile) -> None:
        if self.settings.discard:
            (self.found.get(archive.name) or self.downloader.folder / archive.name).unlink(missing_ok=True)


def archive_store(
    settings: ArchiveSettings, labels: Path | None, size: int, unreadable_limit: float
) -> tuple[Store, bool]:
    """The store of the archives' images, and whether it was there already.

    labels: the label table, if not the manifest's. size: side of the images, pixels.

    Raises:
        DataError: see `find_files`, `Downloader.fetch`, `build_from_archives`.
    """
    manifest, folder = _manifest(settings)
    archives = manifest.parts(settings.parts)
    wanted = [*archives, *([manifest.table] if manifest.table else []), *manifest.lists]
    found = find_files(settings.folder, wanted) if settings.folder else {}
    key = home().patient_key
    with Downloader(folder, settings.download) as downloader:
        supply = _Supply(settings, found, downloader)
        table = _table(manifest, supply, labels)
        source = ArchiveSource.of(table, archives, found)
        path = home().stores / store_key(source, size, key)
        reused = path.exists()
        if not reused:
            _prepare(supply, manifest, archives, len(table.images) * size**2)
        build = partial(build_from_archives, source, path, size, supply.fetch, key=key, discard=supply.discard)
        build = partial(build, verified=lambda archive: archive.name not in found)  # the downloader has checked it
        with progress("decoding archives", of_bytes=True) as update:
            store = build(workers=processors(), progress=update, unreadable_limit=unreadable_limit)
    return store, reused


def _manifest(settings: ArchiveSettings) -> tuple[Manifest, Path]:
    """The manifest, and the folder that downloads of it go to."""
    if settings.manifest is None:
        return CHESTXRAY14, home().root / "downloads" / "chestxray14"
    manifest = read_manifest(settings.manifest)
    digest = hashlib.sha256(settings.manifest.read_bytes()).hexdigest()[:8]
    return manifest, home().root / "downloads" / f"{settings.manifest.stem}-{digest}"


def _table(manifest: Manifest, supply: _Supply, labels: Path | None) -> LabelTable:
    if labels:
        return read_labels(labels)
    if manifest.table is None:
        raise DataError("the manifest names no label table (.csv); name one with --labels FILE")
    return read_labels(supply.fetch(manifest.table))


def _prepare(supply: _Supply, manifest: Manifest, archives: tuple[RemoteFile, ...], store_bytes: int) -> None:
    """Look for room on the disk before anything large is fetched, and fetch the lists."""
    if supply.settings.folder:
        return
    folder = supply.downloader.folder
    missing = [archive.bytes or 0 for archive in archives if not (folder / archive.name).exists()]
    at_once = sum(sorted(missing)[-processors() - 2 :]) if supply.settings.discard else sum(missing)
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder / "archives", at_once + store_bytes)
    for file in manifest.lists:
        LOGGER.info("list: %s", supply.fetch(file))


def _checks(settings: ArchiveSettings) -> dict[str, partial[None]]:
    """What the files of ChestX-ray14 that have no published sum must look like."""
    if settings.manifest is not None or CHESTXRAY14.table is None:
        return {}
    lists = {name: partial(check_list, length=length) for name, length in LIST_LENGTHS.items()}
    return {CHESTXRAY14.table.name: partial(check_table), **lists}
