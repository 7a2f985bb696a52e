"""What readers make of files drawn from grammars: legal ones, and ones that break a rule each.

    python -m benchmarks.fuzz [--kind png]... [--count N] [--seed 0] [--processes 2] [--json FILE]
    python -m benchmarks.fuzz --kind png --number 1234 [--seed 0] > FILE

Kinds: png, jpeg, dicom (20,000 files each), table, archive (5,000 each); yaml is drawn here and read by its test. Each
file is drawn from a generator seeded by (seed, kind, number), so --number writes it again. Pictures are decoded as in a
process of an ingest's pool: DICOM in the sandbox, others in that process.

What is read is compared with what the file means, by the grammar's own reference: `benchmarks/fuzzing`. The exit status
is 1 if anything is read wrong in silence, crashes, hangs, takes over 5 s of processor or 512 MiB for a file of some
kilobytes, raises anything but a DataError, or gives a reason that is not one printable line or shows an identity.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import cv2
import gdcm
import kornia_rs
import PIL
import pydicom

from benchmarks.fuzzing.case import BROKEN
from benchmarks.fuzzing.runner import DRAW, FORMATS, Tally, make, run

COUNTS = {"png": 20_000, "jpeg": 20_000, "dicom": 20_000, "table": 5_000, "archive": 5_000}
SHOWN = 30  # reasons and failures of a kind


def show(name: str, tally: Tally) -> None:
    """Print what became of the files of one kind."""
    slowest, at = tally.slowest
    largest, of = tally.largest
    print(
        f"{name}: {tally.files:,} files in {tally.seconds:.0f} s; the slowest {slowest:.2f} s (number {at}), the most"
    )
    print(f"  memory {largest / 2**20:.0f} MiB (number {of})")
    for outcome, times in tally.outcomes.most_common():
        print(f"  {times:7,d}  {outcome}")
        for reason, count in tally.reasons.get(outcome, {}).items() if outcome not in BROKEN else ():
            if count >= tally.files / 1000:
                print(f"           {count:7,d}  {reason}")
    for line in tally.broken[:SHOWN]:
        print(f"  {line}")
    sys.stdout.flush()


def record(tally: Tally) -> dict[str, object]:
    """Return a run for the JSON."""
    return {
        "files": tally.files,
        "seconds": round(tally.seconds, 1),
        "outcomes": dict(tally.outcomes.most_common()),
        "slowest_seconds": round(tally.slowest[0], 3),
        "most_memory_bytes": tally.largest[0],
        "broken": tally.broken,
        "reasons": {outcome: dict(counts.most_common(SHOWN)) for outcome, counts in tally.reasons.items()},
    }


def main() -> int:
    """Run the benchmark; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(DRAW), help="repeatable [all but yaml]")
    parser.add_argument("--count", type=int, help="files of each kind [see above]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, help="write this file to the standard output, and its rules to the other")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "fuzz.json")
    options = parser.parse_args()
    kinds = options.kind or list(FORMATS)
    if options.number is not None:
        case = make(kinds[0], options.seed, options.number)
        print(f"{case.suffix}, legal: {case.legal}; {', '.join(case.rules)}", file=sys.stderr)
        sys.stdout.buffer.write(case.data)
        return 0
    found = {}
    for name in kinds:
        found[name] = run(name, options.seed, options.count or COUNTS[name], options.processes)
        show(name, found[name])
    versions = {
        "opencv": cv2.__version__, "kornia-rs": kornia_rs.__version__, "pillow": PIL.__version__,
        "pydicom": pydicom.__version__, "gdcm": gdcm.Version.GetVersion(), "python": platform.python_version(),
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = {"seed": options.seed, "versions": versions, **{name: record(tally) for name, tally in found.items()}}
    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return int(any(tally.broken for tally in found.values()))


if __name__ == "__main__":
    sys.exit(main())
