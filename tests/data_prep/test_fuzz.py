"""Seeded damage: PNGs keep their pixels or are refused, DICOMs never crash or hang the run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("pngs", "dicoms", "seed"), [(600, 150, 1), pytest.param(4000, 1500, 2, marks=pytest.mark.long)]
)
def test_mutated_files_give_their_own_pixels_or_a_reason(pngs: int, dicoms: int, seed: int, tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    command = [sys.executable, "benchmarks/fuzz.py", f"--pngs={pngs}", f"--dicoms={dicoms}", f"--seed={seed}"]
    ended = subprocess.run([*command, f"--json={out}"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(out.read_text())
    for kind, files in (("PNG", pngs), ("DICOM", dicoms)):
        assert found[kind]["files"] == sum(found[kind]["outcomes"].values()) == files
        assert found[kind]["outcomes"]["refused with a reason"] > files / 3
        assert found[kind]["wrong"] == []
    assert found["PNG"]["outcomes"]["original pixels"] > 0
    assert found["DICOM"]["outcomes"]["pixels"] > 0
