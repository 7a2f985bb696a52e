"""Plausibility checks of a store: a list of rules, a function that checks them, a table of the results.

n images, s side of an image in pixels.

The hashes of a store show that it is what was written; these rules check whether what was written is plausible. They
read every pixel once, in chunks, at the speed of the disk.
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

_CHUNK_BYTES = 64 * 2**20


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


_Rule = Callable[[Store, Expected], CheckResult | None]  # None: nothing is known to check it against


def check_store(store: Store, expected: Expected = Expected()) -> tuple[CheckResult, ...]:
    """Check every rule that applies to `store`."""
    return tuple(result for rule in _RULES if (result := rule(store, expected)) is not None)


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


def _images(store: Store, expected: Expected) -> CheckResult | None:
    if expected.images is None:
        return None
    # Quarantined members that are not images of the table must not make up for images that are missing.
    found = f"{len(store.images):,} and {len(store.quarantine):,} quarantined"
    holds = len(store.images) <= expected.images <= len(store.images) + len(store.quarantine)
    return CheckResult(f"{expected.images:,} images, quarantined ones included", found, holds)


def _patients(store: Store, expected: Expected) -> CheckResult | None:
    if expected.patients is None:
        return None
    patients = len(np.unique(store.patients))
    return CheckResult(f"{expected.patients:,} patients", f"{patients:,}", patients == expected.patients)


def _all_items(store: Store, _: Expected) -> CheckResult:
    items, images = store.manifest["items"], len(store.images)
    both = set(store.images.tolist()) & {entry.image for entry in store.quarantine}
    found = f"{images:,} of {items:,} in the store, {len(store.quarantine):,} quarantined"
    holds = 0 <= items - images <= len(store.quarantine) and not both
    return CheckResult("every item is in the store or in quarantine", found, holds)


def _reasons(store: Store, _: Expected) -> CheckResult:
    without = sum(not entry.reason.strip() for entry in store.quarantine)
    return CheckResult("every quarantined item has a reason", f"{without:,} without", without == 0)


def _one_row_each(store: Store, _: Expected) -> CheckResult:
    columns = (store.pixels, store.images, store.patients, store.targets, store.views)
    lengths = {len(column) for column in columns}
    return CheckResult("one row per image in pixels and table", ", ".join(map(str, sorted(lengths))), len(lengths) == 1)


def _names(store: Store, _: Expected) -> CheckResult:
    repeated = len(store.images) - len(np.unique(store.images))
    return CheckResult("no image twice", f"{repeated:,} repeated", repeated == 0 and len(store.images) > 0)


def _size(store: Store, _: Expected) -> CheckResult:
    shape = store.pixels.shape[1:]
    return CheckResult(
        f"images of {store.size} x {store.size} pixels", "{} x {}".format(*shape), shape == (store.size,) * 2
    )


def _not_constant(store: Store, _: Expected) -> CheckResult:
    constant = sum(int((chunk.min(axis=(1, 2)) == chunk.max(axis=(1, 2))).sum()) for chunk in _chunks(store))
    return CheckResult("no constant image", f"{constant:,}", constant == 0)


def _chunks(store: Store) -> Iterator[np.ndarray]:
    """Yield all images, (·, s, s) uint8, some at a time."""
    rows = max(1, _CHUNK_BYTES // store.size**2)
    for start in range(0, len(store.pixels), rows):
        yield store.pixels[start : start + rows]


def _targets(store: Store, _: Expected) -> CheckResult:
    others = int((~np.isin(store.targets, (1, 0, UNKNOWN))).sum())
    return CheckResult("targets are present, absent or unknown", f"{others:,} others", others == 0)


def _labels(store: Store, _: Expected) -> CheckResult:
    unknown = [
        label for label, known in zip(store.labels, (store.targets != UNKNOWN).any(axis=0), strict=True) if not known
    ]
    return CheckResult("every label is known for some image", ", ".join(unknown) or "all", not unknown)


def _keys(store: Store, _: Expected) -> CheckResult:
    """Check the form of the patients' keys: any other form may be an identifier that was not hashed."""
    plain = sum(len(key) != 32 or not set(key) <= set("0123456789abcdef") for key in set(store.patients.tolist()))
    return CheckResult("patients are opaque keys", f"{plain:,} are not", plain == 0)


def _same_patients(store: Store, _: Expected) -> CheckResult | None:
    files = store.manifest["patients_in_files"]
    if not files["images"]:
        return None
    found = f"{files['joined']:,} of the table's patients share a patient identifier in {files['images']:,} files"
    return CheckResult("no patient of the files is two patients in the table", found, files["joined"] == 0)


def _split_by_patient(store: Store, expected: Expected) -> CheckResult | None:
    if expected.split is None:
        return None
    parts = {name: set(store.patients[getattr(expected.split, name)].tolist()) for name in PARTS}
    shared = sum(len(parts[a] & parts[b]) for a, b in combinations(PARTS, 2))
    return CheckResult("no patient in two parts of the split", f"{shared:,}", shared == 0)


def _split_covers(store: Store, expected: Expected) -> CheckResult | None:
    if expected.split is None:
        return None
    times = Counter(np.concatenate([getattr(expected.split, name) for name in PARTS]).tolist())
    once = sum(times[row] == 1 for row in range(len(store.images)))
    holds = once == len(store.images) == len(times)
    return CheckResult("every image in one part of the split", f"{once:,} of {len(store.images):,}", holds)


_RULES: tuple[_Rule, ...] = (
    _images,
    _patients,
    _all_items,
    _reasons,
    _one_row_each,
    _names,
    _size,
    _not_constant,
    _targets,
    _labels,
    _keys,
    _same_patients,
    _split_by_patient,
    _split_covers,
)
