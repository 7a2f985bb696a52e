"""`medmtl doctor` on an MLflow database: champions, dead runs and files, and nothing is written."""

import hashlib
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest

from tasks.images.championship import HISTORY_TAG, HISTORY_TIME
from tasks.images.model_registry import CHALLENGER, CHAMPION, DECISION_TAG, MODEL_FACTS
from tasks.operations.doctor_mlflow import check_mlflow_records
from tasks.runtime.doctor import Check, ask_in_time
from tasks.runtime.home import home
from tests.tasks.operations.made_up_home import MadeUpHome


def checks() -> list[Check]:
    return list(check_mlflow_records(home()))


def wrong() -> list[Check]:
    return [check for check in checks() if check.status == "WRONG"]


def version(made_up: MadeUpHome, alias: str) -> str:
    """A version of the model `lungs` with an alias, from an arm of its own; returns the arm's run."""
    run = made_up.run("arm")
    made_up.log(run, {MODEL_FACTS: "{}"})
    number = made_up.register(run, made_up.model(run))
    made_up.client.set_registered_model_alias("lungs", alias, number)
    return run


def champion(made_up: MadeUpHome, days: int = 3) -> str:
    run = version(made_up, CHAMPION)
    since = datetime.now(UTC) - timedelta(days=days)
    for moment, told in ((since - timedelta(days=9), "champion, by evaluate"), (since, "champion again, by rollback")):
        made_up.client.set_model_version_tag("lungs", "1", f"{HISTORY_TAG}{moment.strftime(HISTORY_TIME)}", told)
    return run


def test_a_healthy_database_has_no_wrong_line_and_names_the_champion(made_up: MadeUpHome) -> None:
    champion(made_up)
    made_up.run("study", "RUNNING")
    found = {check.name: check for check in checks()}
    assert {check.status for check in found.values()} == {"ok"}
    since = datetime.now(UTC) - timedelta(days=3)
    assert found["model lungs"].finding == f"version 1 is the champion since {since:%Y-%m-%d} (3 days ago)"
    assert found["MLflow runs"].finding == "1 running"


def test_what_waits_for_approval_is_said_with_the_command(made_up: MadeUpHome) -> None:
    champion(made_up)
    version(made_up, CHALLENGER)
    assert "waits" not in checks()[-1].finding
    made_up.client.set_model_version_tag("lungs", "2", DECISION_TAG, "waiting")
    assert checks()[-1].finding.endswith("; version 2 waits for approval: medmtl promote --model lungs")
    assert not wrong()


def leave_a_dead_run(made_up: MadeUpHome) -> None:
    made_up.run("study", "DEAD")


def lose_the_champions_files(made_up: MadeUpHome) -> None:
    run = champion(made_up)
    shutil.rmtree(made_up.root / "mlflow-artifacts" / run)
    made_up.run("arm", days=1)


def lose_all_files(made_up: MadeUpHome) -> None:
    made_up.run("arm")
    shutil.rmtree(made_up.root / "mlflow-artifacts")


def delete_the_experiment(made_up: MadeUpHome) -> None:
    made_up.client.delete_experiment(made_up.experiment)


def damage_the_database(made_up: MadeUpHome) -> None:
    (made_up.root / "mlflow.db").write_bytes(b"nothing")


WRONG: dict[Callable[[MadeUpHome], None], tuple[str, str]] = {
    leave_a_dead_run: ("MLflow runs", "start it again"),
    lose_the_champions_files: ("model lungs", "medmtl rollback --model lungs"),
    lose_all_files: ("MLflow files", "restore the folder"),
    delete_the_experiment: ("MLflow runs", "mlflow experiments restore --experiment-id"),
    damage_the_database: ("MLflow", "restore it from a backup"),
}
"""What goes wrong -> the name of the line that says so, and its remedy."""


@pytest.mark.parametrize("go_wrong", WRONG)
def test_each_thing_that_is_wrong_is_one_line_with_its_remedy(
    go_wrong: Callable[[MadeUpHome], None], made_up: MadeUpHome
) -> None:
    assert not wrong()
    go_wrong(made_up)
    (found,) = wrong()
    name, remedy = WRONG[go_wrong]
    assert found.name == name
    assert remedy in found.finding


def test_nothing_is_written(made_up: MadeUpHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champion(made_up)
    made_up.run("study", "DEAD")
    monkeypatch.chdir(tmp_path)

    def contents() -> dict[Path, str]:
        files = (path for path in made_up.root.rglob("*") if path.is_file())
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = contents()
    checks()
    assert contents() == before
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_used_leaves_the_server_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.status for check in check_mlflow_records(None)] == ["-"]
    with socket.create_server(("127.0.0.1", 0)) as bound:
        place = f"127.0.0.1:{bound.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:geheim17@{place}")
    (found,) = check_mlflow_records(None)
    assert found.status == "WRONG"
    assert f"http://{place} is not there" in found.finding


def test_questions_that_hang_or_fail_are_one_wrong_line_after_what_was_found() -> None:
    def hang() -> None:
        sleep(60)

    def fail() -> None:
        raise ConnectionRefusedError

    for end, said in ((hang, "does not answer in time"), (fail, "is not there")):

        def questions(end: Callable[[], None] = end):  # type: ignore[no-untyped-def]
            yield Check("ok", "first", "well")
            end()

        first, last = ask_in_time("MLflow", questions, seconds=0.2)
        assert first == Check("ok", "first", "well")
        assert (last.status, said in last.finding) == ("WRONG", True)
