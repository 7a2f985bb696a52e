"""Plausibility checks of a store: rules, a function that checks them, a table of the results.

n images, s side of an image in pixels.

The hashes of a store show that it is what was written; these rules check whether what was written is plausible. They
read every pixel once, in chunks, at the speed of the disk.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.splits import PARTS, Split
from data_prep.labels.table import UNKNOWN
from data_prep.store.store import HELD_BY_1, PATIENTS, Store, image_shape

_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Expected:
    """Known facts about a store, which it must agree with; None where nothing is known.

    Attributes:
        images: number of images, the quarantined ones included.
        patients: number of patients.
        split: a split of its rows.
    """

    images: int | None = None
    patients: int | None = None
    split: Split | None = None


@dataclass(frozen=True)
class CheckResult:
    """The result of one rule: its sentence, what was found, and whether it holds."""

    rule: str
    found: str
    holds: bool


def check_store(store: Store, expected: Expected = Expected()) -> tuple[CheckResult, ...]:
    """Check every rule that applies to `store`; one that nothing is known to check against is left out."""
    facts = (*_items(store, expected), *_rows(store), *_targets(store))
    return (*facts, *_patients(store), *_split(store, expected.split))


def table(results: Sequence[CheckResult]) -> list[dict[str, str]]:
    """Return one row for each rule, for a log, a report or an artifact."""
    return [{"rule": each.rule, "found": each.found, "result": "ok" if each.holds else "BROKEN"} for each in results]


def require(results: Sequence[CheckResult]) -> None:
    """Check that all rules hold.

    Raises:
        DataError: it names the rules that are broken, with what was found.
    """
    broken = [f"{each.rule} ({each.found})" for each in results if not each.holds]
    if broken:
        raise DataError(f"the store breaks {len(broken)} of {len(results)} rules: {'; '.join(broken)}")


def _items(store: Store, expected: Expected) -> Iterator[CheckResult]:
    images, quarantined = len(store.images), len(store.quarantine)
    if expected.images is not None:
        # Quarantined members that are not images of the table must not make up for images that are missing.
        found = f"{images:,} and {quarantined:,} quarantined"
        holds = images <= expected.images <= images + quarantined
        yield CheckResult(f"{expected.images:,} images, quarantined ones included", found, holds)
    if expected.patients is not None:
        patients = len(np.unique(store.patients))
        yield CheckResult(f"{expected.patients:,} patients", f"{patients:,}", patients == expected.patients)
    items = store.manifest["items"]
    in_one = {entry.image for entry in store.quarantine}.isdisjoint(store.images.tolist())
    found = f"{images:,} of {items:,} in the store, {quarantined:,} quarantined"
    holds = 0 <= items - images <= quarantined and in_one
    yield CheckResult("every item is in the store or in quarantine", found, holds)
    without = sum(not entry.reason.strip() for entry in store.quarantine)
    yield CheckResult("every quarantined item has a reason", f"{without:,} without", without == 0)


def _rows(store: Store) -> Iterator[CheckResult]:
    columns = (store.pixels, store.images, store.patients, store.targets, store.views, store.parts)
    lengths = {len(column) for column in columns if column is not None}
    found = ", ".join(map(str, sorted(lengths)))
    yield CheckResult("one row per image in pixels and table", found, len(lengths) == 1)
    names = np.sort(store.images)  # np.unique takes sixteen times as long, and grows faster than the rows
    repeated = int((names[1:] == names[:-1]).sum())
    yield CheckResult("no image twice", f"{repeated:,} repeated", repeated == 0 and len(store.images) > 0)
    shape, wanted = store.pixels.shape[1:], image_shape(store.size, store.channels)
    rule = f"images of {' x '.join(map(str, wanted))} pixels"
    yield CheckResult(rule, " x ".join(map(str, shape)), shape == wanted)
    images = (chunk.reshape(len(chunk), -1) for chunk in _chunks(store))
    constant = sum(int((each.min(axis=1) == each.max(axis=1)).sum()) for each in images)
    yield CheckResult("no constant image", f"{constant:,}", constant == 0)


def _chunks(store: Store) -> Iterator[np.ndarray]:
    """Yield all images, uint8, some at a time."""
    rows = max(1, _CHUNK_BYTES // (store.channels * store.size**2))
    for start in range(0, len(store.pixels), rows):
        yield store.pixels[start : start + rows]


def _targets(store: Store) -> Iterator[CheckResult]:
    if store.classes:
        others = int(((store.targets < 0) | (store.targets >= len(store.classes))).sum())
        yield CheckResult(
            f"every image is of one of {len(store.classes):,} classes", f"{others:,} are not", others == 0
        )
        empty = [name for index, name in enumerate(store.classes) if not (store.targets == index).any()]
        yield CheckResult("every class has an image", f"{', '.join(empty) or 'none'} without", not empty)
        return
    others = int((~np.isin(store.targets, (1, 0, UNKNOWN))).sum())
    yield CheckResult("targets are present, absent or unknown", f"{others:,} others", others == 0)
    known = (store.targets != UNKNOWN).any(axis=0)
    unknown = [label for label, is_known in zip(store.labels, known, strict=True) if not is_known]
    yield CheckResult("every label is known for some image", ", ".join(unknown) or "all", not unknown)


def _patients(store: Store) -> Iterator[CheckResult]:
    if PATIENTS not in store.manifest.get("holds", HELD_BY_1):
        return
    # any other form of a key may be an identifier that was not hashed
    plain = sum(len(key) != 32 or not set(key) <= set("0123456789abcdef") for key in set(store.patients.tolist()))
    yield CheckResult("patients are opaque keys", f"{plain:,} are not", plain == 0)
    files = store.manifest["patients_in_files"]
    if files["images"]:
        found = f"{files['joined']:,} of the table's patients share a patient identifier in {files['images']:,} files"
        yield CheckResult("no patient of the files is two patients in the table", found, files["joined"] == 0)


def _split(store: Store, split: Split | None) -> Iterator[CheckResult]:
    if split is None:
        return
    rows = [getattr(split, name) for name in PARTS]
    shared = sum(len(a & b) for a, b in combinations([set(store.patients[part].tolist()) for part in rows], 2))
    yield CheckResult("no patient in two parts of the split", f"{shared:,}", shared == 0)
    times = Counter(np.concatenate(rows).tolist())
    once = sum(times[row] == 1 for row in range(len(store.images)))
    holds = once == len(times) and (once == len(store.images) or bool(store.classes))
    rule = "no image in two parts of the split" if store.classes else "every image in one part of the split"
    yield CheckResult(rule, f"{once:,} of {len(store.images):,}", holds)
