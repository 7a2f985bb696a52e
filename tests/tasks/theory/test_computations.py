"""Stored parts of the theory's computations: a damaged one is named, and never taken for a result."""

from pathlib import Path

import pytest

from data_prep.errors import DataError
from tasks.theory import computations
from tasks.theory.computations import ComputationsSettings


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\x00", b"[" * 200_000])
def test_a_damaged_part_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(computations, "_path", lambda settings, part: tmp_path / "part.json")
    assert computations._read(ComputationsSettings(), ("map", 0)) is None
    (tmp_path / "part.json").write_bytes(content)
    with pytest.raises(DataError, match=r"part\.json is damaged: delete it"):
        computations._read(ComputationsSettings(), ("map", 0))
