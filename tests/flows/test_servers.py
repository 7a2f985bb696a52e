"""A run's server, home and histories as another user, a kill, a damaged file or an older version leaves them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.flows.conftest import DATA, STUDY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Command:
    """A command in a process of its own, with a home and a local server of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.said = folder / "said"
        names = os.environ | {"MEDMTL_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)} | environment
        if "PREFECT_API_URL" not in environment:
            names.pop("PREFECT_API_URL", None)
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments], cwd=folder, env=names, stdout=said, stderr=said
            )

    def wait_for(self, text: str) -> None:
        while text not in self.said.read_text():
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.05)

    def server(self) -> int:
        """The number of its server's process."""
        while True:
            for entry in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, IndexError):
                    parent = int(re.split(r"\) . ", (entry / "stat").read_text())[1].split()[0])
                    if parent == self.process.pid and b"prefect_app" in (entry / "cmdline").read_bytes():
                        return int(entry.name)
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.05)

    def end(self, code: int) -> str:
        """Wait for its end; gives its last line."""
        assert self.process.wait(300) == code, self.said.read_text()
        said = self.said.read_text()
        assert "Traceback" not in said
        assert said.count("medmtl: ") == (code != 0)
        return said.splitlines()[-1]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []
    (tmp_path / "small.yaml").write_text(DATA + STUDY)

    def start(**environment: str) -> Command:
        started.append(Command(tmp_path, "study", "--config", "small.yaml", "--out", "out", **environment))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()


def environment_of(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def port_of(process: int) -> int:
    """The port on which a process listens."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].rpartition(":")[2], 16)
    pytest.fail("it listens nowhere")


def test_a_server_that_is_killed_ends_the_command_in_one_line_and_the_study_is_resumed(
    study: Callable[..., Command],
) -> None:
    first = study()
    first.wait_for("test AUC")  # of the first arm that finishes
    killed = first.server()
    os.kill(killed, signal.SIGKILL)
    line = first.end(1)
    assert line.startswith("medmtl: Prefect's server has ended (killed by signal 9); its log is ")
    assert "run the same command again to resume" in line
    again = study()
    again.end(0)
    assert "reused, trained before" in again.said.read_text()


def test_a_server_that_cannot_start_is_noticed_and_its_log_is_quoted(study: Callable[..., Command]) -> None:
    line = study(PREFECT_SERVER_DATABASE_CONNECTION_URL="sqlite+aiosqlite:////nowhere/at/all.db").end(1)
    assert "Prefect's server has ended (exit code 3; its log ends with: sqlalchemy.exc.OperationalError: " in line
    assert "unable to open database file" in line


@pytest.mark.parametrize("name", ["prefect/prefect.db", "mlflow.db"])
def test_a_damaged_history_is_named_before_any_work(name: str, study: Callable[..., Command], tmp_path: Path) -> None:
    path = tmp_path / "home" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    line = study().end(2)
    assert str(path) in line
    assert "move it away" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_server_that_is_not_there_is_named_before_any_work(
    variable: str, study: Callable[..., Command], tmp_path: Path
) -> None:
    line = study(**{variable: "http://me:geheim@127.0.0.1:9/api"}).end(2)
    assert line.startswith(f"medmtl: {variable}: the server at http://127.0.0.1:9/api is not there")
    assert not (tmp_path / "out").exists()


def test_all_that_a_run_leaves_in_its_home_is_for_its_owner_only_and_holds_no_password(
    study: Callable[..., Command], tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        command = study()
        command.wait_for("labels: ")
        password = environment_of(command.server())["PREFECT_SERVER_API_AUTH_STRING"].encode()
        command.end(0)
    finally:
        os.umask(before)
    left = [tmp_path / "home", *(tmp_path / "home").rglob("*"), *(tmp_path / "out").rglob("*")]
    assert len(left) > 30
    assert [path for path in left if path.stat().st_mode & 0o077] == []
    assert [path for path in left if path.is_file() and password in path.read_bytes()] == []


AS_ANOTHER = """
import encodings.idna, http.client, json, os, socket, sys, urllib.request  # while the files can be read
from pathlib import Path
from urllib.error import HTTPError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
home, port, processes = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
found = {"read": [], "answers": [], "bound": [], "told": []}
for path in [home, home / "mlflow.db", home / "patient.key", home / "prefect" / "prefect.db", home / "prefect"]:
    try:
        found["read"].append(str(list(path.iterdir()) if path.is_dir() else path.read_bytes()[:9]))
    except OSError:
        pass
for path in json.loads(sys.argv[4]):
    for password in (None, "Basic bWVkbXRsOng=", "Bearer x", "Basic"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if password:
            request.add_header("Authorization", password)
        try:
            found["answers"].append(urllib.request.urlopen(request, timeout=10).status)
        except HTTPError as error:
            found["answers"].append(error.code)
for host in ("127.0.0.1", "0.0.0.0", "::"):
    for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
            if option:
                other.setsockopt(socket.SOL_SOCKET, option, 1)
            try:
                other.bind((host, port))
                other.listen()
                found["bound"].append(f"{host} {option}")
            except OSError:
                pass
for process in processes:
    if str(port) in Path(f"/proc/{process}/cmdline").read_text():
        found["told"].append(process)
    try:
        found["told"].append(Path(f"/proc/{process}/environ").read_text())
    except OSError:
        pass
print(json.dumps(found))
"""
PATHS = ["/", "/docs", "/openapi.json", "/ui-settings", "/api/health", "/api/ready", "/api/docs", "/api/openapi.json",
         "/api/version", "/api/hello", "/api/admin/version", "/api/flows/filter", "/api//health", "/x"]  # fmt: skip


def status(port: int, path: str = "/api/admin/version", **headers: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers)
    except HTTPError as error:
        return error.code, dict(error.headers)


@as_root
def test_another_user_reads_nothing_is_let_in_nowhere_and_cannot_take_the_port(
    study: Callable[..., Command], tmp_path: Path
) -> None:
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith("pytest-"):
            folder.chmod(0o755)  # pytest's own folders would keep the other user out
    tmp_path.chmod(0o755)
    command = study()
    command.wait_for("labels: ")
    server = command.server()
    port = port_of(server)

    def try_as_another() -> dict[str, list[Any]]:
        arguments = [str(tmp_path / "home"), str(port), f"{server},{command.process.pid}", json.dumps(PATHS)]
        said = subprocess.run(
            [sys.executable, "-I", "-c", AS_ANOTHER, *arguments],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        found: dict[str, list[Any]] = json.loads(said.stdout)
        return found

    os.kill(command.process.pid, signal.SIGSTOP)  # so that it does not end meanwhile
    try:
        found = try_as_another()
        assert found == {"read": [], "bound": [], "told": [], "answers": [401] * 4 * len(PATHS)}
        password = environment_of(server)["PREFECT_SERVER_API_AUTH_STRING"]
        from tasks.runtime.prefect_app import authorization

        known = {"Authorization": authorization(password)}
        assert status(port, **known)[0] == 200
        assert status(port, **known, Host="evil.example")[0] == 400
        headers = status(port, **known, Origin="http://evil.example")[1]
        assert "evil" not in str(headers)
        assert "*" not in headers.get("access-control-allow-origin", "")
    finally:
        os.kill(command.process.pid, signal.SIGCONT)
    command.end(0)
