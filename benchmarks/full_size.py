"""A study as large as ChestX-ray14: seconds until the first step and between arms, and how often the store is hashed.

    python -m benchmarks.full_size [--checkout DIR] [--at-once N] [--work DIR] [--json FILE]

Makes a store of 112,120 images of 64 px with 14 labels of 30,805 patients (random pixels and labels), as an ingest of
the published archives would leave it, and runs `medmtl study` on it as a person would: 24 arms (4 methods x 2
conditions x 3 seeds) of the default split, one at a time. What an arm computes is cut short, and nothing else: all
steps but the first two of an arm, and the network outside of training.

    to the first step   from the start of the command, the start of Prefect's server included
    between arms        from the end of an arm's scoring to the first step of the next arm; of this, until the arm is
                        recorded: the model is exported, and MLflow gets everything
    store hashed        the most times that one file of the store was read to compute its SHA-256, in one process

--checkout measures another version of the code. --work keeps the store there for the next time.
"""

import argparse
import atexit
import csv
import functools
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from benchmarks.report import parser, print_table, publish

SIZE, IMAGES, PATIENTS = 64, 112_120, 30_805
STUDY = {
    "methods": [
        {"kind": "uniform"}, {"kind": "uncertainty"}, {"kind": "imtl_l"}, {"kind": "oracle"},
    ],
    "protocol": {"kind": "all", "noise": [{"kind": "none"}, {"kind": "random", "rate": 0.2}]},
    "training": {"epochs": 1},
    "seeds": 3,
    "device": "cpu",
}  # fmt: skip
ARMS = 24
REAL_STEPS = 2


def main() -> None:
    """Print a table, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("--checkout", type=Path, default=Path.cwd(), help="the code to measure")
    command.add_argument("--at-once", type=int, default=1, help="arms at a time")
    command.add_argument("--work", type=Path, help="folder in which the store is kept; none: an empty one")
    command.add_argument("--watched", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = command.parse_args()
    if options.watched:
        return watch(options.watched[0], options.watched[1:])
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).absolute()
        if not (work / "stores").exists():
            make_store(work)
        found = run(options, work, Path(scratch))
    rows = [(name, f"{value:.1f} s" if isinstance(value, float) else str(value)) for name, value in found.items()]
    print_table(("", "measured"), rows)
    publish({"checkout": options.checkout.name, "at_once": options.at_once} | found, options.json)


def run(options: argparse.Namespace, work: Path, scratch: Path) -> dict[str, float | int]:
    """Run the study in a home of its own that shares the store, and return what was seen."""
    home, config, events = scratch / "home", scratch / "study.yaml", scratch / "events.json"
    home.mkdir()
    (home / "stores").symlink_to(work / "stores")
    data = {"source": "chestxray14", "size": SIZE, "archives": {"folder": str(work / "published")}}
    config.write_text(yaml.safe_dump({**STUDY, "data": data, "runner": {"arms_at_once": options.at_once}}))
    study = ["study", "--config", str(config), "--out", str(scratch / "out")]
    environment = os.environ | {"MEDMTL_HOME": str(home), "PYTHONPATH": str(options.checkout.absolute())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    begun = time.time()
    watched = [sys.executable, "-P", str(Path(__file__).absolute()), "--watched", str(events), *study]
    subprocess.run(watched, check=True, env=environment, cwd=scratch)
    whole = time.time() - begun
    seen = json.loads(events.read_text())
    return {"whole command": whole} | summary(seen["events"], begun) | {"store hashed": max(seen["hashed"].values())}


def summary(events: Sequence[tuple[float, str, int]], begun: float) -> dict[str, float | int]:
    """Return the times between events (time, kind, thread), in seconds; gaps are between events of one thread."""
    steps = [at for at, kind, _ in events if kind == "first step"]
    if len(steps) != ARMS:
        raise SystemExit(f"{len(steps)} arms made a first step, expected {ARMS}: has the code been rearranged?")
    gaps, until_recorded = [], []
    for thread in {thread for _, _, thread in events}:
        scored = recorded = 0.0
        for at, kind, _ in [event for event in events if event[2] == thread]:
            if kind == "scored":
                scored = at
            elif kind == "recorded":
                recorded = at
            elif scored:
                gaps.append(at - scored)
                until_recorded.append(recorded - scored)
    return {
        "to the first step": steps[0] - begun,
        "between arms, median": statistics.median(gaps),
        "between arms, after the first (it imports the exporter)": gaps[0],
        "between arms, longest of the others": max(gaps[1:]),
        "of this, until recorded, median": statistics.median(until_recorded),
        "of this, until the next first step, median": statistics.median(
            gap - before for gap, before in zip(gaps, until_recorded, strict=True)
        ),
    }


def make_store(work: Path) -> None:
    """Write the published archives (of the right length, empty) with a label table, and the store of their images."""
    from data_prep.labels.table import FINDINGS, read_labels
    from data_prep.sources.chestxray14 import CHESTXRAY14
    from data_prep.store.build import WrittenShards, open_or_build
    from data_prep.store.from_archives import ArchiveFiles, ArchiveSource
    from data_prep.store.recipe import Recipe, store_key
    from data_prep.store.shards import SHARD_IMAGES
    from data_prep.store.writer import StoreWriter

    published = work / "published"
    published.mkdir(parents=True, exist_ok=True)
    for archive in CHESTXRAY14.archives:
        with (published / archive.name).open("wb") as file:
            file.truncate(archive.bytes)  # takes no room on the disk, and is never read
    generator = np.random.default_rng(0)
    patients = np.sort(np.concatenate([np.arange(PATIENTS), generator.integers(PATIENTS, size=IMAGES - PATIENTS)])) + 1
    followed_up = Counter[int]()
    name = published / "Data_Entry_2017_v2020.csv"
    with name.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Labels", "Patient ID", "View Position"])
        for patient, present in zip(patients.tolist(), generator.random((IMAGES, len(FINDINGS))) < 0.05, strict=True):
            findings = "|".join(np.array(FINDINGS)[present]) or "No Finding"
            writer.writerow([f"{patient:08d}_{followed_up[patient]:03d}.png", findings, patient, "PA"])
            followed_up[patient] += 1
    table = read_labels(name)
    source = ArchiveSource.of(table, CHESTXRAY14.archives, {}, ArchiveFiles(lambda file: published / file.name))
    path = work / "stores" / store_key(source, SIZE, b"")
    if path.exists():
        return

    def write_shards(store: StoreWriter) -> WrittenShards:
        images = table.images.tolist()
        for start in range(0, IMAGES, SHARD_IMAGES):
            names = images[start : start + SHARD_IMAGES]
            pixels = np.frombuffer(generator.bytes(len(names) * SIZE**2), np.uint8).reshape(-1, SIZE, SIZE)
            with store.shard(len(names)) as shard:
                for image, of_image in zip(names, pixels, strict=True):
                    shard.append(image, of_image, hashlib.sha256(of_image).hexdigest(), "0" * 64)
        counts = {"items": IMAGES, "images_without_row": 0, "rows_without_image": 0}
        return WrittenShards(counts, store.finished)

    open_or_build(Recipe.of(source, SIZE, b"", SHARD_IMAGES), path, 0.05, write_shards)


# --- In the process that is measured ---


class _Events:
    """What happened when in this process, written at its end."""

    def __init__(self, file: str) -> None:
        self.events: list[tuple[float, str, int]] = []
        self.hashed: Counter[str] = Counter()
        atexit.register(lambda: Path(file).write_text(json.dumps(vars(self))))

    def note(self, kind: str) -> None:
        """Record that something happened now."""
        self.events.append((time.time(), kind, threading.get_ident()))


def watch(file: str, arguments: Sequence[str]) -> None:
    """Run the command line with these arguments; afterwards the file holds what happened when."""
    events = _Events(file)
    digest = hashlib.file_digest

    def counted(stream: Any, *rest: Any, **named: Any) -> Any:
        path = Path(str(getattr(stream, "name", "")))
        if (path.parent / "manifest.json").exists():
            events.hashed[path.name] += 1
        return digest(stream, *rest, **named)

    hashlib.file_digest = counted
    changes = {
        "models.training.image_step": _cut_steps_short,
        "models.networks.multitask": _predict_nothing,
        "models.evaluation.auc": _note_scores,
        "mlflow": _note_ends,
    }
    sys.meta_path.insert(0, _ChangeOnImport({name: functools.partial(do, events) for name, do in changes.items()}))
    sys.argv = ["medmtl", *arguments]
    runpy.run_module("flows.cli", run_name="__main__", alter_sys=True)


class _ChangeOnImport(importlib.abc.MetaPathFinder):
    """Changes modules right after they are imported, so that none is imported earlier than it would be."""

    def __init__(self, changes: dict[str, Callable[[ModuleType], None]]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find a module that is to be changed."""
        if name not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute, change = spec.loader.exec_module, self._changes[name]

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def _cut_steps_short(events: _Events, module: Any) -> None:
    """Make two real steps of each training; the others change nothing."""
    whole, done = module.Step.__call__, Counter[int]()
    last: dict[int, Any] = {}

    def step(self: Any, *batch: Any) -> Any:
        if not done[id(self)]:
            events.note("first step")
        done[id(self)] += 1
        if done[id(self)] <= REAL_STEPS:
            last[id(self)] = whole(self, *batch)
        return last[id(self)]

    begin = module.Step.__init__

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        done.pop(id(self), None)

    module.Step.__call__, module.Step.__init__ = step, init


def _predict_nothing(events: _Events, module: Any) -> None:
    """Outside of training and export, read the images but take their first pixels for the outputs."""
    forward = module.MultiTaskNetwork.forward

    def predict(self: Any, pixels: Any) -> Any:
        if self.training or sys.modules["torch"].compiler.is_compiling():
            return forward(self, pixels)
        return pixels.float().flatten(1)[:, : len(self.labels)] / 255 - 0.5

    module.MultiTaskNetwork.forward = predict


def _note_scores(events: _Events, module: Any) -> None:
    score = module.score

    def noted(*arguments: Any, **named: Any) -> Any:
        found = score(*arguments, **named)
        events.note("scored")
        return found

    module.score = noted


def _note_ends(events: _Events, module: Any) -> None:
    end_run = module.end_run

    def noted(*arguments: Any, **named: Any) -> None:
        end_run(*arguments, **named)
        events.note("recorded")

    module.end_run = noted


if __name__ == "__main__":
    main()
