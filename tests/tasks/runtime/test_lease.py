"""Who still lives: the holder of a lease, and nobody else, whatever became of its process number or its host."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.lease import has_ended, lease_name

HOLDER = "from tasks.runtime.lease import lease_name; print(lease_name(), flush=True); input()"


def holder() -> tuple["subprocess.Popen[str]", str]:
    """A process that holds a lease until its input closes, and the lease's name."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def leases() -> set[str]:
    return {path.name for path in Path(os.environ["MEDMTL_HOME"], "leases").iterdir()} - {"home", "home.lock"}


def test_a_process_lives_as_long_as_it_holds_its_lease_and_is_dead_after_any_end() -> None:
    for ending in (signal.SIGKILL, signal.SIGTERM, None):
        process, name = holder()
        assert not has_ended(name)
        if ending is None:
            process.communicate("\n")
            assert name.partition(":")[2] not in leases()  # it took its lease away
        else:
            process.send_signal(ending)
            process.wait()
        assert has_ended(name)
        assert has_ended(name)  # and stays so when its file is gone
    assert leases() <= {lease_name().partition(":")[2]}


def test_a_new_lease_clears_away_those_of_the_dead() -> None:
    (dead, _), (living, name) = holder(), holder()
    dead.kill()
    dead.wait()
    own = lease_name()
    assert leases() == {each.partition(":")[2] for each in (name, own)}
    living.kill()
    living.wait()


def test_a_process_has_one_lease_in_a_home_and_lives_for_itself_too() -> None:
    assert lease_name() == lease_name()
    assert not has_ended(lease_name())


def test_a_forked_child_has_a_lease_of_its_own_and_keeps_none_of_its_parent_alive() -> None:
    process, name = holder_of_a_forked_child()
    assert process.stdout
    of_child = process.stdout.readline().strip()
    assert of_child != name
    assert not has_ended(name)
    process.kill()
    process.wait()
    assert has_ended(name)
    assert not has_ended(of_child)
    assert process.stdin
    process.stdin.close()  # the child's input too
    process.stdout.read()  # until it has ended
    assert has_ended(of_child)


def holder_of_a_forked_child() -> tuple["subprocess.Popen[str]", str]:
    forking = (
        "import os, time\nfrom tasks.runtime.lease import lease_name\nprint(lease_name(), flush=True)\n"
        "if os.fork():\n    time.sleep(600)\nelse:\n    print(lease_name(), flush=True)\n    os.read(0, 1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", forking], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def test_nothing_is_said_of_the_processes_of_another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, name = holder()
    process.kill()
    process.wait()
    own = lease_name()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MEDMTL_HOME", str(tmp_path / "other"))
        assert not has_ended(name)
        assert lease_name().partition(":")[0] != own.partition(":")[0]
    assert has_ended(name)
    assert lease_name() == own


@given(name=st.text(max_size=40) | st.from_regex(r"[0-9a-f]{16}:[0-9a-f]{16}", fullmatch=True))
def test_nothing_is_said_of_text_that_is_no_name_here(name: str) -> None:
    assert not has_ended(name)


@given(path=st.sampled_from(["../mlflow.db", "home", "home.lock", "", ".", "../leases/home", "/etc/passwd"]))
def test_no_name_reaches_a_file_that_is_no_lease(path: str) -> None:
    of_home, _, _ = lease_name().partition(":")
    assert not has_ended(f"{of_home}:{path}")
    assert "home" in {entry.name for entry in Path(os.environ["MEDMTL_HOME"], "leases").iterdir()}
