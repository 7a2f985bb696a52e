"""Arms of a finished study on images of several sources, scored within each source.

    python -m benchmarks.within_source RESULTS.json --source NAME=DIR --source NAME=DIR [--json FILE]
    python -m benchmarks.within_source RESULTS.json --noisy-labels [--json FILE]

Where a finding is frequent in one source and rare in another, a network that tells the sources apart ranks their
mixture well and knows nothing of the finding. Therefore the mean AUC over labels is computed within each source (over
the labels that can be scored there), and then averaged over the sources. The last column is the AUC on the mixture:
a warning, not a result.

The differences are those that the study compares: methods, augmentation policies at equal steps and at equal compute,
the noise floor, and how noise changes each of these for policies. A difference is the average over the sources, beside
that within each; its 95 % interval is over what `over` says. A patient may have images in several sources: the
influences on both scores are added before they are squared. p-values are not adjusted. The study is read from the
MLflow store and the MEDMTL_HOME in which it was run.

A test image belongs to the first source whose DIR (or a subfolder) has a file of its name; images of no source are
counted and left out. To study two sources together, put links to their images into one folder with the label table;
a file that is in both is taken from the first (both paths absolute):

    mkdir both && cp -s A/*.png both && cp -sn B/*.png both && cp TABLE.csv both && medmtl study --data both

With --noisy-labels, the parts are not sources: they are the labels that the study made noisy, and the others.

Shapes: n test images, k labels of an arm.
"""
# ruff: noqa: E402

from tasks.runtime.env_defaults import set_env_defaults

set_env_defaults()  # before mlflow and prefect are imported

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import parser, print_table, publish
from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from data_prep.store.store import MANIFEST, Store
from models.evaluation.auc import mean_auc, scorable_labels
from models.evaluation.intervals import number_patients
from models.evaluation.paired import Comparison, Differences, Unit, auc_differences, compare_units, subtract
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, floor_level, read_arm
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.records.arms import ArmRecord, Condition
from tasks.records.comparisons import ComparisonRecord
from tasks.records.study import StudyResults, read_results
from tasks.runtime.home import home

UNKNOWN = -1


class Images(NamedTuple):
    """The test images of a study.

    Attributes:
        images: (n,) names.
        patients: (n,) keys.
        labels: of the columns of `targets`.
        targets: (n, labels) int8.
    """

    images: NDArray
    patients: NDArray
    labels: tuple[str, ...]
    targets: NDArray[np.int8]


class Arm(NamedTuple):
    """A finished arm, the seed with which it is compared, and its predictions (n, k) for the test images."""

    record: ArmRecord
    paired_seed: int
    scores: NDArray


Cell = tuple[str, str, str]
"""A method, an augmentation policy and a condition, by name."""


class Row(NamedTuple):
    """A method and policy under one condition; scores are means over its seeds.

    Attributes:
        within: source -> mean AUC.
        mixed: mean AUC of all sources together.
    """

    method: str
    policy: str
    condition: str
    seeds: int
    within: dict[str, float]
    mixed: float | None

    @property
    def average(self) -> float:
        """Mean over the sources."""
        return float(np.mean(list(self.within.values())))


class Difference(NamedTuple):
    """What a study compares, within the sources.

    Attributes:
        compared: the comparison on the mixture.
        average: over the sources.
        within: source -> the difference there.
    """

    compared: ComparisonRecord
    average: Comparison
    within: dict[str, Comparison]


# --- What the study left ---


def open_test_part(results: StudyResults) -> Images:
    """Open the test part of a study's store.

    Raises:
        DataError: the store is not below MEDMTL_HOME, or is split in another way today.
    """
    wanted = results.data.fingerprint
    for manifest in sorted(home().stores.glob(f"*/{MANIFEST}")):
        if json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"] == wanted:
            ref = StoreRef(name=results.data.name, path=manifest.parent, fingerprint=wanted, reused=True)
            store, split = open_split(ref, SplitSettings.model_validate(results.config["split"]))
            if split.fingerprint != results.data.split.fingerprint:
                raise DataError(f"{manifest.parent}: its split is not that of the study")
            return _rows(store, split.test)
    raise DataError(f"no store with fingerprint {wanted} below {home().stores}: set MEDMTL_HOME to that of the study")


def _rows(store: Store, rows: NDArray[np.int64]) -> Images:
    return Images(store.images[rows], store.patients[rows], store.labels, store.targets[rows])


def finished_arms(results: StudyResults) -> list[Arm]:
    """Read the predictions of all finished arms from MLflow."""
    mlflow_runs.connect()
    floor = floor_level(results.baseline)
    found = []
    for record in results.arms:
        if record.status == "finished" and record.mlflow_run_id:
            _, predictions = read_arm(ArmRef(run_id=record.mlflow_run_id, reused=True))
            # the noise floor has the seeds that follow those of the other arms
            seed = record.seed - results.config["seeds"] if record.method == floor else record.seed
            found.append(Arm(record, seed, predictions["test"]))
    return found


def sources_of(images: Sequence[str], folders: Mapping[str, Path]) -> NDArray[np.int64]:
    """Return the number (n,) of the first folder that has each image; -1 for images of none.

    Raises:
        DataError: a folder is not there, or has none of the images.
    """
    names = [Path(image).name for image in images]
    found = np.full(len(names), -1)
    for number, (source, folder) in enumerate(folders.items()):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        files = {file.name for file in folder.rglob("*")}
        here = np.array([name in files for name in names])
        if not here.any():
            raise DataError(f"source {source}: {folder} has none of the {len(names)} test images")
        found[here & (found < 0)] = number
    return found


# --- Scores ---


def within_sources(test: Images, sources: Mapping[str, NDArray[np.bool_]]) -> dict[str, Images]:
    """Return the test part of each source: all n images, with the targets of the others' images unknown.

    Every part has all images, so that each patient has the same number in all of them.
    """
    return {
        name: test._replace(targets=np.where(chosen[:, None], test.targets, UNKNOWN).astype(np.int8))
        for name, chosen in sources.items()
    }


def by_noise(test: Images, noisy: Sequence[str]) -> dict[str, Images]:
    """Return the test part with the noisy labels only, and that with the others only: the rest is unknown.

    Raises:
        DataError: no label is noisy, or all are.
    """
    chosen = np.isin(test.labels, noisy)
    if chosen.all() or not chosen.any():
        raise DataError(f"{chosen.sum()} of {len(chosen)} labels are noisy in this study: there are no two halves")
    return {
        name: test._replace(targets=np.where(columns, test.targets, UNKNOWN).astype(np.int8))
        for name, columns in (("noisy labels", chosen), ("other labels", ~chosen))
    }


def score(test: Images, arm: Arm) -> float:
    """Compute an arm's mean AUC over the labels that can be scored.

    Raises:
        DataError: no label can be scored.
    """
    targets = _targets(test, arm)
    columns, reasons = scorable_labels(targets, number_patients(test.patients))
    if not columns:
        raise DataError(f"no label can be scored within a source: {'; '.join(dict.fromkeys(reasons.values()))}")
    return mean_auc(targets[:, columns], arm.scores[:, columns])


def compare(
    parts: Mapping[str, Images], one: Sequence[Arm], other: Sequence[Arm], minus: Sequence[Sequence[Arm]] = ()
) -> tuple[Comparison, dict[str, Comparison]]:
    """Compare arms by the mean AUC within the sources.

    Args:
        parts: the test images of each source.
        one: the arms of a method or policy.
        other: those of the baseline.
        minus: in an interaction, the same two under the condition that is subtracted.

    Returns:
        The comparison of the average over the sources, and that within each source.
    """
    found = {}
    for name, part in parts.items():
        found[name] = _differences(part, one, other)
        if minus:
            found[name] = subtract(found[name], _differences(part, *minus))
    average = compare_units(found, crossed=True)  # the sources share the networks
    return average, {name: compare_units({name: of_source}) for name, of_source in found.items()}


def _differences(part: Images, one: Sequence[Arm], other: Sequence[Arm]) -> Differences | str:
    if not (one and other):
        return "no finished arm"
    sides = ({arm.paired_seed: arm.scores for arm in arms} for arms in (one, other))
    return auc_differences({"": Unit(_targets(part, other[0]), *sides)}, part.patients)[""]


def _targets(test: Images, arm: Arm) -> NDArray[np.int8]:
    return test.targets[:, [test.labels.index(label) for label in arm.record.labels]]


def cells(arms: Sequence[Arm]) -> dict[Cell, list[Arm]]:
    """Return the arms that differ in their seeds only, in the order of the arms."""
    found: dict[Cell, list[Arm]] = defaultdict(list)
    for arm in arms:
        found[arm.record.method, arm.record.policy, arm.record.condition.name].append(arm)
    return found


def rows(parts: Mapping[str, Images], by_cell: Mapping[Cell, Sequence[Arm]]) -> list[Row]:
    """Score every method and policy under every condition."""
    found = []
    for cell, arms in by_cell.items():
        within = {name: float(np.mean([score(part, arm) for arm in arms])) for name, part in parts.items()}
        mixed = [arm.record.mean.value for arm in arms if arm.record.mean.value is not None]
        found.append(Row(*cell, len(arms), within, float(np.mean(mixed)) if mixed else None))
    return found


def differences(
    parts: Mapping[str, Images], by_cell: Mapping[Cell, Sequence[Arm]], results: StudyResults
) -> list[Difference]:
    """Compare within the sources what the study compares, but for controls."""
    held = {"method": results.methods[0], "policy": results.baseline_policy}

    def arms(c: ComparisonRecord, level: str, condition: Condition) -> Sequence[Arm]:
        levels = held | c.held | {c.factor: level}
        return by_cell.get((levels["method"], levels["policy"], condition.name), ())

    def sides(c: ComparisonRecord, condition: Condition) -> tuple[Sequence[Arm], Sequence[Arm]]:
        return arms(c, c.method, condition), arms(c, c.baseline, condition)

    asked = (*results.comparisons, *results.floor, *results.interactions)
    return [
        Difference(c, *compare(parts, *sides(c, c.condition), minus=sides(c, c.minus) if c.minus else ()))
        for c in asked
    ]


# --- The command ---


def named_folder(text: str) -> tuple[str, Path]:
    """Read NAME=DIR."""
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name, Path(folder)


def print_rows(found: Sequence[Row], sources: Sequence[str]) -> None:
    """Print a table of the scores."""
    header = ("method", "policy", "condition", "seeds", *sources, "average", "(mixed)")
    print_table(
        header,
        [
            (
                *row[:3],
                str(row.seeds),
                *(f"{row.within[source]:.3f}" for source in sources),
                f"{row.average:.3f}",
                f"({row.mixed:.3f})" if row.mixed is not None else "",
            )
            for row in found
        ],
    )


def print_differences(found: Sequence[Difference], sources: Sequence[str]) -> None:
    """Print a table of the differences."""

    def text(compared: Comparison) -> str:
        if compared.delta is None or compared.lo is None or compared.hi is None:
            return f"none: {compared.reason}"
        return f"{compared.delta:+.3f} [{compared.lo:+.3f}, {compared.hi:+.3f}]"

    header = ("what", "minus", "held", "condition", *sources, "average", "over", "p")
    print_table(
        header,
        [
            (
                c.method,
                c.baseline + (f" at {c.experiment}" if c.experiment else ""),
                ", ".join(c.held.values()),
                c.condition.name + (f", minus {c.minus.name}" if c.minus else ""),
                *(text(within[source]) for source in sources),
                text(average),
                average.over,
                "" if average.p_value is None else f"{average.p_value:.2g}",
            )
            for c, average, within in found
        ],
    )


def split_sources(test: Images, folders: Mapping[str, Path]) -> tuple[dict[str, Images], dict[str, object]]:
    """Split the test part by source, print what is in each, and return the parts and their sizes."""
    belongs = sources_of(test.images.tolist(), folders)
    parts = within_sources(test, {name: belongs == number for number, name in enumerate(folders)})
    sizes = {}
    for number, name in enumerate(parts):
        here = belongs == number
        sizes[name] = {"images": int(here.sum()), "patients": len(np.unique(test.patients[here]))}
        print("{}: {images} test images of {patients} patients".format(name, **sizes[name]))
    left_out = int((belongs < 0).sum())
    if left_out:
        print(f"{left_out} test images are in none of the folders and were left out")
    return parts, {"sources": sizes, "left_out": left_out}


def main() -> None:
    """Print two tables, and JSON as the last line."""
    command = parser(__doc__)
    command.add_argument("results", type=Path)
    how = command.add_mutually_exclusive_group(required=True)
    how.add_argument("--source", type=named_folder, action="append", metavar="NAME=DIR")
    how.add_argument("--noisy-labels", action="store_true", help="instead of sources: the noisy labels, and the others")
    options = command.parse_args()
    results = read_results(options.results)
    test = open_test_part(results)
    sizes: dict[str, object] = {}
    if options.noisy_labels:
        parts = by_noise(test, [label for condition in results.conditions for label in condition.labels])
    else:
        parts, sizes = split_sources(test, dict(options.source))
    for name, part in parts.items():
        columns, _ = scorable_labels(part.targets, number_patients(part.patients))
        print(f"{name}: labels that can be scored: {', '.join(part.labels[j] for j in columns)}")
    by_cell = cells(finished_arms(results))
    found, compared = rows(parts, by_cell), differences(parts, by_cell, results)
    print_rows(found, list(parts))
    print_differences(compared, list(parts))
    record = {
        "study": {"data": results.data.fingerprint, "split": results.data.split.fingerprint, "git": results.git},
        **sizes,
        "rows": [row._asdict() | {"average": row.average} for row in found],
        "differences": [_record(difference) for difference in compared],
    }
    publish(record, options.json)


def _record(difference: Difference) -> dict[str, object]:
    def numbers(found: Comparison) -> dict[str, object]:
        fields = ("delta", "lo", "hi", "p_value", "over", "by_unit", "reason")
        return {name: getattr(found, name) for name in fields}

    c = difference.compared
    names: dict[str, object] = {
        name: getattr(c, name) for name in ("method", "baseline", "factor", "held", "experiment")
    }
    names |= {"condition": c.condition.name, "minus": c.minus and c.minus.name}
    within = {source: numbers(found) for source, found in difference.within.items()}
    return {**names, **numbers(difference.average), "within": within}


if __name__ == "__main__":
    main()
