"""The cost of each method of a study, or of each policy: training time relative to the baseline's, memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tasks.records.arms import ArmRecord
from tasks.records.study import StudyResults


@dataclass(frozen=True)
class MethodCost:
    """Medians over a method's arms; None if nothing was measured."""

    method: str
    step_seconds: float
    # Median ratio to the baseline with the same condition and seed, of the steps of the whole training, with the
    # weighting's work. A method that needs another arm's network is charged for that training too: alone, it would cost
    # both. A policy may have more steps.
    relative_time: float | None
    weighting_seconds: float | None  # the weighting's work before training and after epochs, summed
    peak_memory_mib: float | None


def method_costs(results: StudyResults) -> list[MethodCost]:
    """Return the costs of the methods whose steps were timed, in the study's order."""
    timed = [arm for arm in results.arms if arm.status == "finished" and arm.step_seconds]
    of_baseline = {_pair(arm): _seconds(arm) for arm in timed if arm.method == results.baseline}
    of_hash = {arm.hash: _seconds(arm) for arm in timed}
    costs = []
    for method in dict.fromkeys(arm.method for arm in timed):
        arms = [arm for arm in timed if arm.method == method]
        of_arms = {_pair(arm): _seconds(arm) + of_hash.get(arm.source or "", 0.0) for arm in arms}
        costs.append(
            MethodCost(
                method,
                median(arm.step_seconds for arm in arms if arm.step_seconds),
                _median([seconds / base for key, seconds in of_arms.items() if (base := of_baseline.get(key))]),
                _median([arm.weighting_seconds for arm in arms]),
                _median([arm.peak_memory_mib for arm in arms]),
            )
        )
    return costs


def _seconds(arm: ArmRecord) -> float:
    """Return the seconds of a training's steps and weighting; those of one step if the number of steps is unknown."""
    step_seconds = arm.step_seconds or 0.0
    return arm.weights[-1].step * step_seconds + (arm.weighting_seconds or 0.0) if arm.weights else step_seconds


def _pair(arm: ArmRecord) -> tuple[str, ...]:
    """Return what an arm has in common with the arms of other methods that it is compared with."""
    return (*(level for factor, level in arm.factors.items() if factor != "method"), str(arm.seed))


def _median(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return median(known) if known else None
