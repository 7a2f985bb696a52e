"""Who owns a run, and whether they are still there."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.processes import has_exited, process_name


def test_this_process_is_here_and_one_that_ended_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = process_name().rpartition(":")[0]
    assert not has_exited(process_name())
    assert has_exited(f"{host}:{ended.pid}")


def test_nothing_is_said_of_other_machines_or_of_names_that_are_none() -> None:
    assert not any(map(has_exited, ["elsewhere:1", "", ":", "nonsense", f"{process_name()}x"]))


@given(number=st.text(st.characters(categories=["N"]), max_size=30) | st.integers().map(str))
def test_no_number_in_an_old_record_raises_an_error(number: str) -> None:
    has_exited(f"{process_name().rpartition(':')[0]}:{number}")
