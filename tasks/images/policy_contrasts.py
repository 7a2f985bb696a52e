"""Contrasts between augmentation policies: at equal steps, at equal compute, and both under noise against clean.

The primary question of a study of policies is an interaction, a difference of differences: is the difference between a
policy and the baseline policy under label noise another than without it? A policy that selects among candidates costs
more than one that does not; at equal steps it has had more computing. Therefore it is also compared with a policy that
trains for as many more epochs (`models.augmentation.policies.ComputeMatchedPolicy`).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from models.augmentation.policies import ComposedPolicy, ComputeMatchedPolicy, PolicySettings, UncertaintyPolicy
from models.errors import unknown_name
from tasks.engine.plan import Contrast, Subtracted, against_baseline
from tasks.records.comparisons import EQUAL_COMPUTE


def baseline_policy(policies: Sequence[PolicySettings], named: str | None = None) -> str:
    """Return the name of the policy that the others are compared with.

    Args:
        policies: of the study.
        named: by the user; None: `none` if it is among the policies, otherwise `composed`, otherwise the first.

    Raises:
        SettingError: the study has no policy of this name.
    """
    names = [policy.name for policy in policies]
    if named is None:
        return next((name for name in ("none", "composed") if name in names), names[0])
    if named not in names:
        raise unknown_name("baseline_policy", named, names)
    return named


def policy_contrasts(arms: Sequence[Any], baseline: str, population_size: int | None = None) -> tuple[Contrast, ...]:
    """Contrast policies at equal steps, at equal compute, and these differences under noise with those without it.

    Args:
        arms: of the study, without its noise floor; each has a `policy`.
        baseline: name of the baseline policy.
        population_size: number of conditions from which the study's were drawn; see `against_baseline`.

    Returns:
        The policies against the baseline policy, then against the compute-matched one, then the interactions.
    """
    policies = {arm.policy.name: arm.policy for arm in arms}
    by_cost = _at_equal_compute(list(policies.values()), baseline)
    elsewhere = {
        name for group in by_cost.values() for name in group if isinstance(policies[name], ComputeMatchedPolicy)
    }
    same_steps = [arm for arm in arms if arm.policy.name not in elsewhere]
    how: dict[str, Any] = {"factor": "policy", "population_size": population_size}
    found = against_baseline(same_steps, baseline, family="policies", **how)
    for matched, group in by_cost.items():
        chosen = [arm for arm in arms if arm.policy.name in group]
        found += against_baseline(chosen, matched, family=EQUAL_COMPUTE, experiment=EQUAL_COMPUTE, **how)
    return found + interactions(found)


def _at_equal_compute(policies: Sequence[PolicySettings], baseline: str) -> dict[str, set[str]]:
    """Return compute-matched policies by name, each with the names of all policies with its C and S.

    A policy with a warm-up is among them, though it costs less.
    """
    groups: dict[tuple[int, int], list[PolicySettings]] = defaultdict(list)
    for policy in policies:
        if isinstance(policy, UncertaintyPolicy | ComputeMatchedPolicy):
            groups[policy.candidates, policy.selected].append(policy)
    found = {}
    for group in groups.values():
        matched = {policy.of.name: policy.name for policy in group if isinstance(policy, ComputeMatchedPolicy)}
        preferred = [of for of in (baseline, ComposedPolicy().name, *matched) if of in matched]
        if preferred and len(group) > 1:
            found[matched[preferred[0]]] = {policy.name for policy in group}
    return found


def interactions(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """Contrast the differences under each noisy condition with those without noise.

    Args:
        contrasts: one for each condition. Those over conditions that were drawn have no interaction: their labels
            differ.

    Returns:
        Interactions in the order of the contrasts, those of a family in a family of their own.
    """

    def levels(contrast: Contrast) -> tuple[Any, ...]:
        held = tuple(contrast.held.items())
        return contrast.method, contrast.baseline, contrast.factor, held, contrast.role, contrast.experiment

    given = [contrast for contrast in contrasts if contrast.population_size is None]
    clean = {levels(contrast): contrast for contrast in given if contrast.condition.kind == "none"}
    return tuple(
        contrast.model_copy(
            update={
                "role": "interaction",
                "family": f"{contrast.role} {contrast.family}".strip(),
                "minus": Subtracted(condition=without.condition, units=without.units),
            }
        )
        for contrast in given
        if contrast.condition.kind != "none" and (without := clean.get(levels(contrast)))
    )
