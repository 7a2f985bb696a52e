"""Two nights of a hospital whose files are full of identity, with a drift and a broken file: none of it gets out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.data_prep.test_canaries import CANARIES, DATE, WORD, found_in
from tests.flows.test_canaries import file_name, image, row, write_rows
from tests.stack.stack import Stack, wait_until

pytestmark = pytest.mark.slow

NAME = "anonymous"


def brighter(dataset: Dataset) -> None:
    """As a detector does whose exposure is set wrongly."""
    dataset.PixelData = b"\xff\x0f" * (len(dataset.PixelData) // 4) + dataset.PixelData[len(dataset.PixelData) // 2 :]


def arrive(folder: Path, numbers: range, drifted: bool = False) -> None:
    """Put images into folders that are named after their patients, and write the table of all that have come."""
    for number in numbers:
        of_patient = folder / f"{WORD}^Jane_{number}_{DATE}"
        of_patient.mkdir()
        (of_patient / file_name(number)).write_bytes(image(number, brighter) if drifted else image(number))
    write_rows(folder, [row(number) for number in range(numbers.stop)])


def parameters(folder: Path, out: Path, night: str) -> dict[str, Any]:
    settings = {
        "data": {"source": str(folder), "size": 32, "unreadable_limit": 0.5},
        "split": {"shares": [0.4, 0.4, 0.2]},
        "training": {"epochs": 1},
        "promotion": {"least_patients": 5, "rule": "not_worse", "margin": 1},
        "device": "cpu",
        "model_name": NAME,
        "night": night,
    }
    return {"out": str(out), "settings": settings}


def rows_of(stack: Stack, database: str) -> Iterator[str]:
    """Every row of every table, as text."""
    tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
    for schema, name in stack.postgres.query(database, tables):
        if schema not in ("pg_catalog", "information_schema"):
            yield from (str(line) for (line,) in stack.postgres.query(database, f'SELECT t::text FROM "{name}" t'))


def test_no_identity_leaves_the_hospital(deployed: Stack, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "series"
    folder.mkdir()
    told = len(deployed.webhook.received)
    arrive(folder, range(40))
    first = deployed.submit("nightly/nightly", parameters(folder, out, "2026-11-02"))
    assert deployed.wait_for(first)["state_type"] == "COMPLETED", deployed.what_was_said(first)
    arrive(folder, range(40, 70), drifted=True)
    broken = folder / f"{WORD}^Jane_40_{DATE}" / file_name(40)
    broken.write_bytes(broken.read_bytes()[:-900])
    second = deployed.submit("nightly/nightly", parameters(folder, out, "2026-11-03"))
    assert deployed.wait_for(second)["state_type"] == "COMPLETED", deployed.what_was_said(second)
    (folder / "labels.csv").unlink()
    third = deployed.submit("nightly/nightly", parameters(folder, out, "2026-11-04"))
    assert deployed.wait_for(third)["state_type"] == "FAILED", deployed.what_was_said(third)

    wait_until(lambda: "drifted" in json.dumps(deployed.webhook.received[told:]), "a notification of the drift", 60)
    results = json.loads((out / "2026-11-03" / "results.json").read_text())
    assert results["arrivals"]["new_quarantined"] == 1
    assert [test for test in results["drift"]["tests"] if test["alarm"]]
    said = [
        *deployed.webhook.received,
        *(deployed.log_lines(run) for run in (first, second, third)),
        *(rows_of(deployed, database) for database in ("mlflow", "prefect")),
    ]
    lines = [line for part in said for line in ([part] if isinstance(part, dict) else part)]
    assert len(lines) > 1000
    assert not [line for line in map(str, lines) if any(canary.lower() in line.lower() for canary in CANARIES)][:3]
    assert not found_in(deployed.folder)
    assert not found_in(out)


def test_the_search_finds_a_canary_in_postgresql(deployed: Stack) -> None:
    deployed.postgres.query("mlflow", f"CREATE TABLE planted AS SELECT '{WORD}' AS name")
    assert any(WORD in line for line in rows_of(deployed, "mlflow"))
    deployed.postgres.query("mlflow", "DROP TABLE planted")
