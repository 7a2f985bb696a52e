"""A study killed anywhere, as often as may be, ends as one that nobody disturbed: the same bits, all recorded once.

A study is killed, started again, killed again, until a start of it gets through to the end. Then all that it left is
held against what an undisturbed one left: every training state that was ever on the disk (network, optimiser, task
weights, and the epoch and step that all randomness follows from), the logged models, the predictions, the results,
MLflow's record and Prefect's, and the files.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import UUID

import numpy as np
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

from tasks.arms import mlflow_runs
from tasks.runtime.prefect_server import mark_orphans_crashed

ARMS, EPOCHS = 6, 5
STUDY = f"""
data: {{size: 32, phantom: {{patients: 60, size: 64}}}}
split: {{shares: [0.5, 0.2, 0.3]}}
training: {{epochs: {EPOCHS}, batch_size: 4}}  # small steps: each epoch must be long enough to be seen on the disk
methods: [{{kind: uniform}}, {{kind: svd}}, {{kind: famo}}]
protocol: {{kind: all, noise: [{{kind: none}}, {{kind: random, rate: 0.2, labels: [Effusion]}}]}}
seeds: 1
floor: false
device: cpu
runner: {{arms_at_once: 2, threads: 1}}
"""
KILLS_OF_A_STUDY = 6  # at most, before it may end
MOST_MISSES = 5  # on a fast disk a write may always be over before it is seen
BESIDE_ARMS = 5  # to start and to report takes about as long as so many arms
MEASURED = re.compile(r"seconds|per_second|timestamps_ms|memory|^mlflow_run_id$|^reused$|^unsent$")  # all else is equal
WITH_IDS = re.compile(r"m-[0-9a-f]{32}|[0-9a-f]{32}|(?<=stores/)[0-9a-f]{16}")  # of models, runs, stores
LEASE = re.compile("leases/[0-9a-f]{16}$")


@dataclass(frozen=True)
class Start:
    """One start of a study."""

    flow_runs: frozenset[UUID]  # of Prefect, none if it was killed before
    seconds: float
    killed_while: str | None  # a phase; none: not killed
    in_a_write: bool  # the kill left a half-written checkpoint


Stop = Callable[["subprocess.Popen[bytes]"], None]
"""Waits for a process to end, or ends it."""


class Trial:
    """A study in a home of its own, and what its starts left."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.home, self.caught = folder, folder / "home", folder / "caught"
        self.arms = self.home / "arms"
        temporary = folder / "temporary"
        for made in (self.caught, temporary):
            made.mkdir(parents=True)
        (folder / "study.yaml").write_text(STUDY)
        places = {"MEDMTL_HOME": self.home, "TMPDIR": temporary, "PYTHONPATH": Path(__file__).parents[2]}
        self._environment = (
            os.environ | {name: str(path) for name, path in places.items()} | {"PREFECT_API_URL": server}
        )
        self.starts: list[Start] = []

    def start(self, stop: Stop) -> Start:
        begun, left, known = time.monotonic(), half_written(self.arms), flow_runs()
        command = [sys.executable, "-m", "flows.cli", "study", "--config", "study.yaml", "--out", "out"]
        with (self.folder / "said").open("wb") as said, self._catching_states():
            process = subprocess.Popen(
                command, stdout=said, stderr=said, cwd=self.folder, env=self._environment, start_new_session=True
            )
            stop(process)
            wait_until_all_are_gone(process.pid)
        killed = process.returncode == -signal.SIGKILL
        assert killed or process.returncode == 0, self.said()
        phase = self._phase() if killed else None
        in_a_write = bool(half_written(self.arms) - left)
        self.starts.append(Start(flow_runs() - known, time.monotonic() - begun, phase, in_a_write))
        return self.starts[-1]

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def is_finished(self) -> bool:
        """Whether the study was over before the command was."""
        return "report: " in self.said() and [run.info.status for run in self.runs("study")] == ["FINISHED"]

    def share_left(self) -> float:
        """How long the next start takes, about, as a share of an undisturbed one."""
        left = ARMS - (arms_done(self.said()) if self.starts else 0)
        return (BESIDE_ARMS + left) / (BESIDE_ARMS + ARMS)

    def _phase(self) -> str:
        said = self.said()
        if "report: " in said:
            return "ending"
        if arms_done(said) == ARMS:
            return "reporting"
        if " arms planned\n" in said:
            epochs = [len(load(path)["fit"]["history"]) for path in self.arms.glob("*/checkpoint.pt")]
            return "scoring" if EPOCHS in epochs else "training"
        return "planning" if "phantom: " in said else "starting"

    @contextmanager
    def _catching_states(self) -> Iterator[None]:
        """Give every checkpoint a second name, by which it stays when the next one takes the first."""
        ended = threading.Event()

        def watch() -> None:
            seen = {path.stat().st_ino for path in self.caught.iterdir()}
            while not ended.wait(0.005):
                for path in self.arms.glob("*/checkpoint.pt"):
                    with suppress(FileNotFoundError):  # its arm has finished
                        if path.stat().st_ino not in seen:
                            second = self.caught / f"{path.parent.name}-{len(seen)}.pt"
                            os.link(path, second)
                            seen.add(second.stat().st_ino)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def states(self) -> dict[tuple[str, int], set[str]]:
        """The bits of the training states that were on the disk, by arm and epoch."""
        found: dict[tuple[str, int], set[str]] = {}
        for path in self.caught.iterdir():
            state = load(path)
            key = path.stem.partition("-")[0], len(state["fit"]["history"])
            found.setdefault(key, set()).add(bits(state))
        return found

    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")

    def runs(self, kind: str) -> list[Run]:
        experiment = self.client().get_experiment_by_name(mlflow_runs.EXPERIMENT)
        assert experiment
        return list(self.client().search_runs([experiment.experiment_id], f"tags.`medmtl.kind` = '{kind}'"))

    def record(self) -> dict[str, Any]:
        """All that must be as an undisturbed study leaves it, but for the training states."""
        results = json.loads((self.folder / "out" / "results.json").read_text())
        kept = ("config", "data", "arms", "comparisons")
        runs = {undated(run): self._run(run) for run in self.runs("arm")}
        return {
            "runs": Counter(map(undated, self.runs("arm"))),
            "results": bits({key: results[key] for key in kept}),
            "study": [self._run(run) for run in self.runs("study")],
            "files": self._files(),
        } | runs

    def _run(self, run: Run) -> dict[str, Any]:
        client, run_id = self.client(), run.info.run_id
        history = {key: client.get_metric_history(run_id, key) for key in run.data.metrics}
        values = {key: [p.value for p in points] for key, points in history.items() if not MEASURED.search(key)}
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        artifacts = path_of(run.info.artifact_uri)
        predictions = artifacts / "arm" / "predictions.npz"
        return {
            "status": run.info.status,
            "parameters": run.data.params,
            "datasets": sorted((used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs),
            "steps": {key: [p.step for p in points] for key, points in history.items() if "memory" not in key},
            "values": bits(values),
            "models": [(str(model.status), tensors_of(path_of(model.artifact_location))) for model in models],
            "predictions": bits(dict(np.load(predictions))) if predictions.exists() else None,
        }

    def _files(self) -> list[str]:
        """The files in the home and the results, less what the next command clears away.

        That is models that MLflow lists no more, and the lease of a process that was killed when its study was over.
        """
        experiment = self.runs("study")[0].info.experiment_id
        known = {model.model_id for model in self.client().search_logged_models([experiment])}
        paths = [path.relative_to(self.folder) for part in ("home", "out") for path in (self.folder / part).rglob("*")]
        kept = [path for path in paths if "models" not in path.parts or known & set(path.parts)]
        kept = [path for path in kept if not LEASE.search(str(path))]
        return sorted(WITH_IDS.sub("*", str(path)) for path in kept)


def undated(run: Run) -> str:
    """The name of a run without the date at its end."""
    return str(run.info.run_name).rpartition(" · ")[0]


def arms_done(said: str) -> int:
    return said.count(": test AUC ") + said.count(": reused, trained before")


def half_written(arms: Path) -> set[Path]:
    """Checkpoints that a process has begun to write; those of killed processes lie there until the next write."""
    return set(arms.glob("*/checkpoint.pt.*.unfinished"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def path_of(uri: str) -> Path:
    return Path(urlparse(uri).path)


def tensors_of(model: Path) -> str:
    (program,) = model.rglob("*.pt2")
    return bits(torch.export.load(program).state_dict)


def bits(value: Any) -> str:
    """A digest that differs wherever a bit differs, but for what was measured with a clock."""
    match value:
        case Mapping():
            whole = "".join(f"{key!r}: {bits(value[key])}" for key in value if not MEASURED.search(str(key)))
        case list() | tuple():
            whole = " ".join(map(bits, value))
        case torch.Tensor():
            whole = bits(value.detach().numpy())
        case np.ndarray():
            whole = f"{value.dtype} {value.shape} {value.tobytes().hex()}"
        case _:
            whole = repr(value)
    return hashlib.sha256(f"{type(value).__name__} {whole}".encode()).hexdigest()


def wait_until_all_are_gone(session: int, seconds: float = 60) -> None:
    """Nothing that a killed command started may go on without it."""
    deadline = time.monotonic() + seconds
    while left := processes_in(session):
        if time.monotonic() > deadline:
            for number in left:
                os.kill(number, signal.SIGKILL)
            pytest.fail(f"{len(left)} processes outlived the command that started them by {seconds} s")
        time.sleep(0.05)


def processes_in(session: int) -> list[int]:
    found = []
    for process in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        with suppress(ProcessLookupError):  # ended since
            if os.getsid(process) == session:
                found.append(process)
    return found


def undisturbed(process: "subprocess.Popen[bytes]") -> None:
    process.wait()


def kill_after(seconds: float, process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill_in_a_write(arms: Path, number: int, process: "subprocess.Popen[bytes]") -> None:
    """Kill the process while the checkpoint of that number, counted from 1, is being written."""
    being_written = half_written(arms)
    while process.poll() is None:
        now = half_written(arms)
        number -= len(now - being_written)
        being_written = now
        if number <= 0:
            process.kill()
            process.wait()
        time.sleep(0.0005)


def flow_runs() -> frozenset[UUID]:
    with get_client(sync_client=True) as client:
        return frozenset(run.id for run in client.read_flow_runs())


def prefect_states(known: frozenset[UUID]) -> tuple[list[str], list[str]]:
    """The states of some flow runs, and of their task runs."""
    these = {"any_": list(known)}
    with get_client(sync_client=True) as client:
        flows = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"id": these})) if known else []
        of_these = TaskRunFilter.model_validate({"flow_run_id": these})
        tasks = client.read_task_runs(task_run_filter=of_these) if known else []
    return [str(run.state and run.state.type.value) for run in flows], [
        str(r.state and r.state.type.value) for r in tasks
    ]


def check_prefect(starts: list[Start], home: Path) -> None:
    if starts[-1].killed_while:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEDMTL_HOME", str(home))
            mark_orphans_crashed()  # as the next command would, whatever it does
    for start in starts:
        flows, tasks = prefect_states(start.flow_runs)
        if start.killed_while:
            assert set(flows) <= {"CRASHED", "COMPLETED"}, start
            assert set(tasks) <= {"CRASHED", "COMPLETED"}, start
        else:
            assert (flows, set(tasks)) == (["COMPLETED"], {"COMPLETED"}), start


def kill_and_compare(folder: Path, server: str, anywhere: int, in_writes: int) -> list[Start]:
    """Returns the starts that were killed."""
    whole = Trial(folder / "undisturbed", server)
    seconds = whole.start(undisturbed).seconds
    states, record = whole.states(), whole.record()
    assert len(states) == ARMS * EPOCHS
    rng = random.Random(0)
    wanted = ["anywhere"] * anywhere + ["in a write"] * in_writes
    rng.shuffle(wanted)
    kills: list[Start] = []
    trials = misses = 0
    while wanted:
        trials += 1
        trial = Trial(folder / f"{trials}", server)
        while not (trial.starts and (trial.starts[-1].killed_while is None or trial.is_finished())):
            share = trial.share_left()
            stop = next_stop(wanted, trial, rng, seconds * share)
            start = trial.start(stop)
            print(f"study {trials}, start {len(trial.starts)}: {start}")
            if stop is not undisturbed:
                hit = start.in_a_write if wanted[-1] == "in a write" else start.killed_while
                misses = 0 if hit else misses + 1
                if hit or misses == MOST_MISSES:
                    wanted.pop()
                    misses = 0
            if start.killed_while:
                kills.append(start)
            else:
                seconds = start.seconds / share  # the machine may be more or less busy than before
        compare(trial, states, record)
    tell(kills, trials, seconds)
    return kills


def next_stop(wanted: list[str], trial: Trial, rng: random.Random, seconds: float) -> Stop:
    if not wanted or len(trial.starts) == KILLS_OF_A_STUDY:
        return undisturbed
    if wanted[-1] == "anywhere":
        return partial(kill_after, rng.uniform(0, seconds))
    return partial(kill_in_a_write, trial.arms, rng.randint(1, EPOCHS))


def compare(trial: Trial, states: dict[tuple[str, int], set[str]], record: dict[str, Any]) -> None:
    caught = trial.states()
    assert {(arm, EPOCHS) for arm, _ in states} <= set(caught)
    assert all(found == states[key] for key, found in caught.items())
    found = trial.record()
    for name, expected in record.items():
        assert found[name] == expected, name
    check_prefect(trial.starts, trial.home)


def tell(kills: list[Start], trials: int, seconds: float) -> None:
    phases = ", ".join(f"{count} {phase}" for phase, count in Counter(kill.killed_while for kill in kills).items())
    print(
        f"{len(kills)} kills of {trials} studies of {seconds:.0f} s: {phases}; "
        f"{sum(kill.in_a_write for kill in kills)} inside a checkpoint's write; all bits equal"
    )


@pytest.mark.slow
def test_a_study_killed_three_times_ends_as_an_undisturbed_one(server: str, tmp_path: Path) -> None:
    kill_and_compare(tmp_path, server, anywhere=2, in_writes=1)


@pytest.mark.long
def test_studies_killed_fifty_times_end_as_an_undisturbed_one(server: str, tmp_path: Path) -> None:
    kills = kill_and_compare(tmp_path, server, anywhere=35, in_writes=15)
    assert any(kill.in_a_write for kill in kills)
