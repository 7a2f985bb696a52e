"""Every rule holds of a sound store, and each is broken by what it is there for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.labels.splits import Split, SplitSettings, make_split
from data_prep.sources.folder import FolderSource
from data_prep.store import checks
from data_prep.store.checks import Expected, check_store, require, table
from data_prep.store.from_source import build_store
from data_prep.store.store import Pixels, Quarantined, Store

FolderMaker = Callable[..., Path]


@pytest.fixture
def store(nih_folder: FolderMaker, tmp_path: Path) -> Store:
    """Forty images of ten patients, one of them quarantined."""
    source = FolderSource.open(nih_folder(patients=10))
    source.files[7][1].write_bytes(b"")
    return build_store(source, tmp_path / "store", 10, key=b"")


def split_of(store: Store) -> Split:
    return make_split(SplitSettings(), store.images, store.patients)


NOTHING = Expected()


def broken(store: Store, expected: Expected = NOTHING) -> list[str]:
    return [each.rule for each in check_store(store, expected) if not each.holds]


def test_a_sound_store_breaks_no_rule(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_CHUNK_BYTES", 700)  # seven images at a time
    results = check_store(store, Expected(images=40, patients=10, split=split_of(store)))
    assert len(results) == 13  # all 14 but one: the files name no patients
    assert all(each.holds for each in results)
    require(results)
    assert table(results)[0] == {
        "rule": "40 images, quarantined ones included", "found": "39 and 1 quarantined", "result": "ok",
    }  # fmt: skip


def test_rules_without_anything_to_check_them_against_are_left_out(store: Store) -> None:
    assert len(check_store(store)) == 9  # all 14 but five


def changed_pixels(store: Store, row: int) -> Pixels:
    pixels = store.pixels[:].copy()
    pixels[row] = 7
    return Pixels([pixels], store.size)


CHANGES: dict[str, Callable[[Store], dict[str, Any]]] = {
    "every item is in the store or in quarantine": lambda s: {"quarantine": ()},
    "every quarantined item has a reason": lambda s: {"quarantine": (Quarantined("a", " "),)},
    "one row per image in pixels and table": lambda s: {"views": s.views[1:]},
    "no image twice": lambda s: {"images": np.where(np.arange(39) == 3, s.images[4], s.images)},
    "images of 12 x 12 pixels": lambda s: {"size": 12},
    "no constant image": lambda s: {"pixels": changed_pixels(s, 38)},
    "targets are present, absent or unknown": lambda s: {"targets": s.targets + np.int8(2)},
    "every label is known for some image": lambda s: {"targets": np.full_like(s.targets, -1)},
    "patients are opaque keys": lambda s: {"patients": np.where(np.arange(39) == 0, "Jane Doe", s.patients)},
    "no patient of the files is two patients in the table": lambda s: {
        "manifest": s.manifest | {"patients_in_files": {"images": 39, "joined": 2}}
    },
}


@pytest.mark.parametrize("rule", CHANGES)
def test_each_rule_is_broken_by_what_it_is_there_for(rule: str, store: Store) -> None:
    assert broken(replace(store, **CHANGES[rule](store))) == [rule]


@pytest.mark.parametrize(
    ("expected", "rule"),
    [
        (Expected(images=41), "41 images, quarantined ones included"),
        (Expected(images=38), "38 images, quarantined ones included"),
        (Expected(patients=11), "11 patients"),
    ],
)
def test_counts_that_are_known_must_be_met(expected: Expected, rule: str, store: Store) -> None:
    assert broken(store, expected) == [rule]


def test_a_split_that_tears_a_patient_or_forgets_an_image_is_noticed(store: Store) -> None:
    split = split_of(store)
    torn = replace(split, train=split.train[1:], test=np.sort(np.append(split.test, split.train[0])))
    assert broken(store, Expected(split=torn)) == ["no patient in two parts of the split"]
    short = replace(split, train=split.train[1:])
    assert broken(store, Expected(split=short)) == ["every image in one part of the split"]


def test_broken_rules_are_named_with_what_was_found(store: Store) -> None:
    with pytest.raises(DataError, match=r"breaks 1 of 10 rules: 11 patients \(10\)$"):
        require(check_store(store, Expected(patients=11)))
    assert table(check_store(store, Expected(patients=11)))[0]["result"] == "BROKEN"
