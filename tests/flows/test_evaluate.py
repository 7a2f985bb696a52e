"""Registered models on validation patients: promotions that happen, are refused, and are made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from flows.cli import BAD_INPUT, OK, exit_code

pytestmark = pytest.mark.slow

DATA = """
data: {size: 32, phantom: {patients: 250, size: 64}}
split: {shares: [0.5, 0.3, 0.2]}
"""


def settings(name: str, more: str = "", data: str = DATA) -> list[str]:
    Path(name).write_text(data + more)
    return ["--config", name]


def results(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "results.json").read_text())
    return found


def verdict(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = results(folder)["verdict"]
    return found


def test_a_model_is_promoted_when_it_is_better_and_refused_when_it_is_not(
    medmtl_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = settings("data.yaml", "promotion: {least_patients: 5}")  # with ten, 6 of 14 labels would count
    assert exit_code(["evaluate", *data, "--out", "none"]) == BAD_INPUT
    assert "has no registered model 'medmtl'" in capfd.readouterr().err

    untrained = "training: {{epochs: 1, learning_rate: {}}}"
    assert exit_code(["train", *settings("bad.yaml", untrained.format("1.0e-6")), "--out", "t1"]) == OK
    assert exit_code(["evaluate", *data, "--out", "e1"]) == OK
    first = verdict("e1")
    assert first["decision"] == "refused"
    assert [each["name"] for each in first["conditions"] if not each["holds"]] == ["mean validation AUC"]
    capfd.readouterr()
    assert exit_code(["promote"]) == BAD_INPUT
    assert "medmtl version 1 does not wait (refused: " in capfd.readouterr().err
    assert exit_code(["promote", "--version", "1"]) == OK
    said = "medmtl version 1 is the champion now, though the gate refused it; there was none before\n"
    assert capfd.readouterr().out == said

    assert exit_code(["train", *settings("good.yaml", "training: {epochs: 8, batch_size: 32}"), "--out", "t2"]) == OK
    assert exit_code(["evaluate", *data, "--out", "e2"]) == OK
    second = results("e2")
    assert second["verdict"]["decision"] == "promoted"
    assert second["lo"] > 0
    assert "compared with version 1" in second["verdict"]["reason"]

    assert exit_code(["train", *settings("worse.yaml", untrained.format("2.0e-6")), "--out", "t3"]) == OK
    assert exit_code(["evaluate", *data, "--out", "e3"]) == OK
    third = results("e3")
    assert third["verdict"]["decision"] == "refused"
    assert third["hi"] < 0
    assert third["verdict"]["reason"].startswith("refused: mean validation AUC compared with version 2: -")
    assert "Conditions of the gate" in Path("e3/report.html").read_text()

    client = MlflowClient()
    assert str(client.get_model_version_by_alias("medmtl", "champion").version) == "2"
    assert client.get_model_version("medmtl", "2").tags["medmtl.promotion"] == second["verdict"]["reason"]
    assert client.get_model_version("medmtl", "3").tags["medmtl.promotion"] == third["verdict"]["reason"]
    capfd.readouterr()
    assert exit_code(["rollback"]) == OK
    assert capfd.readouterr().out == "medmtl version 1 is the champion again; version 2 was before\n"
    assert str(client.get_model_version_by_alias("medmtl", "champion").version) == "1"
    assert exit_code(["rollback", "--model", "medmtl"]) == BAD_INPUT
    assert "no champion before it is known" in capfd.readouterr().err

    other = settings("other.yaml", data=DATA.replace("0.5, 0.3, 0.2", "0.2, 0.3, 0.5"))
    assert exit_code(["evaluate", *other, "--out", "e4"]) == BAD_INPUT
    assert "patients the model was trained on" in capfd.readouterr().err
