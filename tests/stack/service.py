"""A program of the stack in a process of its own: started, killed, stopped, and started again on the same data."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STOP_SECONDS = 30.0
MARK = "MEDMTL_TEST_STACK"
"""Environment variable of everything that a stack starts, by which it finds what outlives its parent."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Service(ABC):
    """One program. Start it from the main thread: it is killed when the thread that started it ends.

    Its output goes to NAME.log in the folder of the stack.
    """

    name = ""
    user: str | None = None  # whose process it is; None: ours
    has_family = True  # whether the processes that it starts die with it

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to start."""

    def environment(self) -> dict[str, str]:
        """Variables beside those of the tests."""
        return {}

    @abstractmethod
    def is_up(self) -> bool:
        """Whether it answers."""

    def start(self) -> None:
        """Start it; it answers later: see `wait_until_up`."""
        assert self.process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_dying_with_us(self.user), *self.command()],
                cwd=ROOT if self.user is None else self.folder,
                env=os.environ | {MARK: str(self.folder)} | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_up(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_up():
            assert self.process is not None, f"{self.name} was not started"
            assert self.process.poll() is None, f"{self.name} has ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.name} does not answer after {seconds:.0f} s:\n{self.said()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as a power cut or the kernel's out-of-memory killer would."""
        assert self.process is not None
        family = descendants(self.process.pid) if self.has_family else []
        self.process.kill()
        self.process.wait()
        self.process = None
        kill_processes(family)

    def stop(self) -> None:
        """End it in its own way, and by force after half a minute; fine also if it has ended."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def said(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _dying_with_us(user: str | None) -> list[str]:
    """A prefix that changes the user, and lets the process be killed when ours ends in any way."""
    as_user = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return [shutil.which("setpriv") or "setpriv", *as_user, "--pdeathsig=KILL", "--"]


def descendants(process: int) -> list[int]:
    """Children of a process, their children, and so on."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def marked(folder: Path, variable: str = "") -> list[int]:
    """Processes that the stack of this folder has started, those with such a line in their environment only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines = (entry / "environ").read_bytes().split(b"\0")
            if f"{MARK}={folder}".encode() in lines and (not variable or variable.encode() in lines):
                found.append(int(entry.name))
    return found


def kill_processes(processes: list[int]) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    _wait_until_gone(processes)


def _wait_until_gone(processes: list[int], seconds: float = STOP_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while any(_runs(each) for each in processes):
        assert time.monotonic() < deadline, f"{processes} do not end"
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
