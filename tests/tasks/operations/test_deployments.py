"""prefect.yaml as `medmtl deploy` reads it."""

from pathlib import Path

import pytest
import yaml

from data_prep.errors import DataError
from flows.cli import exit_code
from flows.deploy import START
from tasks.operations.deployments import read_prefect_file

ROOT = Path(__file__).parents[3]
ENTRY = {"name": "a", "entrypoint": "flows/theory.py:theory", "work_pool": {"name": "local"}}


def test_variables_of_the_environment_and_the_folder_are_filled_in_and_others_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/where/the/shell/was")
    monkeypatch.setenv("IMAGES", "/images")
    parameters = {"here": "{{ $PWD }}", "images": "{{ $IMAGES }}/new", "later": "{{ ctx.flow_run.id }}", "n": 3}
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"deployments": [ENTRY | {"parameters": parameters}]}))
    (entry,) = read_prefect_file(file)["deployments"]
    assert entry["parameters"] == parameters | {"here": str(tmp_path), "images": "/images/new"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("a: [", "cannot read"),
        ("- a", "names no deployments"),
        ("deployments: []", "names no deployments"),
        ("deployments: [{name: a, entrypoint: b}]", "deployment 1 in"),
        ("deployments: [a]", "deployment 1 in"),
        ("deployments: [{name: a, work_pool: {name: local}}]", "deployment 1 in"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "prefect.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_prefect_file(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_without_a_server_deploy_says_how_to_start_one_that_sends_no_telemetry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(["deploy"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert START in said
    assert "DO_NOT_TRACK=1" in START
    assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in START


def test_prefect_yaml_starts_its_server_without_telemetry_and_our_runs_without_too() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    before = text[: text.index("prefect server start")]
    for setting in ("PREFECT_SERVER_ANALYTICS_ENABLED=false", "DO_NOT_TRACK=1"):
        assert setting in before
    for entry in yaml.safe_load(text)["deployments"]:
        environment = entry["work_pool"]["job_variables"]["env"]
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        assert "medmtl" in entry["tags"]
