"""Flow runs in Prefect: those that ended long ago go with their artifacts, those that are not over never do."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import Artifact, FlowRun, State, StateType

from tasks.operations.clean_prefect import PAGE, find_flow_runs
from tasks.operations.removable import DAY_SECONDS, CleanSettings

FLOWS = [UUID(int=1), UUID(int=2)]


@dataclass
class Server:
    """The records of a Prefect server, with the part of a client that is used."""

    runs: dict[UUID, FlowRun]
    artifacts: dict[UUID, Artifact] = field(default_factory=dict)

    def read_flow_runs(self, *, flow_run_filter: Any, sort: Any, limit: int, offset: int) -> list[FlowRun]:
        assert flow_run_filter.tags.all_ == ["medmtl"]
        return list(self.runs.values())[offset : offset + limit]

    def read_artifacts(self, *, artifact_filter: Any, limit: int) -> list[Artifact]:
        of_runs = artifact_filter.flow_run_id.any_
        return [each for each in self.artifacts.values() if each.flow_run_id in of_runs][:limit]

    def delete_artifact(self, artifact_id: UUID) -> None:
        del self.artifacts[artifact_id]

    def delete_flow_run(self, run_id: UUID) -> None:
        del self.runs[run_id]

    def read_logs(self, log_filter: Any, limit: int) -> Iterator[Any]:
        return iter(())


def a_run(state: StateType, days: float, flow: UUID) -> FlowRun:
    moment = datetime.fromtimestamp(time.time() - days * DAY_SECONDS, UTC)
    over = moment if state in (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED) else None
    return FlowRun(id=uuid4(), flow_id=flow, state=State(type=state), created=moment, end_time=over)


RUNS = st.lists(
    st.tuples(st.sampled_from(StateType), st.integers(0, 40).map(lambda day: day + 0.5), st.sampled_from(FLOWS)),
    max_size=12,
)


@given(RUNS, st.integers(1, 4), st.integers(0, 30))
def test_a_flow_run_goes_only_if_it_is_over_and_old_and_newer_ones_of_its_flow_are_there(
    drawn: list[tuple[StateType, float, UUID]], keep: int, days: int
) -> None:
    runs = [a_run(*each) for each in drawn]
    artifacts = [Artifact(id=uuid4(), flow_run_id=run.id) for run in runs]
    server: Any = Server({run.id: run for run in runs}, {each.id: each for each in artifacts})
    finding = find_flow_runs(server, CleanSettings(keep=keep, older_than=days))
    assert all(each.remove() for each in finding.removable)
    gone = [run for run in runs if run.id not in server.runs]
    assert len(gone) == len(finding.removable)
    assert {each.flow_run_id for each in server.artifacts.values()} == server.runs.keys()
    for run in gone:
        assert run.state
        assert run.state.is_final()
        assert run.end_time
        assert time.time() - run.end_time.timestamp() > days * DAY_SECONDS
        assert sum((o.end_time or o.created) > run.end_time for o in runs if o.flow_id == run.flow_id) >= keep - 1
    for flow in FLOWS:
        left = sum(run.flow_id == flow for run in server.runs.values())
        assert left >= min(keep, sum(run.flow_id == flow for run in runs))
    assert not find_flow_runs(server, CleanSettings(keep=keep, older_than=days)).removable


def test_all_pages_of_runs_are_read() -> None:
    runs = [a_run(StateType.COMPLETED, 30 + number, FLOWS[0]) for number in range(PAGE + 5)]
    server: Any = Server({run.id: run for run in runs})
    assert len(find_flow_runs(server, CleanSettings(keep=1)).removable) == PAGE + 4
