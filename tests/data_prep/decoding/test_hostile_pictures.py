"""Whatever a picture file asks for, decoding it takes a bounded part of the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DECODING = """
import resource, sys
from random import Random
from data_prep.store import decode_items
from tests.data_prep.hostile_pictures import hostile_picture

decode_items.CPU_SECONDS = 2  # ten times what any takes; then the process is ended, and the test fails
decode_items.start_worker()
first, last = map(int, sys.argv[1:])
for number in range(first, last):
    data = hostile_picture(Random(number))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    item = decode_items.decode_item("a.png", data, 64, isolate=False)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(number, len(data), grown, item.reason or "pixels", sep=chr(9), flush=True)
"""


def decode_hostile_pictures(first: int, last: int) -> list[tuple[int, int, str]]:
    """Decode those pictures as a worker does; return the bytes of each, the growth of the process, and the outcome."""
    command = [sys.executable, "-c", DECODING, str(first), str(last)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, (found.returncode, found.stdout[-300:], found.stderr[-3000:])
    lines = [line.split("\t") for line in found.stdout.splitlines()]
    assert len(lines) == last - first
    return [(int(size), int(grown), outcome) for _, size, grown, outcome in lines]


def test_small_files_that_ask_for_much_get_a_reason_within_limits() -> None:
    outcomes = decode_hostile_pictures(0, 60)
    assert all(grown < 2**29 for _, grown, _ in outcomes), outcomes
    assert len({outcome for _, _, outcome in outcomes}) > 5


@pytest.mark.long
def test_very_many_of_them_get_a_reason_within_limits() -> None:
    outcomes = decode_hostile_pictures(1000, 3000)
    assert all(grown < 2**29 for _, grown, _ in outcomes), max(outcomes)
