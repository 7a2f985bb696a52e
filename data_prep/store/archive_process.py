"""A process that reads an archive and decodes into a pool those of its images that the pool does not know."""

import hashlib
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import filelock

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.sources.archives import ImageSelection, Member, ReadProgress, open_archive
from data_prep.store.archive_index import Index, archive_lock
from data_prep.store.build import add_item
from data_prep.store.decode_items import decode_item, start_worker
from data_prep.store.pool import Known, PoolShards, pool_name
from data_prep.store.shards import ShardWriter
from data_prep.store.store import image_shape


@dataclass(frozen=True)
class ArchiveJob:
    """What the processes that read the archives of a store have in common.

    Attributes:
        folder: of the pool.
        images: names of the rows of the label table.
        size: side of the images, pixels.
        shard_images: images of a shard, at most.
        population: of the patients.
        secret: for opaque names.
        chest: see `LabelledSource`.
        known: SHA-256 of the files that need not be decoded.
    """

    folder: Path
    images: frozenset[str]
    size: int
    shard_images: int
    population: str
    secret: bytes
    chest: bool
    known: frozenset[str] = frozenset()


class Reading(NamedTuple):
    """What a process found that has read an archive to its end.

    Attributes:
        members: see `Index`.
        unread: by the SHA-256 of its file, why an image could not be read where another try may read it.
    """

    members: Index
    unread: Mapping[str, Known]


class _File(NamedTuple):
    content: bytes
    digest: str


def decode_archive(
    connection: Connection, job: ArchiveJob, archive: RemoteFile, file: Path, prefix: str, suspects: Collection[str]
) -> None:
    """Decode an archive into shards; the main function of a process, which ends when nobody reads `connection`.

    The connection receives ("at", (image, bytes read)) before each image, at last ("end", the `Reading`), "error" or
    "broken". The MD5 sum of the archive is checked where it has one.

    Args:
        connection: to the process that waits.
        job: what is to be decoded.
        archive: its name, and its MD5 sum if that is to be checked.
        file: its file.
        prefix: of its files in the pool.
        suspects: names of images to decode in isolation.
    """
    start_worker()
    try:
        # the process of a killed build may still be writing until it notices
        with filelock.FileLock(archive_lock(job.folder, prefix)):
            reading = _Reader(connection, job, suspects).read(archive, file, prefix)
        connection.send(("end", reading))
    except DataError as error:
        connection.send(("error", str(error)))
    except BrokenPipeError:
        return
    except Exception:
        connection.send(("broken", traceback.format_exc()))


class _Reader:
    """Reads one archive.

    Attributes:
        state: how far it is.
        index: of the members so far.
        unread: see `Reading`.
    """

    def __init__(self, connection: Connection, job: ArchiveJob, suspects: Collection[str]) -> None:
        self._connection, self._job, self._suspects = connection, job, suspects
        self.state, self.index, self.unread = ReadProgress(), list[Member[str]](), dict[str, Known]()

    def read(self, archive: RemoteFile, file: Path, prefix: str) -> Reading:
        job = self._job
        shards = PoolShards(job.folder, prefix, job.shard_images, image_shape(job.size, 1))
        with open_archive(file, self.state, md5=archive.md5 is not None) as members:
            images = self._unknown(members, {*job.known, *shards.digests()})
            while (first := next(images, None)) is not None:
                with shards.shard() as (_, shard):
                    for image, data in chain([first], islice(images, job.shard_images - 1)):
                        self._add(shard, image, data)
        if archive.md5 not in (None, self.state.md5):
            raise DataError(
                f"{file}: MD5 sum {self.state.md5} instead of {archive.md5}; the file is damaged: fetch it again"
            )
        return Reading(self.index, self.unread)

    def _unknown(self, members: Iterable[Member[bytes]], known: set[str]) -> Iterator[tuple[str, _File]]:
        """Yield the images with a row whose content is not `known`, each content once."""
        for image, data, _ in ImageSelection(self._job.images).select(self._indexed(members)):
            self._connection.send(("at", (image, self.state.position)))
            if data is not None and data.digest not in known:
                known.add(data.digest)
                yield image, data

    def _indexed(self, members: Iterable[Member[bytes]]) -> Iterator[Member[_File]]:
        for path, content, reason in members:
            data = None if content is None else _File(content, hashlib.sha256(content).hexdigest())
            self.index.append(Member(path, data and data.digest, reason))
            yield Member(path, data, reason)

    def _add(self, shard: ShardWriter, image: str, data: _File) -> None:
        """Decode an image into the shard, unless another try may give something else."""
        item = decode_item(image, data.content, self._job.size, isolate=image in self._suspects, chest=self._job.chest)
        if item.source_sha256:
            add_item(shard, pool_name(data.digest, item.dicom), item, self._job.population, self._job.secret)
        else:
            self.unread[data.digest] = Known(reason=item.reason, dicom=item.dicom)
