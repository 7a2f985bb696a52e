"""`medmtl doctor`: one table whatever is wrong, an exit code that says whether anything is, and nothing made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from flows.cli import medmtl
from flows.upkeep import LEAST_ROOM, table
from tasks.runtime.doctor import Check
from tests.tasks.runtime.test_servers import answering


def doctor(**variables: str) -> Result:
    return CliRunner().invoke(medmtl, ["doctor"], env=variables)


def wrong(result: Result) -> list[str]:
    return [line for line in result.output.splitlines() if line.startswith("WRONG")]


def test_a_healthy_machine_has_no_wrong_line_and_nothing_is_made(tmp_path: Path) -> None:
    result = doctor(MEDMTL_HOME=str(tmp_path / "home"))
    assert (result.exit_code, wrong(result)) == (0, [])
    assert "not there yet, the first command makes it" in result.output
    assert not list(tmp_path.iterdir())


def a_file(path: Path) -> None:
    path.touch()


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [a_file, below_a_file, a_link_to_nothing, a_loop])
def test_a_home_that_cannot_be_used_is_one_line_of_a_whole_table(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "in" / "home"
    path.parent.mkdir()
    make(path)
    result = doctor(MEDMTL_HOME=str(path))
    (line,) = wrong(result)
    assert line.split()[1] == "MEDMTL_HOME"
    assert "set MEDMTL_HOME to a folder you own" in line
    assert result.exit_code == 1
    assert [each.split()[:2] for each in result.output.splitlines()[-2:]] == [["-", "Prefect"], ["-", "MLflow"]]


@pytest.mark.parametrize("name", ["a?b", "a\nb", "~no-such-user-of-this-machine/b"])
def test_a_home_of_a_name_that_none_can_have_is_one_line(name: str) -> None:
    result = doctor(MEDMTL_HOME=name)
    assert [line.split()[1] for line in wrong(result)] == ["MEDMTL_HOME"]
    assert result.exit_code == 1


def test_another_user_s_home_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    (line,) = wrong(doctor(MEDMTL_HOME=str(tmp_path)))
    assert "belongs to another user" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every folder")
def test_a_home_without_rights_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (line,) = wrong(doctor(MEDMTL_HOME=str(tmp_path)))
    assert "cannot write" in line


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null"])
def test_programs_that_only_look_like_the_servers_are_wrong(body: bytes) -> None:
    with answering(200, body) as place:
        address = f"http://me:geheim17@{place}"
        result = doctor(PREFECT_API_URL=f"{address}/api", MLFLOW_TRACKING_URI=address)
    assert [line.split()[1] for line in wrong(result)] == ["Prefect", "MLflow"]
    assert result.exit_code == 1
    assert "geheim17" not in result.output


CHECKS = st.lists(
    st.builds(
        Check,
        st.sampled_from(["ok", "WRONG", "-"]),
        st.from_regex("[a-z][a-z /]{0,30}[a-z]", fullmatch=True),
        st.lists(st.from_regex("[!-~]{1,40}", fullmatch=True), min_size=1, max_size=40).map(" ".join),
    ),
    min_size=1,
    max_size=5,
)


@given(found=CHECKS, width=st.none() | st.integers(20, 200))
def test_the_table_holds_every_word_in_order_and_keeps_to_the_width(found: list[Check], width: int | None) -> None:
    lines = list(table(found, width))
    said = [word for check in found for word in f"{check.status} {check.name} {check.finding}".split()]
    assert " ".join(lines).split() == said
    if width is None:
        assert len(lines) == len(found)
        return
    longest_head = 9 + max(len(check.name) for check in found)
    for line in lines:
        assert len(line) <= max(width, longest_head + LEAST_ROOM) or len(line.split()[-1]) > LEAST_ROOM


def test_it_does_not_trace_back_where_a_home_is_a_file_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "doctor"],
        env=os.environ | {"MEDMTL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("WRONG") == 1
