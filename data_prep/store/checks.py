"""What must hold of a store, as declared rules: one list that says it, one function that checks it, one table.

n images, s side of an image in pixels.

A store that opens is the store that was written (its hashes say so); these rules ask whether what was written can be
right. They read every pixel once, in pieces, at the speed of the disk.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.splits import PARTS, Split
from data_prep.labels.table import UNKNOWN
from data_prep.store.store import Store

_PIECE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Expected:
    """What is known of a store beforehand; None where nothing is.

    images, patients: counts. split: a split of its rows.
    """

    images: int | None = None
    patients: int | None = None
    split: Split | None = None


@dataclass(frozen=True)
class Checked:
    """A rule, what was found, and whether it holds."""

    rule: str
    found: str
    holds: bool


_Rule = Callable[[Store, Expected], Checked | None]  # None: nothing to check it against


def check_store(store: Store, expected: Expected = Expected()) -> tuple[Checked, ...]:
    """Check every rule that applies to `store`."""
    return tuple(checked for rule in _RULES if (checked := rule(store, expected)) is not None)


def table(results: Sequence[Checked]) -> list[dict[str, str]]:
    """Return one row for each rule, for a log, a report or an artifact."""
    return [{"rule": each.rule, "found": each.found, "result": "ok" if each.holds else "BROKEN"} for each in results]


def require(results: Sequence[Checked]) -> None:
    """Raise DataError naming the rules that are broken, if any is."""
    broken = [f"{each.rule} ({each.found})" for each in results if not each.holds]
    if broken:
        raise DataError(f"the store breaks {len(broken)} of {len(results)} rules: {'; '.join(broken)}")


def _images(store: Store, expected: Expected) -> Checked | None:
    if expected.images is None:
        return None
    # Both counts, so that an archive that lost images does not pass by quarantining as many strangers.
    found = f"{len(store.images):,} and {len(store.quarantine):,} quarantined"
    holds = len(store.images) <= expected.images <= len(store.images) + len(store.quarantine)
    return Checked(f"{expected.images:,} images, quarantined ones included", found, holds)


def _patients(store: Store, expected: Expected) -> Checked | None:
    if expected.patients is None:
        return None
    patients = len(np.unique(store.patients))
    return Checked(f"{expected.patients:,} patients", f"{patients:,}", patients == expected.patients)


def _accounted(store: Store, _: Expected) -> Checked:
    items, images = store.manifest["items"], len(store.images)
    both = set(store.images.tolist()) & {entry.image for entry in store.quarantine}
    found = f"{images:,} of {items:,} in the store, {len(store.quarantine):,} quarantined"
    holds = 0 <= items - images <= len(store.quarantine) and not both
    return Checked("every item is in the store or in quarantine", found, holds)


def _reasons(store: Store, _: Expected) -> Checked:
    silent = sum(not entry.reason.strip() for entry in store.quarantine)
    return Checked("every quarantined item has a reason", f"{silent:,} without", silent == 0)


def _one_row_each(store: Store, _: Expected) -> Checked:
    columns = (store.pixels, store.images, store.patients, store.targets, store.views)
    lengths = {len(column) for column in columns}
    return Checked("one row per image in pixels and table", ", ".join(map(str, sorted(lengths))), len(lengths) == 1)


def _names(store: Store, _: Expected) -> Checked:
    twice = len(store.images) - len(np.unique(store.images))
    return Checked("no image twice", f"{twice:,} repeated", twice == 0 and len(store.images) > 0)


def _size(store: Store, _: Expected) -> Checked:
    shape = store.pixels.shape[1:]
    return Checked(
        f"images of {store.size} x {store.size} pixels", "{} x {}".format(*shape), shape == (store.size,) * 2
    )


def _not_constant(store: Store, _: Expected) -> Checked:
    constant = sum(int((piece.min(axis=(1, 2)) == piece.max(axis=(1, 2))).sum()) for piece in _pieces(store))
    return Checked("no constant image", f"{constant:,}", constant == 0)


def _pieces(store: Store) -> Iterator[np.ndarray]:
    """Yield all images, (·, s, s) uint8, some at a time."""
    rows = max(1, _PIECE_BYTES // store.size**2)
    for start in range(0, len(store.pixels), rows):
        yield store.pixels[start : start + rows]


def _targets(store: Store, _: Expected) -> Checked:
    strange = int((~np.isin(store.targets, (1, 0, UNKNOWN))).sum())
    return Checked("targets are present, absent or unknown", f"{strange:,} others", strange == 0)


def _labels(store: Store, _: Expected) -> Checked:
    silent = [
        label for label, known in zip(store.labels, (store.targets != UNKNOWN).any(axis=0), strict=True) if not known
    ]
    return Checked("every label is known of some image", ", ".join(silent) or "all", not silent)


def _keys(store: Store, _: Expected) -> Checked:
    """A key of another form would be an identifier that nobody hashed."""
    plain = sum(len(key) != 32 or not set(key) <= set("0123456789abcdef") for key in set(store.patients.tolist()))
    return Checked("patients are opaque keys", f"{plain:,} are not", plain == 0)


def _same_patients(store: Store, _: Expected) -> Checked | None:
    files = store.manifest["patients_in_files"]
    if not files["images"]:
        return None
    found = f"{files['joined']:,} of the table's patients share a person in {files['images']:,} files"
    return Checked("the files know no person under two of the table's patients", found, files["joined"] == 0)


def _split_by_patient(store: Store, expected: Expected) -> Checked | None:
    if expected.split is None:
        return None
    parts = {name: set(store.patients[getattr(expected.split, name)].tolist()) for name in PARTS}
    shared = sum(len(parts[a] & parts[b]) for a, b in combinations(PARTS, 2))
    return Checked("no patient in two parts of the split", f"{shared:,}", shared == 0)


def _split_covers(store: Store, expected: Expected) -> Checked | None:
    if expected.split is None:
        return None
    times = Counter(np.concatenate([getattr(expected.split, name) for name in PARTS]).tolist())
    once = sum(times[row] == 1 for row in range(len(store.images)))
    holds = once == len(store.images) == len(times)
    return Checked("every image in one part of the split", f"{once:,} of {len(store.images):,}", holds)


_RULES: tuple[_Rule, ...] = (
    _images, _patients, _accounted, _reasons, _one_row_each, _names, _size, _not_constant, _targets, _labels, _keys,
    _same_patients, _split_by_patient, _split_covers,
)  # fmt: skip
