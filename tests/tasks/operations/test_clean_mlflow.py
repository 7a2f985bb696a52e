"""Nights in MLflow: what goes leaves neither rows nor files, what is needed stays whole, and a kill leaves no rest."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from tasks.operations import mlflow_records
from tasks.operations.mlflow_records import MlflowRecords
from tests.tasks.operations.made_up_home import FILE_BYTES, MadeUpHome

NIGHTS = "nights in MLflow"


def nights_of_all_kinds(home: MadeUpHome) -> tuple[set[str], set[str]]:
    """Make nights that must stay and such that must go, each with arms; return the ids of their runs."""
    stays, goes = set(), set()

    def night(date: str, where: set[str], **how: str) -> tuple[str, str]:
        night = home.night(date, **how)
        arm = home.run("arm", parent=night, status=how.get("status", "FINISHED"), arm=date)
        where |= {night, arm}
        return night, arm

    night("2026-10-01", goes)
    _, arm = night("2026-10-02", stays)
    home.register(arm, home.model(arm))
    _, arm = night("2026-10-03", stays)
    home.register(arm, home.model(arm), by_id=False)  # by its address alone
    refused, arm = night("2026-10-04", goes)
    home.model(arm)
    home.model(refused)
    _, reused = night("2026-10-05", stays)
    stays.add(study := home.run("study"))
    home.log(study, {"results.json": json.dumps({"arms": [{"mlflow_run_id": reused, "reused": True}]})})
    stays.add(home.run("arm", parent=study))
    night("2026-10-06", goes, status="KILLED")
    night("2026-10-07", goes, status="DEAD")
    night("2026-10-08", stays, status="RUNNING")
    _, unchanged = night("2026-10-09", stays)
    night("2026-10-10", goes, series="hands")
    last, _ = night("2026-10-11", stays)
    home.client.set_tag(last, "mlflow.note.content", f"the arm of this night is {unchanged}, reused")
    night("2026-10-11", stays, series="hands")
    stays.add(home.run("arm", status="KILLED", arm="of nobody"))
    return stays, goes


def test_a_night_that_nothing_needs_goes_with_its_rows_and_files_and_all_else_stays_whole(made_up: MadeUpHome) -> None:
    stays, goes = nights_of_all_kinds(made_up)
    before = {path: path.read_bytes() for path in (made_up.root / "mlflow-artifacts").rglob("*") if path.is_file()}
    tags = {run_id: made_up.client.get_run(run_id).to_dictionary() for run_id in stays}
    would = made_up.clean(dry_run=True)
    assert {path: path.read_bytes() for path in before} == before
    assert made_up.run_ids() == stays | goes

    done = made_up.clean()
    assert {what: (row.removed, row.size) for what, row in done.items()} == {
        what: (row.removed, row.size) for what, row in would.items()
    }
    assert made_up.run_ids() == stays == made_up.run_files()
    assert {run_id: made_up.client.get_run(run_id).to_dictionary() for run_id in stays} == tags
    left = {path: path.read_bytes() for path in before if path.exists()}
    freed = sum(map(len, before.values())) - sum(map(len, left.values()))
    assert done[NIGHTS].removed == len(goes) / 2
    assert done[NIGHTS].size == freed == (len(goes) + 2) * FILE_BYTES
    for version in made_up.client.search_model_versions():
        source = made_up.client.get_model_version_download_uri(version.name, version.version)
        assert list(Path(local_file_uri_to_path(source)).iterdir())
    assert all(not row.removed for row in made_up.clean().values())


def test_both_limits_must_be_passed(made_up: MadeUpHome) -> None:
    nights = [made_up.night(f"2026-10-{day:02}", days=40 - day) for day in range(1, 31)]
    assert made_up.clean(keep=30, older_than=0)[NIGHTS].removed == 0
    assert made_up.clean(keep=1, older_than=50)[NIGHTS].removed == 0
    kept = made_up.clean(keep=25, older_than=38.5)[NIGHTS]
    assert (kept.removed, kept.kept) == (1, {"among the newest 25": 25, "younger than 38.5 days": 4})
    assert made_up.run_ids() == set(nights[1:])


def test_a_night_that_ran_twice_counts_once(made_up: MadeUpHome) -> None:
    first = made_up.night("2026-10-01")
    twice = {made_up.night("2026-10-02", status="KILLED"), made_up.night("2026-10-02")}
    made_up.clean(keep=1)
    assert made_up.run_ids() == twice
    assert first not in made_up.run_files()


def test_while_a_study_runs_no_night_goes_since_it_may_take_its_arms(made_up: MadeUpHome) -> None:
    nights = {made_up.night("2026-10-01"), made_up.night("2026-10-02")}
    study = made_up.run("study", status="RUNNING")
    assert made_up.clean()[NIGHTS].kept == {"while a study runs": 1, "among the newest 1": 1}
    assert made_up.run_ids() == nights | {study}


def test_what_a_person_deleted_in_mlflow_can_still_be_restored(made_up: MadeUpHome) -> None:
    mine = made_up.run("arm", arm="a")
    made_up.client.delete_run(mine)
    other = made_up.client.create_experiment("another")
    made_up.client.delete_experiment(other)
    made_up.night("2026-10-01")
    made_up.night("2026-10-02")
    assert made_up.clean()[NIGHTS].removed == 1
    made_up.client.restore_run(mine)
    made_up.client.restore_experiment(other)
    assert mine in made_up.run_files()


def test_an_incomplete_model_of_a_killed_run_goes_and_that_of_a_living_one_stays(made_up: MadeUpHome) -> None:
    killed, living = made_up.run("arm", status="KILLED"), made_up.run("arm", status="RUNNING")
    goes, stays = made_up.model(killed, ready=False), {made_up.model(living, ready=False), made_up.model(killed)}
    replaced = made_up.model(living)
    made_up.client.delete_logged_model(replaced)  # as a resumed run does with what it finds
    assert made_up.clean(older_than=1)["incomplete models in MLflow"].removed == 0
    assert made_up.model_files() == stays | {goes, replaced}
    assert made_up.clean(older_than=0)["incomplete models in MLflow"].removed == 2
    assert made_up.model_files() == stays


@pytest.mark.parametrize("step", ["delete_run", "remove_model", "_collect"])
def test_a_clean_that_is_killed_anywhere_is_finished_by_the_next(
    made_up: MadeUpHome, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stays, _ = nights_of_all_kinds(made_up)
    where = MlflowClient if step == "delete_run" else MlflowRecords
    whole = getattr(where, step)
    for calls_before_the_kill in range(2):
        calls = iter(range(calls_before_the_kill))

        def killed(*arguments: object, calls: Iterator[int] = calls) -> object:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return whole(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(where, step, killed)
            with pytest.raises(KeyboardInterrupt):
                made_up.clean()
    made_up.clean()
    assert made_up.run_ids() == stays == made_up.run_files()
    assert all(not row.removed for row in made_up.clean().values())


def test_a_model_that_is_registered_meanwhile_keeps_its_night(made_up: MadeUpHome) -> None:
    night = made_up.night("2026-10-01")
    arm = made_up.run("arm", parent=night)
    model = made_up.model(arm)
    made_up.night("2026-10-02")
    records = MlflowRecords.open(f"sqlite:///{made_up.root / 'mlflow.db'}")
    assert records
    made_up.register(arm, model)
    assert not records.remove_run(arm)
    assert {arm, night} <= made_up.run_files()


def test_through_a_server_the_files_go_and_the_log_says_how_to_remove_the_rows(
    made_up: MadeUpHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OfServer:
        """A store without MLflow's garbage collection, as the client of a server is."""

    monkeypatch.setattr(mlflow_records, "_get_store", OfServer)
    stays, goes = nights_of_all_kinds(made_up)
    with caplog.at_level("INFO", "medmtl"):
        done = made_up.clean()
    assert done[NIGHTS].size == (len(goes) + 2) * FILE_BYTES
    files = [path for path in (made_up.root / "mlflow-artifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.parts[-3] in goes]
    active = {run.info.run_id for run in made_up.client.search_runs([made_up.experiment])}
    assert active == stays
    assert "mlflow gc --tracking-uri" in caplog.text
    assert all(not row.removed for row in made_up.clean().values())
