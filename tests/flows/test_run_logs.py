"""What a command says on the terminal stands in the log of its Prefect run too, word for word and in its order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.states import Running

from tasks.runtime.lease import lease_name

pytestmark = pytest.mark.slow


def leave_a_run_of_a_killed_command() -> None:
    @flow(name="killed")
    def killed() -> None: ...

    tags = ["medmtl", f"lease:{lease_name().partition(':')[0]}:{'0' * 16}"]
    with get_client(sync_client=True) as client:
        client.create_flow_run(killed, tags=tags, state=Running())


def test_every_line_of_a_command_stands_in_the_log_of_its_run(
    medmtl_home: Path, small_train: list[str], tmp_path: Path
) -> None:
    leave_a_run_of_a_killed_command()
    command = [sys.executable, "-m", "flows.cli", "train", *small_train, "--out", "out"]
    place = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with (tmp_path / "said").open("wb") as said:
        subprocess.run(command, stdout=said, stderr=said, cwd=tmp_path, env=place, check=True, timeout=600)
    lines = [line.partition("  ")[2] for line in (tmp_path / "said").read_text().splitlines()]
    assert lines[0] == "1 Prefect runs of killed commands are now marked as crashed"
    assert lines[-1].startswith("medmtl version 1 ") or "report: " in "".join(lines)
    with get_client(sync_client=True) as client:
        trained = {"name": {"like_": "train · phantom 32 px"}}
        (run, *_) = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(trained), sort=FlowRunSort.START_TIME_DESC
        )
        of_run = LogFilter.model_validate({"flow_run_id": {"any_": [run.id]}})
        kept = [log.message for log in client.read_logs(of_run, sort=LogSort.TIMESTAMP_ASC) if log.name == "medmtl"]
    assert kept == lines
