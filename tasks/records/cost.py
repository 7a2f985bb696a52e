"""What each method of a study cost: its time per step beside the baseline's, its work after epochs, its memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tasks.records.study import StudyResults


@dataclass(frozen=True)
class MethodCost:
    """Medians over a method's arms; null where nothing was measured."""

    method: str
    step_seconds: float
    of_baseline: float | None  # time per step: median ratio to the baseline's under the same condition and seed
    weighting_seconds: float | None  # after epochs, of a whole training
    peak_memory_mib: float | None


def method_costs(results: StudyResults) -> list[MethodCost]:
    """The methods whose steps were timed, in the study's order."""
    timed = [arm for arm in results.arms if arm.status == "finished" and arm.step_seconds]
    of_baseline = {(a.noise.name, a.seed): a.step_seconds for a in timed if a.method == results.baseline}
    found = []
    for method in dict.fromkeys(arm.method for arm in timed):
        arms = [arm for arm in timed if arm.method == method]
        steps = {(arm.noise.name, arm.seed): arm.step_seconds for arm in arms if arm.step_seconds}
        found.append(
            MethodCost(
                method,
                median(steps.values()),
                _median([taken / base for key, taken in steps.items() if (base := of_baseline.get(key))]),
                _median([arm.weighting_seconds for arm in arms]),
                _median([arm.peak_memory_mib for arm in arms]),
            )
        )
    return found


def _median(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return median(known) if known else None
