"""The plan of a study: its arms, in which stages they train, and the contrasts between them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal

from pydantic import BaseModel, ConfigDict

from tasks.arms.base import ArmRef, ArmT, BaseArm, Source
from tasks.records.arms import Condition

Role = Literal["method", "floor", "control", "interaction"]

NetworkPairs = dict[int, tuple[tuple[str, ...], tuple[str, ...]]]
"""Seed -> the hashes of the method's arms and of the baseline's arms; mostly one arm on each side."""


class Subtracted(BaseModel):
    """The difference that an interaction subtracts: between the same two levels, under another condition.

    Attributes:
        condition: under which both were trained.
        units: in the order of the units that they are subtracted from.
    """

    model_config = ConfigDict(frozen=True)

    condition: Condition
    units: dict[str, NetworkPairs]


class Contrast(BaseModel):
    """A method, or a level of another factor, against a baseline, on the same test items.

    Attributes:
        method: name of the method or level.
        baseline: name of what it is compared with.
        factor: whose levels the two are.
        held: the levels that both have of the other factors of which the study has several; but for the condition.
        condition: under which both were trained; stands for all units if there are several.
        units: unit -> its pairs of networks; a unit is a condition, such as a group of labels or tasks.
        population_size: number of units from which the units were drawn at random; None if they were not drawn.
        crossed: whether units share networks, see `models.evaluation.paired.compare_units`.
        family: contrasts of one role and family are adjusted for multiple testing together.
        experiment: the part of the study that the contrast belongs to, if it has parts.
        over_all: whether it is over all conditions of its experiment.
        role: method, a method against the baseline; floor, the baseline under other seeds against the baseline (A/A),
            keyed by the baseline's seeds; control, a method against a control of it; interaction, a difference minus
            that under another condition.
        minus: what an interaction subtracts.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    baseline: str
    factor: str = "method"
    held: dict[str, str] = {}
    condition: Condition
    units: dict[str, NetworkPairs]
    population_size: int | None = None
    crossed: bool = False
    family: str = ""
    experiment: str | None = None
    over_all: bool = False
    role: Role = "method"
    minus: Subtracted | None = None


class Plan(BaseModel, Generic[ArmT]):
    """The arms and the contrasts of a study.

    Attributes:
        arms: in the order of the results.
        contrasts: in the order of the results.
    """

    model_config = ConfigDict(frozen=True)

    arms: tuple[ArmT, ...]
    contrasts: tuple[Contrast, ...] = ()

    @property
    def stages(self) -> tuple[tuple[ArmT, ...], ...]:
        """The arms in the order of training: first those without a source, then those that need the network of one."""
        stages = (tuple(arm for arm in self.arms if (arm.source is not None) is needy) for needy in (False, True))
        return tuple(stage for stage in stages if stage)


def resolve_sources(arms: Sequence[ArmT], finished: Mapping[str, ArmRef]) -> list[ArmT]:
    """Add the MLflow run of its source arm to each arm that has one; leave out arms whose source did not finish.

    Args:
        arms: of a stage.
        finished: arms of earlier stages, by hash.

    Returns:
        The arms that can be trained, with unchanged hashes.
    """

    def resolved(arm: ArmT, source: Source) -> ArmT:
        return arm.model_copy(update={"source": Source(hash=source.hash, run_id=finished[source.hash].run_id)})

    trainable = [arm for arm in arms if arm.source is None or arm.source.hash in finished]
    return [resolved(arm, arm.source) if arm.source else arm for arm in trainable]


def against_baseline(
    arms: Sequence[ArmT],
    baseline: str,
    *,
    factor: str = "method",
    population_size: int | None = None,
    role: Role = "method",
    family: str = "",
    experiment: str | None = None,
) -> tuple[Contrast, ...]:
    """Contrast each level of a factor with the baseline, among arms that agree in the seed and all other factors.

    Args:
        arms: of the study.
        baseline: level of the factor.
        factor: name of the factor.
        population_size: number of conditions from which the study's were drawn at random. Then there is one contrast
            per level of all factors, over all conditions. None: they were not drawn, and there is one per condition
            too.
        role: of the contrasts.
        family: of the contrasts.
        experiment: of the contrasts.

    Returns:
        The contrasts, condition by condition, in the order of the arms.
    """
    levels = varied_levels(arms)
    names = [name for name in (levels[0] if levels else ()) if name not in (factor, "condition")]
    several = {name for name in names if len({of_arm[name] for of_arm in levels}) > 1}
    units: dict[str, dict[str, dict[int, ArmT]]] = defaultdict(lambda: defaultdict(dict))
    held: dict[str, dict[str, str]] = {}
    for arm, of_arm in zip(arms, levels, strict=True):
        others = {name: level for name, level in of_arm.items() if name != factor}
        unit = ", ".join(others.values())
        units[unit][arm.levels[factor]][arm.paired_seed] = arm
        held[unit] = {name: level for name, level in others.items() if name in several}
    groups: dict[Any, list[str]] = defaultdict(list)
    for unit in (unit for unit, by_level in units.items() if baseline in by_level):
        groups[unit if population_size is None else tuple(held[unit].items())].append(unit)
    return tuple(
        Contrast(
            method=level,
            baseline=baseline,
            factor=factor,
            held=held[group[0]],
            condition=_shared_condition([next(iter(units[unit][baseline].values())) for unit in group]),
            units={unit: _pairs(units[unit][level], units[unit][baseline]) for unit in group},
            population_size=population_size,
            role=role,
            family=family,
            experiment=experiment,
        )
        for group in groups.values()
        for level in dict.fromkeys(arm.levels[factor] for arm in arms)
        if level != baseline and any(level in units[unit] for unit in group)
    )


def varied_levels(arms: Sequence[BaseArm]) -> list[dict[str, str]]:
    """Return the levels of each arm, of the factors that are not at their default in all arms."""
    varied = {name for arm in arms for name in arm.factors}
    return [{name: level for name, level in arm.levels.items() if name in varied} for arm in arms]


def _pairs(method: Mapping[int, ArmT], baseline: Mapping[int, ArmT]) -> NetworkPairs:
    return {seed: ((arm.hash,), (baseline[seed].hash,)) for seed, arm in method.items() if seed in baseline}


def _shared_condition(arms: Sequence[ArmT]) -> Condition:
    """Return the arms' condition, or one that stands for several which differ only in their labels."""
    condition = arms[0].condition_record().shared()
    if len(arms) == 1:
        return condition
    title = f"{condition.title}, over {len(arms)} groups of labels"
    return Condition(kind=condition.kind, rate=condition.rate, title=title, name=title)
