"""The home is for its owner only, its databases are where it is, and what it keeps for good is kept whole."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from data_prep.errors import DataError
from tasks.runtime.home import LEAST_FREE_MB, OWN, home


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_patient_key_is_made_once_for_its_owner_s_eyes_and_again_if_a_kill_left_it_empty() -> None:
    path = home().root / "patient.key"
    path.touch(0o600)
    key = home().patient_key
    assert len(key) == 32
    assert home().patient_key == key
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [1, 31, 33, 4000])
def test_a_patient_key_that_was_cut_is_not_taken_for_another(size: int) -> None:
    (home().root / "patient.key").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"is damaged \({size} bytes"):
        _ = home().patient_key


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(name=NAMES | st.sampled_from(["a?b", "a#b", "a%41", "a\nb", "\udcff", "~", "a b", "ü", "a\u0308", "\u202e"]))
def test_a_name_is_refused_in_one_line_or_the_database_is_there(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(name not in (".", ".."))
    folder = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", f"{folder}/{name}")
        try:
            root = home().root
        except DataError:
            assert "?" in name or not name.isprintable()
            assert not list(folder.iterdir())
            return
        address = make_url(home().tracking_uri)
        assert (root, address.database, dict(address.query)) == (folder / name, str(folder / name / "mlflow.db"), {})
        assert list(folder.iterdir()) == [root]


@given(sign=st.sampled_from("?\n\r\t\x1b\x7f\u2028\udc80"))
def test_signs_that_no_address_can_hold_are_named(sign: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", f"/nowhere/a{sign}b")
        with pytest.raises(DataError) as refused:
            home()
        assert f"cannot hold {sign!r}" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_a_tilde_and_a_relative_path_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given_name, meant in (("~/a", "a"), ("b", "b"), ("", ".medmtl")):
        monkeypatch.setenv("MEDMTL_HOME", given_name)
        assert home().root == tmp_path / meant


def test_a_file_a_link_to_nothing_and_a_loop_are_refused(root: Path) -> None:
    for make in (Path.touch, lambda path: path.symlink_to("nothing"), lambda path: path.symlink_to(path)):
        make(root)
        with pytest.raises(DataError, match="set MEDMTL_HOME to a folder you own"):
            home()
        root.unlink()


def test_a_link_to_a_folder_is_followed(root: Path) -> None:
    elsewhere = root.with_name("elsewhere")
    elsewhere.mkdir(0o755)
    root.symlink_to(elsewhere)
    assert home().root == root
    assert mode(elsewhere) == 0o700


@given(
    ours=st.lists(st.sampled_from(sorted(OWN)), unique=True),
    others=st.lists(st.sampled_from(["notes.txt", "Desktop", ".bashrc"]), unique=True),
    rights=st.sampled_from([0o755, 0o777, 0o775, 0o750, 0o701]),
    sticky=st.booleans(),
)
def test_what_an_older_version_left_open_is_closed_and_nothing_that_is_not_ours(
    ours: list[str], others: list[str], rights: int, sticky: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("open")
    for name in (*ours, *others):
        (root / name).mkdir()
        (root / name).chmod(rights)
    root.chmod(rights | (0o1000 if sticky else 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", str(root))
        home()
    assert mode(root) == (rights if others or sticky else 0o700)
    for name in ours:
        assert not (mode(root) & mode(root / name)) & 0o077  # closed itself, or behind a closed door
    for name in others:
        assert mode(root / name) == rights


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every folder")
def test_a_folder_without_rights_is_refused(root: Path) -> None:
    root.mkdir(0o500)
    with pytest.raises(DataError, match="set MEDMTL_HOME to a folder you own"):
        home()


def test_another_user_s_folder_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home()
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(DataError, match="belongs to another user"):
        home()


@pytest.mark.parametrize("free", [0, 1, LEAST_FREE_MB - 1])
def test_a_full_disk_is_said_before_the_start(free: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home().check_space()
    disk: Callable[[Path], object] = lambda _: SimpleNamespace(free=free * 1e6)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", disk)
    with pytest.raises(DataError, match=rf"{free} MB are free in .*home, {LEAST_FREE_MB} MB are the least"):
        home().check_space()
