"""Parts of the theory: stored once, found again, and a damaged one is named and never taken for a result."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from tasks.runtime.home import home
from tasks.theory import parts
from tasks.theory.augmentation_computations import AugmentationSettings, augmentation_computations
from tasks.theory.computations import ComputationsSettings, transfer_computations
from tasks.theory.parts import Computation


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\x00", b"[" * 200_000])
def test_a_damaged_part_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    assert parts._read(tmp_path / "part.json") is None
    (tmp_path / "part.json").write_bytes(content)
    with pytest.raises(DataError, match=r"part\.json is damaged: delete it"):
        parts._read(tmp_path / "part.json")


def test_a_part_is_computed_once_and_again_where_anything_that_it_depends_on_changes() -> None:
    computed: list[int] = []

    def run(seed: int) -> dict[str, Any]:
        computed.append(seed)
        return {"seed": seed}

    first = {"a": Computation({"n": 1}, run, range(3)), "b": Computation({"n": 1}, run, range(2))}
    assert parts.compute.fn(first) == ({"a": [{"seed": s} for s in (0, 1, 2)], "b": [{"seed": s} for s in (0, 1)]}, 0)
    assert parts.compute.fn(first)[1] == 5
    assert sorted(computed) == [0, 0, 1, 1, 2]
    changed = first | {"b": Computation({"n": 2}, run, range(2))}
    assert parts.compute.fn(changed)[1] == 3


FIELDS = {
    "figure 3": ("linear", "source_samples", "solvers"),
    "map": ("linear", "map"),
    "capacity": ("capacity",),
    "proposition 3": ("capacity",),
    "theorem 2": ("theorem_2",),
    "figure 2": ("fitting", "figure_2"),
    "linked figure 3": ("fitting", "linked_figure_3"),
}
"""Computation -> the settings that its stored parts have always been named after."""


def test_parts_that_were_stored_before_the_second_paper_are_still_found() -> None:
    settings = ComputationsSettings()
    computations = transfer_computations(settings, range(1), range(1))
    assert set(computations) == set(FIELDS)
    for name, fields in FIELDS.items():
        values = {field: settings.model_dump(mode="json")[field] for field in fields}
        identity = json.dumps([1, name, 7, values], sort_keys=True)
        expected = f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
        assert parts._path(computations, (name, 7)) == home().root / "theory" / expected


def test_no_two_computations_share_a_name() -> None:
    transfer = transfer_computations(ComputationsSettings(), range(1), range(1))
    assert not set(transfer) & set(augmentation_computations(AugmentationSettings(), None, range(1)))
