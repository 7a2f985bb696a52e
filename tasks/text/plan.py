"""Plan of a study on texts: which arms are trained, and which arms are compared with which baseline.

* ``singles``: a single-task network for each task.
* ``pairs``: each pair of tasks in one network, with and without alignment, against single-task networks; with `control`
  also against a capacity control: a single task with its own alignment matrix. The matrix can speed up learning there,
  but there is no other task to align with.
* ``together``: the same comparisons for one network with all tasks.
* ``transfer``: a network trained on the source task and fine-tuned on each other task, with and without alignment.
* ``capacity``: one network for all tasks against single-task networks, at several widths of the encoder.

Every arm is planned under each augmentation policy. Method by method, the policies are compared with the baseline
policy under each condition, and over all of them. The noise floor (A/A) is the baseline policy under other seeds.

No arm is trained twice: an arm can take part in several comparisons. Both sides of a comparison are trained on the same
data. Where tasks share sentences (`data_prep.text.overlap`), the training data of a task depends on the other tasks of
its overlap group, so a task can have several single-task arms.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import TextPolicySettings
from models.networks.alignment import AlignmentKind
from models.networks.text import EncoderSettings, TextNetworkSettings
from models.networks.word_encoders import WordEncoderSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import Source, floor_level
from tasks.arms.runner import Device
from tasks.data.pretrained import EncoderRef, VectorsRef
from tasks.data.texts import GlueData, SentimentData, display_name, read_texts
from tasks.engine.plan import Contrast, Plan, against_baseline
from tasks.records.arms import Condition
from tasks.records.summary_text import join_names
from tasks.runtime.progress import LOGGER
from tasks.text.spec import TextArm

SINGLE, JOINT, ALIGNED = "single", "joint", "aligned"
SINGLE_MATRIX = "single, own matrix"
"""The capacity control: a single task with its own alignment matrix."""
SOURCE, TRANSFER, TRANSFER_ALIGNED = "source", "transfer", "transfer aligned"
LEAKY = "joint, shared sentences left in"

Experiment = Literal["singles", "pairs", "together", "transfer", "capacity"]


class TextPlanSettings(BaseModel):
    """Settings from which the arms of a study are planned.

    Attributes:
        encoder: settings of the encoder.
        align: kind of the alignment matrices, for methods with alignment.
        training: settings of the training.
        max_length: maximum number of words (or subwords) of a text that are read.
        fine_tuning_epochs: epochs on the target task, for transfer.
        pretrained: pretrained encoder, if any.
        vectors: pretrained word vectors, if any.
        source: source task of transfer.
        widths: widths of the encoder, for capacity.
        leave_overlap: also train pairs with their shared sentences left in the training parts.
        control: also train the capacity control.
        policies: the augmentation policies; every arm is trained under each.
        floor: also train the arms of the baseline policy with as many other seeds (A/A).
    """

    model_config = ConfigDict(frozen=True)

    encoder: EncoderSettings
    align: Literal["free", "rotation"]
    training: TextTrainingSettings
    max_length: int
    fine_tuning_epochs: int = 1
    pretrained: EncoderRef | None = None
    vectors: VectorsRef | None = None
    source: str = "sst"
    widths: tuple[int, ...] = ()
    leave_overlap: bool = False
    control: bool = False
    policies: tuple[TextPolicySettings, ...] = (NO_POLICY,)
    floor: bool = False

    @property
    def baseline_policy(self) -> TextPolicySettings:
        """The policy with which the others are compared: none, if it is among them, else the first."""
        return NO_POLICY if NO_POLICY in self.policies else self.policies[0]


def check_tasks(experiments: Sequence[Experiment], tasks: Sequence[str], source: str = "") -> None:
    """Check that there are enough tasks for the experiments, and the source task of transfer among them.

    Raises:
        DataError: there are not.
    """
    for experiment in experiments:
        if experiment != "singles" and len(tasks) < 2:
            raise DataError(f"{experiment} needs at least two tasks; got only {join_names(tasks)}: add one")
        if experiment == "transfer" and source not in tasks:
            raise DataError(f"transfer's source task, {source}, is not among the tasks {join_names(tasks)}: add it")


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_texts(
    data: SentimentData | GlueData,
    experiments: Sequence[Experiment],
    settings: TextPlanSettings,
    seeds: Sequence[int],
    device: Device,
    threads: int,
) -> Plan[TextArm]:
    """Plan the arms and the comparisons of the experiments.

    Args:
        data: the benchmark, with its folder.
        experiments: the experiments.
        settings: settings of the arms.
        seeds: training seeds; each arm is planned once per seed.
        device: device of the training.
        threads: CPU threads of an arm.

    Raises:
        DataError: a file cannot be read, or an experiment needs other tasks.
    """
    check_tasks(experiments, data.tasks, settings.source)
    planner = _Planner(data, settings, tuple(seeds), device, threads)
    for policy in settings.policies:
        planner.plan_experiments(experiments, policy)
    if settings.floor:
        planner.plan_experiments(experiments, settings.baseline_policy, floor=True)
    plan = Plan[TextArm](arms=tuple(planner.arms.values()), contrasts=planner.contrasts())
    LOGGER.info("%d arms, %d comparisons", len(plan.arms), len(plan.contrasts))
    return plan


Sides = dict[str, dict[int, list[TextArm]]]
"""Method -> seed -> arms, which cover the same tasks for every method."""


@dataclass
class _Planner:
    """Collects arms by hash, and comparisons by family and condition; has a method for each value of `Experiment`."""

    data: SentimentData | GlueData
    settings: TextPlanSettings
    seeds: tuple[int, ...]
    device: Device
    threads: int
    policy: TextPolicySettings = NO_POLICY
    floor: bool = False
    arms: dict[str, TextArm] = field(default_factory=dict)
    families: dict[str, dict[str, Contrast]] = field(default_factory=lambda: defaultdict(dict))

    # --- Experiments ---

    def plan_experiments(
        self, experiments: Sequence[Experiment], policy: TextPolicySettings, *, floor: bool = False
    ) -> None:
        """Plan the arms of the experiments under a policy; for the noise floor, with other seeds and not compared."""
        self.policy, self.floor = policy, floor
        for experiment in experiments:
            getattr(self, experiment)()

    def singles(self) -> None:
        """Plan a single-task network for each task."""
        for name in self.data.tasks:
            for seed in self.seeds:
                self._arm(SINGLE, (name,), (name,), seed)

    def pairs(self) -> None:
        """Plan the comparisons for each pair of tasks."""
        for pair in combinations(self.data.tasks, 2):
            self._compare_group("pairs", pair)
            if self.settings.leave_overlap and self._share_sentences(pair):
                self._compare_overlap(pair)

    def together(self) -> None:
        """Plan the comparisons for the group of all tasks."""
        self._compare_group("together", self.data.tasks)

    def transfer(self) -> None:
        """Plan the transfer from the source task to each other task."""
        source = self.settings.source
        for target in self.data.tasks:
            if target != source:
                self._compare_transfer(source, target)

    def capacity(self) -> None:
        """Plan one network for all tasks and single-task networks, at each width."""
        group = self.data.tasks
        for width in self.settings.widths:
            condition = f"width {width}"
            sides: Sides = {
                JOINT: {seed: [self._arm(JOINT, group, group, seed, condition, width=width)] for seed in self.seeds},
                SINGLE: {
                    seed: [
                        self._arm(SINGLE, (name,), group, seed, f"{display_name(name)}, {condition}", width=width)
                        for name in group
                    ]
                    for seed in self.seeds
                },
            }
            self._contrast("capacity", condition, sides, (JOINT, SINGLE))

    # --- Comparisons ---

    def _compare_group(self, experiment: str, group: tuple[str, ...]) -> None:
        """Compare one network for the group, with and without alignment, with single-task networks."""
        condition, control = _group_name(group), self.settings.control
        sides: Sides = {
            method: {seed: [self._arm(method, group, group, seed, condition)] for seed in self.seeds}
            for method in (JOINT, ALIGNED)
        }
        for method in (SINGLE, SINGLE_MATRIX) if control else (SINGLE,):
            sides[method] = {seed: [self._arm(method, (name,), group, seed) for name in group] for seed in self.seeds}
        pairs = [(JOINT, SINGLE), (ALIGNED, SINGLE), (ALIGNED, JOINT)]
        pairs += [(SINGLE_MATRIX, SINGLE), (ALIGNED, SINGLE_MATRIX)] if control else []
        self._contrast(experiment, condition, sides, *pairs)

    def _compare_overlap(self, group: tuple[str, ...]) -> None:
        """Compare joint training that keeps the group's shared sentences with two baselines.

        The baselines are joint training without these sentences, and single-task networks that keep them.
        """
        condition = _group_name(group)
        sides: Sides = defaultdict(dict)
        for seed in self.seeds:
            sides[LEAKY][seed] = [self._arm(LEAKY, group, group, seed, condition, keep_overlap=True)]
            sides[JOINT][seed] = [self._arm(JOINT, group, group, seed, condition)]
            sides[SINGLE][seed] = [self._arm(SINGLE, (name,), group, seed, keep_overlap=True) for name in group]
        self._contrast("overlap", condition, sides, (LEAKY, JOINT), (LEAKY, SINGLE))

    def _compare_transfer(self, source: str, target: str) -> None:
        """Compare fine-tuning from the source, with and without alignment, with a single-task network."""
        group, condition = (source, target), f"{display_name(source)} to {display_name(target)}"
        sides: Sides = defaultdict(dict)
        for seed in self.seeds:
            source_condition = f"{display_name(source)}, for {display_name(target)}"
            source_arm = self._arm(SOURCE, (source,), group, seed, source_condition)
            for method in (TRANSFER, TRANSFER_ALIGNED):
                sides[method][seed] = [self._arm(method, (target,), group, seed, condition, source=source_arm)]
        sides[SINGLE] = {seed: [self._arm(SINGLE, (target,), group, seed)] for seed in self.seeds}
        pairs = (TRANSFER, SINGLE), (TRANSFER_ALIGNED, SINGLE), (TRANSFER_ALIGNED, TRANSFER)
        self._contrast("transfer", condition, sides, *pairs)

    def _contrast(self, experiment: str, condition: str, sides: Sides, *pairs: tuple[str, str]) -> None:
        """Add a comparison for each pair of a method and its baseline; none in the noise floor."""
        if self.floor:
            return
        held = {"policy": self.policy.name} if len(self.settings.policies) > 1 else {}
        hashes = {
            method: {seed: tuple(arm.hash for arm in arms) for seed, arms in by_seed.items()}
            for method, by_seed in sides.items()
        }
        for method, baseline in pairs:
            family = f"{experiment}: {method} against {baseline}{self._under(held)}"
            self.families[family][condition] = Contrast(
                method=method,
                baseline=baseline,
                held=held,
                condition=Condition(name=condition),
                units={condition: {seed: (hashes[method][seed], hashes[baseline][seed]) for seed in self.seeds}},
                family=family,
                experiment=experiment,
            )

    def contrasts(self) -> tuple[Contrast, ...]:
        """Return the comparisons over all conditions of a family, then those of one condition.

        First come those of methods, then those of policies, then those of the noise floor.
        """
        families = [list(family.values()) for family in self.families.values()]
        over_all = [
            _over_all(family, f"over all{self._under(family[0].held)}")
            for family in families
            if len(family) > 1 and family[0].experiment != "capacity"
        ]
        of_methods = (*over_all, *(contrast for family in families for contrast in family))
        return (*of_methods, *self._policy_contrasts(), *self._floor_contrasts())

    def _policy_contrasts(self) -> list[Contrast]:
        """Contrast the policies with the baseline policy, for each method but those that only others start from."""
        arms = [arm for arm in self.arms.values() if arm.floor_of is None and not arm.keep_network]
        baseline = self.settings.baseline_policy.name
        return _with_over_all(against_baseline(arms, baseline, factor="policy", family="policies"))

    def _floor_contrasts(self) -> list[Contrast]:
        """Contrast each method under other seeds with itself."""
        arms, found = [arm for arm in self.arms.values() if not arm.keep_network], []
        for method in dict.fromkeys(arm.method for arm in arms if self.settings.floor):
            pair = [arm for arm in arms if arm.levels["method"] in (method, floor_level(method))]
            found += _with_over_all(against_baseline(pair, method, role="floor"))
        return found

    @staticmethod
    def _under(held: Mapping[str, str]) -> str:
        return f", {held['policy']}" if held else ""

    # --- Arms ---

    def _arm(
        self,
        method: str,
        tasks: tuple[str, ...],
        overlap_group: tuple[str, ...],
        seed: int,
        condition: str | None = None,
        *,
        keep_overlap: bool = False,
        width: int | None = None,
        source: TextArm | None = None,
    ) -> TextArm:
        """Return the arm of these tasks of an overlap group; add it to the plan unless it is already there.

        Args:
            method: name of the method; it decides about alignment, and a source arm's network is kept.
            tasks: the tasks to train on.
            overlap_group: the tasks that are read as one group, see `TextArm`.
            seed: training seed; in the noise floor, of the arm that the new one is compared with.
            condition: name of the condition; None for a single task: its name.
            keep_overlap: keep shared sentences in the training parts.
            width: width of the encoder; None: that of the settings.
            source: source arm of a transfer.
        """
        is_aligned = method in (ALIGNED, TRANSFER_ALIGNED, SINGLE_MATRIX)
        is_source = method == SOURCE
        # source and target share a table of embeddings, so they need one vocabulary
        vocabulary_tasks = self._fingerprints(self.data.tasks, seed, keep_overlap) if is_source or source else {}
        arm = TextArm(
            method=method,
            condition=condition or self._single_condition(tasks, overlap_group, seed, keep_overlap),
            data=self.data,
            overlap_group=overlap_group,
            tasks={name: self._fingerprints(overlap_group, seed, keep_overlap)[name] for name in tasks},
            vocabulary_tasks=vocabulary_tasks,
            keep_overlap=keep_overlap,
            network=self._network(self.settings.align if is_aligned else "none", width),
            training=self._training(is_aligned, fine_tuning=source is not None),
            policy=self.policy,
            max_length=self.settings.max_length,
            encoder=self.settings.pretrained,
            vectors=self.settings.vectors,
            source=source and Source(hash=source.hash),
            keep_network=is_source,
            seed=seed + len(self.seeds) if self.floor else seed,
            floor_of=seed if self.floor else None,
            device=self.device,
            threads=self.threads,
        )
        return self.arms.setdefault(arm.hash, arm)

    def _network(self, alignment: AlignmentKind, width: int | None) -> TextNetworkSettings:
        encoder = self.settings.encoder
        if width is not None:
            if not isinstance(encoder, WordEncoderSettings):
                raise DataError("the capacity experiment needs an encoder over words: lstm, cnn or mlp")
            encoder = type(encoder).model_validate(encoder.model_dump() | {"width": width})
        return TextNetworkSettings(encoder=encoder, alignment=alignment)

    def _training(self, is_aligned: bool, fine_tuning: bool) -> TextTrainingSettings:
        """Return the training settings, with those that have no effect on the arm reset to their defaults.

        So an arm keeps its hash, and is reused, when only such settings change.
        """
        defaults = TextTrainingSettings()
        changes: dict[str, Any] = {"freeze_shared": self.settings.training.freeze_shared and fine_tuning}
        if fine_tuning:
            changes["epochs"] = self.settings.fine_tuning_epochs
        if not is_aligned:
            changes |= {"schedule": defaults.schedule, "alignment_share": defaults.alignment_share}
        training = self.settings.training.model_copy(update=changes)
        training.check()
        return training

    def _fingerprints(self, overlap_group: Iterable[str], seed: int, keep_overlap: bool) -> dict[str, str]:
        read = read_texts(self.data, tuple(overlap_group), seed, keep_overlap)
        return {name: each.fingerprint for name, each in read.items()}

    def _single_condition(
        self, tasks: tuple[str, ...], overlap_group: tuple[str, ...], seed: int, keep_overlap: bool
    ) -> str:
        """Return a single task's name, with the other tasks of the group if they change its data."""
        (name,) = tasks
        in_group, ungrouped = (self._fingerprints(names, seed, keep_overlap)[name] for names in (overlap_group, tasks))
        if in_group == ungrouped:
            return display_name(name)
        others = [other for other in overlap_group if other != name]
        return f"{display_name(name)}, kept apart from {_group_name(others)}"

    def _share_sentences(self, group: tuple[str, ...]) -> bool:
        return self._fingerprints(group, self.seeds[0], False) != self._fingerprints(group, self.seeds[0], True)


def _with_over_all(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Return contrasts of one condition, those of the same levels over all conditions before them."""
    groups: dict[tuple[Any, ...], list[Contrast]] = defaultdict(list)
    for contrast in contrasts:
        groups[contrast.method, contrast.baseline, *contrast.held.items()].append(contrast)
    several = [group for group in groups.values() if len(group) > 1]
    return [*(_over_all(group, f"{group[0].family} over all".strip()) for group in several), *contrasts]


def _over_all(contrasts: Sequence[Contrast], family: str) -> Contrast:
    """Return a contrast over the conditions of several, whose networks of a seed start from the same encoder."""
    merged = {
        "condition": Condition(name=f"all {len(contrasts)}"),
        "units": {name: pairs for contrast in contrasts for name, pairs in contrast.units.items()},
        "crossed": True,
        "family": family,
        "over_all": True,
    }
    return contrasts[0].model_copy(update=merged)


def _group_name(group: Sequence[str]) -> str:
    return join_names([display_name(name) for name in group])
