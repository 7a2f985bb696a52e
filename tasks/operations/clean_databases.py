"""Give the space of removed rows back: SQLite keeps it in its file until the database is written anew."""

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

from tasks.operations.removable import Finding
from tasks.runtime.home import Home
from tasks.runtime.lease import is_locked, lease_name
from tasks.runtime.progress import LOGGER
from tasks.runtime.servers import sqlite_path

WHILE_OTHERS = "while another command runs"
LEAST_BYTES = 1 << 20
"""Less free space in a database is not worth writing it anew."""


def find_databases(home: Home) -> Finding:
    """Find the SQLite databases with much free space in them; none is written anew while another command runs."""
    finding = Finding("databases written anew")
    own = lease_name().partition(":")[2]
    leases = (home.root / "leases").glob("*")
    others = any(is_locked(lease) for lease in leases if lease.suffix != ".lock" and lease.name != own)
    for path in (sqlite_path(home.tracking_uri), home.prefect / "prefect.db"):
        if path and path.is_file() and free_bytes(path) >= LEAST_BYTES:
            finding.add(WHILE_OTHERS if others else None, partial(free_bytes, path), partial(_vacuum, path))
    return finding


def free_bytes(path: Path) -> int:
    """Return the bytes of a SQLite database that hold nothing."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
        (pages,) = database.execute("PRAGMA freelist_count").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def _vacuum(path: Path) -> bool:
    """Write a database anew; leave it if it is in use after all, or the disk has no room."""
    if shutil.disk_usage(path.parent).free < 2 * path.stat().st_size:
        LOGGER.info("%s: the disk has no room to write it anew", path)
        return False
    try:
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as database:
            database.execute("VACUUM")
    except sqlite3.OperationalError as error:
        LOGGER.info("%s: not written anew (%s); run medmtl clean again while no other command runs", path, error)
        return False
    return True
