"""Who owns a run, and whether they are still there."""

import subprocess
import sys

from tasks.runtime.processes import is_gone, this_process


def test_this_process_is_here_and_one_that_ended_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = this_process().rpartition(":")[0]
    assert not is_gone(this_process())
    assert is_gone(f"{host}:{ended.pid}")


def test_nothing_is_said_of_other_machines_or_of_names_that_are_none() -> None:
    assert not any(map(is_gone, ["elsewhere:1", "", ":", "nonsense", f"{this_process()}x"]))
