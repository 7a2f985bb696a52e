"""Every part killed at every moment of a night: the next run ends the night, and all is recorded once."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.stack.service import kill_processes
from tests.stack.stack import FINAL, Stack, wait_until
from tests.stack.tiny import check_arms, night, unfinished_runs

PARTS = ("mlflow", "postgres", "prefect", "worker", "flow")
MOMENTS = ("starting", "training", "ending")
EPOCHS = 40
DOWN_SECONDS = 5.0
DEAD_SECONDS = 300.0  # the longest that a dead run may be shown as running
RUN_SECONDS = 600.0


class Work(NamedTuple):
    """What a deployment is to do."""

    deployment: str
    parameters: dict[str, Any]
    epochs: int  # of each arm that it trains
    since_ms: int  # when it was asked for


@pytest.fixture
def work(tmp_path: Path, request: pytest.FixtureRequest) -> Work:
    """A night with a training of some seconds that no other test has done."""
    number = zlib.crc32(request.node.name.encode()) % 100_000
    slow = {"epochs": EPOCHS, "batch_size": 4}
    parameters = night(tmp_path / "out", f"killed_{number}", training=slow, seed=number)
    return Work("nightly/nightly", parameters, EPOCHS, int(time.time() * 1000))


def kill(stack: Stack, part: str, run: str) -> None:
    if part == "flow":
        kill_processes(stack.flow_processes(run))
    else:
        {each.name: each for each in stack.services}[part].kill()


def state(stack: Stack, run: str) -> str:
    """The state of a run, from the database: the server may be down."""
    ((found,),) = stack.postgres.query("prefect", f"SELECT state_type::text FROM flow_run WHERE id = '{run}'")
    return str(found)


def is_over(stack: Stack, run: str) -> bool:
    """Whether a run has ended, whatever its state says."""
    now = state(stack, run)
    return now in FINAL or (now == "RUNNING" and not stack.flow_processes(run))


def steps(stack: Stack, since_ms: int) -> int:
    """How many epochs of arms begun since then are recorded."""
    arms = f"SELECT run_uuid FROM runs WHERE start_time >= {since_ms}"
    asked = f"SELECT coalesce(max(step), 0) FROM metrics WHERE run_uuid IN ({arms})"
    ((found,),) = stack.postgres.query("mlflow", asked)
    return int(found)


def moment(stack: Stack, name: str, run: str, work: Work) -> Callable[[], bool]:
    """Whether a run is at a moment, or over."""
    begun: dict[str, Callable[[], bool]] = {
        "starting": lambda: state(stack, run) == "RUNNING",
        "training": lambda: steps(stack, work.since_ms) >= work.epochs // 2,
        "ending": lambda: steps(stack, work.since_ms) >= work.epochs,
    }
    return lambda: begun[name]() or is_over(stack, run)


def finish(stack: Stack, work: Work, run: str) -> None:
    """Let a run end, and then the next one, which must get through; check what is recorded."""
    wait_until(lambda: is_over(stack, run), f"end of flow run {run}", RUN_SECONDS)
    died = time.monotonic()
    last = stack.submit(work.deployment, work.parameters)
    assert stack.wait_for(last)["state_type"] == "COMPLETED", stack.what_was_said(last)
    left = DEAD_SECONDS - (time.monotonic() - died)
    wait_until(lambda: not unfinished_runs(stack), "final states of all runs", left)
    check_arms(stack, work.since_ms, work.epochs)


@pytest.mark.slow
def test_each_part_is_killed_once_within_one_night_and_the_next_run_ends_it(deployed: Stack, work: Work) -> None:
    run = deployed.submit(work.deployment, work.parameters)
    for number, part in enumerate(PARTS, 1):
        wanted = work.epochs * number // (len(PARTS) + 1)
        while steps(deployed, work.since_ms) < wanted:
            if is_over(deployed, run):
                run = deployed.submit(work.deployment, work.parameters)
            time.sleep(0.2)
        print(f"kill {part} after epoch {steps(deployed, work.since_ms)}: {state(deployed, run)}")
        kill(deployed, part, run)
        deployed.start_again()
    finish(deployed, work, run)


@pytest.mark.long
@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_killed_and_the_next_run_ends_the_night(deployed: Stack, work: Work, part: str, when: str) -> None:
    run = deployed.submit(work.deployment, work.parameters)
    wait_until(moment(deployed, when, run, work), when, RUN_SECONDS)
    kill(deployed, part, run)
    time.sleep(DOWN_SECONDS)
    deployed.start_again()
    finish(deployed, work, run)
