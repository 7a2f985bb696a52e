"""What a study spends outside training and evaluation: starting, planning, reading, logging, exporting, reporting.

    python -m benchmarks.overhead [--config STUDY.yaml] [--home DIR] [--json FILE]

Gets the images ready, which is neither, then runs `medmtl study` whole, as a person would, and takes its wall time.
What its arms spent computing (training, validating, weighting, scoring; from results.json), shared out over the arms
at once, is taken off; the rest is overhead. It counts the time in which an arm's place stays empty at the end, and that
in which an arm waits for another one's export. By default 24 arms of about two minutes each on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.report import parser, print_table, publish


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--config", type=Path, default=Path(__file__).with_suffix(".yaml"), help="the study")
    command.add_argument("--home", type=Path, help="where decoded images and arms are kept; none: an empty folder")
    options = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out, home = Path(scratch) / "out", options.home or Path(scratch) / "home"
        images = Path(scratch) / "images.yaml"
        data = yaml.safe_load(options.config.read_text(encoding="utf-8")).get("data", {})
        images.write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
        ingesting = seconds("ingest", "--config", images, "--out", Path(scratch) / "images", home=home)
        wall = seconds("study", "--config", options.config, "--out", out, home=home)
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    arms = results["arms"]
    if reused := sum(arm["reused"] for arm in arms):
        raise SystemExit(f"{reused} of {len(arms)} arms were trained before: name another --home")
    places = results["config"]["runner"]["arms_at_once"] or len(os.sched_getaffinity(0))
    computing = sum(arm["computing_seconds"] for arm in arms) / places
    within = sum(arm["seconds"] for arm in arms) / places
    rows = {
        "whole command": wall,
        "training and evaluation": computing,
        "in the arms, but outside these": within - computing,
        "outside the arms": wall - within,
    }
    print(f"{len(arms)} arms of {min(a['seconds'] for a in arms):.0f} to {max(a['seconds'] for a in arms):.0f} s, "
          f"{places} at a time")  # fmt: skip
    print_table(("", "seconds", "share"), [(name, f"{s:.1f}", f"{s / wall:.1%}") for name, s in rows.items()])
    print(f"overhead: {1 - computing / wall:.1%} of the wall time; getting the images ready before: {ingesting:.0f} s")
    found = {"arms": len(arms), "at_once": places, "seconds": rows, "ingesting": ingesting}
    publish(found | {"overhead": 1 - computing / wall}, options.json)


def seconds(*command: str | Path, home: Path) -> float:
    """Measure the wall time of a medmtl command."""
    begun = time.perf_counter()
    whole = [sys.executable, "-m", "flows.cli", *map(str, command)]
    subprocess.run(whole, check=True, env=os.environ | {"MEDMTL_HOME": str(home.absolute())})
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
