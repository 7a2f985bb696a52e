"""Which operations the selection among candidates prefers, as a table."""

from collections import defaultdict
from statistics import fmean
from typing import Any

from tasks.records.study import StudyResults


def chosen_table(results: StudyResults) -> dict[str, Any]:
    """Return for each operation how much the selection prefers it, averaged over arms; the most, first.

    Args:
        results: in which each policy, or method and policy, stands in the place of a method (`tasks.records.slices`).

    Returns:
        `names` of what selects, and `rows` of an operation and a ratio (None: it was not drawn) for each name.
    """
    ratios: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for arm in results.arms:
        for operation, ratio in arm.chosen.items():
            ratios[operation][arm.method].append(ratio)
    names = [method for method in results.methods if any(method in of_operation for of_operation in ratios.values())]
    rows = [
        (operation, [fmean(of_operation[name]) if of_operation[name] else None for name in names])
        for operation, of_operation in ratios.items()
    ]
    return {"names": names, "rows": sorted(rows, key=lambda row: -max(ratio or 0.0 for ratio in row[1]))}
