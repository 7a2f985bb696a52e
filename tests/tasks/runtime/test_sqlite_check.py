"""A database that passes the check can be read; any other is refused in one line with its name and the remedy."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.errors import DataError
from tasks.runtime.sqlite_check import MLFLOW, PREFECT, check_database

KNOWN = {PREFECT: "f92143d30c24", MLFLOW: "0584bdc529eb"}


def make(path: Path, revision: str | None = KNOWN[MLFLOW], wal: bool = False) -> None:
    with closing(sqlite3.connect(path)) as database:
        if wal:
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT, value REAL)")
        database.execute("CREATE INDEX by_name ON runs (name)")
        rows = ((n, f"{n:040x}", n / 7) for n in range(400))
        database.executemany("INSERT INTO runs VALUES (?, ?, ?)", rows)
        if revision is not None:
            database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        database.commit()


def read_all(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.text_factory = bytes  # a letter more or less is no damage that a check could see
        for query in ("SELECT * FROM runs", "SELECT * FROM runs ORDER BY name", "SELECT * FROM alembic_version"):
            database.execute(query).fetchall()


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        check_database(path, MLFLOW)
    line = str(refused.value)
    assert "\n" not in line
    assert str(path) in line
    assert "move" in line or "right" in line
    return line


@pytest.mark.parametrize("maker", [PREFECT, MLFLOW], ids=lambda maker: maker.name)
@pytest.mark.parametrize("wal", [False, True])
def test_a_sound_one_an_empty_one_and_none_are_taken(maker: object, wal: bool, tmp_path: Path) -> None:
    assert maker in (PREFECT, MLFLOW)
    check_database(tmp_path / "none.db", maker)
    (tmp_path / "empty.db").touch()
    check_database(tmp_path / "empty.db", maker)
    make(tmp_path / "sound ü#%41.db", KNOWN[maker], wal)
    check_database(tmp_path / "sound ü#%41.db", maker)


Damage = Callable[[bytearray, random.Random], bytes]


def truncated(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(1, len(content))])


def zeroed(content: bytearray, rng: random.Random) -> bytes:
    for page in rng.sample(range(len(content) // 4096), rng.randint(1, 3)):
        content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    return bytes(content)


def flipped(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 200)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def header(content: bytearray, rng: random.Random) -> bytes:
    content[rng.randrange(100)] ^= 1 << rng.randrange(8)
    return bytes(content)


def shifted(content: bytearray, rng: random.Random) -> bytes:
    cut = rng.randrange(100, len(content))
    return bytes(content[:cut] + rng.randbytes(rng.randint(1, 5000)) + content[cut:])


def text(content: bytearray, rng: random.Random) -> bytes:
    return ("not a database\n" * rng.randint(1, 999)).encode()


def noise(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.choice([0, 16, 100])]) + rng.randbytes(rng.randint(1, 20000))


@example(damage=flipped, seed=510511)  # a name that is no UTF-8
@example(damage=flipped, seed=590)  # an index that points beside its rows
@given(damage=st.sampled_from([truncated, zeroed, flipped, header, shifted, text, noise]), seed=st.integers(0, 2**32))
def test_whatever_is_damaged_is_refused_or_can_be_read(
    damage: Damage, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "mlflow.db"
    make(path)
    path.write_bytes(damage(bytearray(path.read_bytes()), random.Random(seed)))
    try:
        check_database(path, MLFLOW)
    except DataError:
        refusal(path)
    else:
        read_all(path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make_node", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(suffix: str, make_node: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "mlflow.db")
    node = Path(f"{tmp_path / 'mlflow.db'}{suffix}")
    node.unlink(missing_ok=True)
    make_node(node)
    with pytest.raises(DataError, match=f"{node}.* is no file: move it away"):
        check_database(tmp_path / "mlflow.db", MLFLOW)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads and writes everything")
@pytest.mark.parametrize("mode", [0, 0o400, 0o200])
def test_one_without_rights_is_refused(mode: int, tmp_path: Path) -> None:
    make(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").chmod(mode)
    assert "give yourself the right" in refusal(tmp_path / "mlflow.db")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").symlink_to("mlflow.db")
    assert "cannot be read" in refusal(tmp_path / "mlflow.db")


@given(revision=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=32))
def test_one_of_a_version_that_is_not_known_is_refused(revision: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("other") / "mlflow.db"
    make(path, revision)
    assert "another version of MLflow" in refusal(path)


def test_another_program_s_tables_are_not_written_into(tmp_path: Path) -> None:
    make(tmp_path / "mlflow.db", revision=None)
    assert "another program" in refusal(tmp_path / "mlflow.db")


def test_one_in_use_is_taken(tmp_path: Path) -> None:
    make(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        check_database(tmp_path / "mlflow.db", MLFLOW)
