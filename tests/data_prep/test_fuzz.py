"""Files drawn from grammars are read as they are meant, or refused in one line; none crashes or hangs its reader."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(tmp_path: Path, *options: str) -> dict[str, dict[str, dict[str, int]]]:
    """What became of the drawn files, by kind."""
    out = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "benchmarks.fuzz", *options, f"--json={out}"]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, dict[str, dict[str, int]]] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("kind", ["png", "jpeg", "dicom", "table", "archive"])
@pytest.mark.parametrize(("count", "seed"), [(60, 1), pytest.param(5000, 2, marks=pytest.mark.long)])
def test_a_drawn_file_is_read_as_it_is_meant_or_refused(kind: str, count: int, seed: int, tmp_path: Path) -> None:
    found = fuzz(tmp_path, f"--kind={kind}", f"--count={count}", f"--seed={seed}", "--processes=1")[kind]
    outcomes = found["outcomes"]
    assert sum(outcomes.values()) == count
    assert outcomes["read right"] > count / 3
    assert outcomes["not legal, refused with a reason"] > count / 10
    assert outcomes.get("legal, refused with a reason", 0) < count / 3
