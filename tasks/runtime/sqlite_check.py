"""Check SQLite databases at the start: a damaged one is named with its remedy, instead of errors of those who use it.

Prefect's server would restart its migrations for minutes, MLflow would show the SQL that failed.
"""

import os
import re
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from data_prep.errors import DataError

HEADER = b"SQLite format 3\0"
CHECK_SECONDS = 0.7  # what has been looked at until then is enough: 100 MB at least
BESIDE = ("", "-wal", "-shm", "-journal")  # what SQLite itself opens
IN_USE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT")  # a living command writes, or the time is over


@dataclass(frozen=True)
class Maker:
    """Who uses a database.

    Attributes:
        name: for messages.
            migrations: the package's folder of migrations, whose files name the known revisions.
        loss: what follows if the database is moved away.
    """

    name: str
    migrations: str
    loss: str

    @property
    def package(self) -> str:
        """The name of the package."""
        return self.name.lower()


PREFECT = Maker(
    "Prefect",
    "server/database/_migrations/versions/sqlite",
    "a new one is made; the list of past runs is lost, all results are kept",
)
MLFLOW = Maker(
    "MLflow",
    "store/db_migrations/versions",
    "a new one is made; runs and registered models are no longer listed, their files in mlflow-artifacts are kept",
)


def check_database(path: Path, maker: Maker) -> None:
    """Check that a database can be opened, read and written, is undamaged, and is of a known version.

    One that does not exist, or is empty, is all right. It takes a second at most.

    Raises:
        DataError: it cannot be used.
    """
    whose, remedy = f"{maker.name}'s database {path}", f"restore it from a backup, or move it away: {maker.loss}"
    try:
        for suffix in BESIDE:
            with suppress(FileNotFoundError):
                _check_file(Path(f"{path}{suffix}"), maker)
        if not path.exists() or not path.stat().st_size:
            return
        with path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                raise DataError(f"{whose} is damaged (it does not begin as one): {remedy}")
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=1)) as database:
            found = _first_fault(database)
            revision = _revision(database)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(IN_USE):
            return
        found = str(error)
    except UnicodeDecodeError:  # from names in the database, or from the message of an error that quotes them
        found = "its names are no text"
    except OSError as error:
        raise DataError(f"{whose} cannot be read ({error.strerror}): {remedy}") from error
    if found:
        raise DataError(f"{whose} cannot be used ({found}): {remedy}")
    _check_revision(revision, whose, maker)


def _check_file(path: Path, maker: Maker) -> None:
    whose = f"{path}, which {maker.name} uses,"
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{whose} is no file: move it away")
    if not os.access(path, os.R_OK | os.W_OK):
        raise DataError(f"{whose} cannot be read and written: give yourself the right, or move it away")


def _first_fault(database: sqlite3.Connection) -> str:
    timer = threading.Timer(CHECK_SECONDS, database.interrupt)
    timer.start()
    try:
        (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    finally:
        timer.cancel()
        timer.join()  # before the connection is closed
    return "" if found == "ok" else " ".join(str(found).replace("*", "").split())


def _revision(database: sqlite3.Connection) -> str | None:
    """Return the revision of the tables; None: there are no tables yet, an empty text: they are somebody else's."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        return "" if tables else None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None  # a kill came while the first tables were made


def _check_revision(revision: str | None, whose: str, maker: Maker) -> None:
    if revision == "":
        raise DataError(f"{whose} holds the tables of another program: move it away: {maker.loss}")
    package = find_spec(maker.package)
    if revision is None or package is None or not package.submodule_search_locations:
        return
    files = (Path(package.submodule_search_locations[0]) / maker.migrations).glob("*.py")
    known = re.compile(rf"^revision\b.*['\"]{re.escape(revision)}['\"]", re.MULTILINE)
    if not any(known.search(file.read_text(encoding="utf-8")) for file in files):
        raise DataError(
            f"{whose} was made by another version of {maker.name} (its revision {revision[:20]!r} is unknown to "
            f"{version(maker.package)}): install that version, or move the database away: {maker.loss}"
        )
