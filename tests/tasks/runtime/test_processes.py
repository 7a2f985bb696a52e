"""Who owns a run, and whether they are still there."""

import subprocess
import sys

from tasks.runtime.processes import has_exited, process_name


def test_this_process_is_here_and_one_that_ended_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = process_name().rpartition(":")[0]
    assert not has_exited(process_name())
    assert has_exited(f"{host}:{ended.pid}")


def test_nothing_is_said_of_other_machines_or_of_names_that_are_none() -> None:
    assert not any(map(has_exited, ["elsewhere:1", "", ":", "nonsense", f"{process_name()}x"]))
