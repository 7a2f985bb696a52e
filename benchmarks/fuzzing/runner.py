"""Draw the files of a format in several processes, judge what is read, and count; any file can be drawn again alone."""

import collections
import multiprocessing
import os
import re
import resource
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import archives, dicom, jpeg, png, tables, yaml
from benchmarks.fuzzing.case import BROKEN, CRASH, HANG, OVER, Case, Format, Verdict, judge
from data_prep.store.decode_items import start_worker

FORMATS: dict[str, Format] = {
    "png": png.FORMAT, "jpeg": jpeg.FORMAT, "dicom": dicom.FORMAT, "table": tables.FORMAT, "archive": archives.FORMAT,
}  # fmt: skip
DRAW = {name: kind.draw for name, kind in FORMATS.items()} | {"yaml": yaml.draw}

CPU_SECONDS = 5.0  # of this process for one file of some kilobytes; the sandbox has limits of its own
MEMORY_BYTES = 512 * 2**20  # by which one file may raise this process' peak
HANG_SECONDS = 200  # of the clock; the sandbox ends a file after 120

_CHUNK = 50  # files that a process is given at once
_RESET_PEAK = "5"  # written to /proc/self/clear_refs; see proc(5)


@dataclass
class Tally:
    """What became of the files of one format."""

    files: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    reasons: dict[str, collections.Counter[str]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    def add(self, name: str, number: int, judged: "Judged") -> None:
        """Count one file."""
        self.files += 1
        outcome, detail = judged.verdict
        self.outcomes[outcome] += 1
        if "refused" in outcome:
            self.reasons[outcome][general(detail)] += 1
        if outcome in BROKEN:
            self.broken.append(f"{name} {number}: {outcome}: {detail} [{', '.join(judged.rules)}]")
        self.slowest = max(self.slowest, (judged.cpu_seconds, number))
        self.largest = max(self.largest, (judged.memory, number))


@dataclass(frozen=True)
class Judged:
    """A file's verdict, and what reading it took: processor seconds of this process, bytes above its peak before."""

    verdict: Verdict
    rules: tuple[str, ...]
    cpu_seconds: float = 0.0
    memory: int = 0


def make(name: str, seed: int, number: int) -> Case:
    """Draw file `number` of a format: the same every time, whatever was drawn before."""
    return DRAW[name](np.random.default_rng([seed, list(DRAW).index(name), number]))


def general(reason: str) -> str:
    """Return a reason without what differs from file to file, so that reasons can be counted."""
    return re.sub(r"\d[\d,.]*", "N", re.sub(r"'[^']*'|\"[^\"]*\"|/\S+", "…", reason))[:160]


def run(name: str, seed: int, count: int, processes: int) -> Tally:
    """Draw and judge files 0 to `count` - 1 of a format."""
    tally, started = Tally(), time.perf_counter()
    left = [range(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    while left:
        left = _run_until_crash(tally, name, seed, left, processes)
        for chunk in left[: processes + 1]:  # one of these has crashed: each of their files for itself
            for number in chunk:
                tally.add(name, number, _judge_alone(name, seed, number))
        left = left[processes + 1 :]
    tally.seconds = time.perf_counter() - started
    tally.broken.sort()
    return tally


def _run_until_crash(tally: Tally, name: str, seed: int, chunks: list[range], processes: int) -> list[range]:
    """Judge chunks in a pool; return those that were not done when one crashed, the first ones first."""
    left = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_start) as pool:
        futures = {pool.submit(_judge_all, name, seed, chunk): chunk for chunk in chunks}
        for future in as_completed(futures):
            try:
                for number, judged in future.result():
                    tally.add(name, number, judged)
            except BrokenProcessPool:
                left.append(futures[future])
    return sorted(left, key=lambda chunk: chunk.start)


def _start() -> None:
    start_worker()
    warnings.simplefilter("ignore")  # of libraries, about the files
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # decoders in C complain there


def _judge_all(name: str, seed: int, numbers: range) -> list[tuple[int, Judged]]:
    return [(number, judge_under_limits(FORMATS[name], make(name, seed, number))) for number in numbers]


def _judge_alone(name: str, seed: int, number: int) -> Judged:
    """Judge a file in a process of its own, which may crash."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, name, seed, number))
    process.start()
    sending.close()
    try:
        judged: Judged = receiving.recv()
    except EOFError:
        judged = Judged(Verdict(CRASH), make(name, seed, number).rules)
    process.join()
    if judged.verdict.outcome == CRASH:
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        verdict = Verdict(HANG, f"{HANG_SECONDS} s") if how == "SIGALRM" else Verdict(CRASH, how)
        return Judged(verdict, judged.rules)
    return judged


def _send(connection: Connection, name: str, seed: int, number: int) -> None:
    _start()
    connection.send(judge_under_limits(FORMATS[name], make(name, seed, number)))


def judge_under_limits(kind: Format, case: Case) -> Judged:
    """Judge a file under limits; one that hangs ends this process by SIGALRM."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANG_SECONDS)
    peak = _peak_bytes(reset=True)
    begun = time.process_time()
    verdict = judge(kind, case)
    seconds, memory = time.process_time() - begun, max(0, _peak_bytes() - peak)
    signal.alarm(0)
    if verdict.outcome not in BROKEN and (seconds > CPU_SECONDS or memory > MEMORY_BYTES):
        verdict = Verdict(OVER, f"{seconds:.1f} s of processor, {memory / 2**20:.0f} MiB; {verdict.outcome}")
    return Judged(verdict, case.rules, seconds, memory)


def _peak_bytes(reset: bool = False) -> int:
    """Return the most memory this process has held; since the last reset, where the system can reset it."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
