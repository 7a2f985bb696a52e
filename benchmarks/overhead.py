"""What a study spends outside training and evaluation: starting, planning, reading, logging, exporting, reporting.

    python -m benchmarks.overhead [--config STUDY.yaml] [--home DIR] [--json FILE]

Runs `medmtl study` whole, as a person would, and takes its wall time. What its arms
spent computing (training, validating, weighting, scoring; from results.json), shared out over the arms at once, is
taken off; the rest is overhead. It counts the time in which an arm's place stays empty at the end, and that in which
an arm waits for another one's export. By default 24 arms of about a minute each on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import parser, print_table, publish


def main() -> None:
    """Prints a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--config", type=Path, default=Path(__file__).with_suffix(".yaml"), help="the study")
    command.add_argument("--home", type=Path, help="where decoded images and arms are kept; none: an empty folder")
    options = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out, home = Path(scratch) / "out", options.home or Path(scratch) / "home"
        study = [sys.executable, "-m", "flows.cli", "study", "--config", str(options.config), "--out", str(out)]
        begun = time.perf_counter()
        subprocess.run(study, check=True, env=os.environ | {"MEDMTL_HOME": str(home.absolute())})
        wall = time.perf_counter() - begun
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
    print(f"overhead: {1 - computing / wall:.1%} of the wall time")
    publish({"arms": len(arms), "at_once": places, "seconds": rows, "overhead": 1 - computing / wall}, options.json)


if __name__ == "__main__":
    main()
