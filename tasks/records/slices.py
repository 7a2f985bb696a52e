"""Parts of a study's results in which one factor is compared, each as results by itself.

Figures, tables and sentences compare methods. In a study of several augmentation policies they do so under one policy,
or they compare the policies with one method: then each policy stands in the place of a method. What has no baseline,
such as the scores by label, is shown for each method with each policy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tasks.records.arms import ArmRecord
from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord
from tasks.records.study import StudyResults


class PolicyResults(StudyResults):
    """The results of one method, in which the policies stand in the place of the methods."""

    factor: ClassVar[str] = "policy"


class JointResults(StudyResults):
    """Results in which each method with each policy stands in the place of a method."""

    factor: ClassVar[str] = "method and policy"


def asked(results: StudyResults) -> tuple[StudyResults, ...]:
    """Return what a study asks about.

    That is the methods; the policies, if there are several and one method; and both where there are several of both:
    the methods under the baseline policy, then the policies with the baseline method.
    """
    if len(results.policies) < 2:
        return (results,)
    if len(results.methods) < 2:
        return (policies_with(results, results.methods[0]),)
    return methods_under(results, results.baseline_policy), policies_with(results, results.baseline)


def methods_under(results: StudyResults, policy: str) -> StudyResults:
    """Return the part of the results that was trained under a policy."""
    chosen = {
        name: tuple(
            c for c in getattr(results, name) if c.factor == "method" and c.held.get("policy", policy) == policy
        )
        for name in ("comparisons", "floor", "controls")
    }
    arms = tuple(arm for arm in results.arms if arm.policy == policy)
    return results.model_copy(update={**chosen, "arms": arms})


def policies_with(results: StudyResults, method: str) -> StudyResults:
    """Return the results of a method, its policies in the place of methods, compared at equal steps."""
    of_policies = (c for c in results.comparisons if c.factor == "policy" and c.experiment != EQUAL_COMPUTE)
    compared = [c for c in of_policies if c.held.get("method", method) == method]
    chosen = {"comparisons": compared, "floor": [c for c in results.floor if c.baseline == method], "controls": ()}
    held = {"method": method} if len(results.methods) > 1 else {}
    return _renamed(PolicyResults, results, lambda of, policy: policy if of == method else None, chosen, held)


def joint(results: StudyResults) -> StudyResults:
    """Return the results by method and policy; by one of them, if the study has one of the other.

    The comparisons are those with the baseline method under the baseline policy.
    """
    if len(results.policies) < 2 or len(results.methods) < 2:
        return asked(results)[0]
    baselines = {"method": results.baseline, "policy": results.baseline_policy}
    compared = [c for c in results.comparisons if c.experiment != EQUAL_COMPUTE and baselines.items() >= c.held.items()]
    chosen = {"comparisons": compared, "floor": results.floor, "controls": results.controls}
    return _renamed(JointResults, results, lambda method, policy: f"{method} · {policy}", chosen, {})


def _renamed(
    kind: type[StudyResults],
    results: StudyResults,
    name: Callable[[str, str], str | None],
    chosen: Mapping[str, Sequence[ComparisonRecord]],
    held: Mapping[str, str],
) -> StudyResults:
    """Return results whose methods have other names.

    Args:
        kind: of the results.
        results: of the study.
        name: method and policy -> the new name; None: the arm is left out.
        chosen: the comparisons to keep, by the field of the results.
        held: what they hold fixed besides what the new names say.
    """
    floor_of = {c.method: c.baseline for c in results.floor}

    def named(method: str, policy: str) -> str | None:
        of = floor_of.get(method, method)
        new = name(of, policy)
        return new and new + method.removeprefix(of)

    def renamed(c: ComparisonRecord) -> ComparisonRecord:
        levels = {"method": results.methods[0], "policy": results.baseline_policy} | c.held
        names = {side: named(**levels | {c.factor: getattr(c, side)}) for side in ("method", "baseline")}
        return c.model_copy(update={**names, "factor": kind.factor, "held": dict(held)})

    def arms() -> Iterator[ArmRecord]:
        for arm in results.arms:
            if new := named(arm.method, arm.policy):
                others = {factor: level for factor, level in arm.factors.items() if factor not in ("method", "policy")}
                yield arm.model_copy(update={"factors": {"method": new} | others})

    changed: dict[str, Any] = {field: tuple(map(renamed, kept)) for field, kept in chosen.items()}
    if adjudicated := results.adjudicated:
        rows = [(row, named(row.method, row.policy)) for row in adjudicated.scores]
        scores = tuple(row.model_copy(update={"method": new}) for row, new in rows if new)
        changed["adjudicated"] = adjudicated.model_copy(update={"scores": scores})
    return kind.model_construct(**dict(results) | changed | {"arms": tuple(arms())})
