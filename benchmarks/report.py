"""How a benchmark measures and reports: ways timed in turns, a table for people, JSON for machines."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scipy.special import stdtrit

_PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "lightning-fabric",
    "torchjd", "torchmetrics", "torchxrayvision",
)  # fmt: skip

Value = TypeVar("Value")


class Spread(NamedTuple):
    """The middle of repeated measurements: median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise at least one value."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median, low, high)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def seconds(work: Callable[[], object]) -> float:
    """Measure the wall time of one call, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(ways: Mapping[str, Callable[[], Value]], rounds: int) -> dict[str, list[Value]]:
    """Return what each way measures, once per round after a first round that warms up.

    All ways take their turn in every round, beginning with another one each time, so that a change of the machine's
    load meets them all.
    """
    names = list(ways)
    found: dict[str, list[Value]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            value = ways[name]()
            if round_:
                found[name].append(value)
    return found


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Of measurements of the same rounds."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of independent values, such as of seeds, and its 95 % interval by Student's t.

    With one value the interval is the whole line.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, float("-inf"), float("inf")
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print(f"{row[0]:{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
              sep="  ")  # fmt: skip


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a benchmark's command line, `--json` included; its docstring is its help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON there")
    return made


def publish(result: Mapping[str, Any], file: Path | None) -> None:
    """Print the result, with the machine and the versions, as one line of JSON, and into the file if one is named."""
    record = {"machine": machine(), "versions": versions(), **result}
    print(json.dumps(record))
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, and what PyTorch computes with, where it is loaded."""
    found: dict[str, Any] = {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}
    if torch := sys.modules.get("torch"):
        found |= {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter here, where they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
