"""Whose process has ended is known by its lease at home, and by its last word elsewhere."""

import threading
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.arms import liveness, mlflow_runs
from tasks.arms.liveness import ALIVE_TAG, DEAD_SECONDS, PROCESS_TAG, RENEW_SECONDS, has_died, renewed, signature
from tasks.runtime.lease import lease_name

ELSEWHERE = f"{'0' * 16}:{'0' * 16}"


def said_ago(seconds: float) -> str:
    return str(int(time.time() - seconds))


def test_this_process_lives_however_old_its_word_is() -> None:
    assert not has_died(signature())
    assert not has_died(signature() | {ALIVE_TAG: said_ago(10 * DEAD_SECONDS)})


def test_a_process_of_this_home_that_has_ended_is_dead_however_new_its_word_is() -> None:
    ended = f"{lease_name().partition(':')[0]}:{'0' * 16}"
    assert has_died({PROCESS_TAG: ended, ALIVE_TAG: said_ago(0)})


@given(seconds=st.floats(-1e6, 1e6))
def test_a_process_of_another_home_is_dead_after_two_minutes_without_a_word(seconds: float) -> None:
    if abs(seconds - DEAD_SECONDS) > 10:
        assert has_died({PROCESS_TAG: ELSEWHERE, ALIVE_TAG: said_ago(seconds)}) == (seconds > DEAD_SECONDS)


def test_words_come_often_enough_for_clocks_that_differ_by_a_minute_and_a_missed_one() -> None:
    assert 2 * RENEW_SECONDS + 60 <= DEAD_SECONDS


@given(alive=st.text(), lease=st.text())
def test_nothing_is_known_of_what_is_no_word(alive: str, lease: str) -> None:
    if not alive.strip().isdigit():
        assert not has_died({PROCESS_TAG: lease, ALIVE_TAG: alive})
    assert not has_died({PROCESS_TAG: lease})
    assert not has_died({})


def test_a_run_on_a_server_is_renewed_as_long_as_it_is_active_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Mapping[str, str]]] = []
    enough = threading.Event()

    class Client:
        def log_batch(self, run_id: str, tags: list[liveness.RunTag]) -> None:
            calls.append((run_id, {tag.key: tag.value for tag in tags}))
            if len(calls) == 3:
                enough.set()
            raise ConnectionError("away")

    monkeypatch.setattr(liveness, "MlflowClient", Client)
    monkeypatch.setattr(liveness, "RENEW_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with renewed("abc"):
        assert enough.wait(60)
        (thread,) = (each for each in threading.enumerate() if each.name == "run-renewal")
    thread.join(60)
    assert not thread.is_alive()
    assert {run_id for run_id, _ in calls} == {"abc"}
    assert all(not has_died(tags) and set(tags) == {PROCESS_TAG, ALIVE_TAG} for _, tags in calls)


def test_a_database_of_this_home_needs_no_word() -> None:
    with renewed("abc"):
        assert "run-renewal" not in {each.name for each in threading.enumerate()}


def test_the_runs_of_a_dead_container_are_killed_by_the_next_start_and_those_of_a_living_one_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment, runs = mlflow_runs.connect(), {}
    for seconds in (0, 2 * DEAD_SECONDS):
        monkeypatch.setattr(
            mlflow_runs, "signature", lambda ago=seconds: {PROCESS_TAG: ELSEWHERE, ALIVE_TAG: said_ago(ago)}
        )
        runs[seconds] = mlflow_runs.create_run(experiment, "arm", {}, {})
    mlflow_runs.connect()
    found = {ago: mlflow_runs.MlflowClient().get_run(run_id).info.status for ago, run_id in runs.items()}
    assert found == {0: "RUNNING", 2 * DEAD_SECONDS: "KILLED"}
