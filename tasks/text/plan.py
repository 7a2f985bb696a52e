"""Which arms a study on texts has, and which of them are held against which.

* ``singles``: every task alone.
* ``pairs``: every two tasks in one network, with alignment and without, against the two alone; with `control` also
  against each alone behind a matrix of its own, which can speed learning but has no other task to align with.
* ``together``: all tasks in one network, likewise.
* ``transfer``: a network trained on one task, fine-tuned on each other, with alignment and without.
* ``capacity``: all tasks in one network and each alone, at several widths of the shared module.

No arm is trained twice: those that compare with several others stand in each of their comparisons. A network alone
sees the data that the one it is held against sees, so where tasks share sentences (`data_prep.text.overlap`) a task has
an arm for each of its data.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from models.networks.alignment import AlignmentKind
from models.networks.text import EncoderSettings, TextNetworkSettings
from models.networks.word_encoders import WordEncoderSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import ArmRef
from tasks.arms.runner import Device
from tasks.data.pretrained import EncoderRef, VectorsRef
from tasks.data.texts import GlueData, SentimentData, display_name, read_texts
from tasks.records.summary_text import listed
from tasks.runtime.progress import LOGGER
from tasks.text.spec import Source, TextArm

SINGLE, JOINT, ALIGNED = "single", "joint", "aligned"
SINGLE_MATRIX = "single, own matrix"
SOURCE, TRANSFER, TRANSFER_ALIGNED = "source", "transfer", "transfer aligned"
LEAKY = "joint, shared sentences left in"

Experiment = Literal["singles", "pairs", "together", "transfer", "capacity"]


class Contrast(BaseModel):
    """A method against a baseline on the tests of some tasks.

    arms: seed -> the hashes of the method's arms and of the baseline's, which know the tasks between them.
    kind: contrasts of a kind are also taken together; 'overlap' stands for those with shared sentences left in.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    condition: str
    method: str
    baseline: str
    tasks: tuple[str, ...]
    arms: dict[int, tuple[tuple[str, ...], tuple[str, ...]]]


class TextPlan(BaseModel):
    """The arms in stages, of which a later one may begin with networks of an earlier one; and what is compared."""

    model_config = ConfigDict(frozen=True)

    stages: tuple[tuple[TextArm, ...], ...]
    contrasts: tuple[Contrast, ...]

    @property
    def arms(self) -> list[TextArm]:
        """Of all stages."""
        return [arm for stage in self.stages for arm in stage]


class TextMethod(BaseModel):
    """How every arm of a study is trained. widths: of the shared module, for the capacity curve."""

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


def with_sources(arms: Sequence[TextArm], done: Mapping[str, ArmRef]) -> list[TextArm]:
    """The arms, told the runs of those that they begin with; without those whose source did not finish."""
    known = [arm for arm in arms if arm.source is None or arm.source.hash in done]
    return [
        arm.model_copy(update={"source": Source(hash=arm.source.hash, run_id=done[arm.source.hash].run_id)})
        if arm.source
        else arm
        for arm in known
    ]


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_texts(
    data: SentimentData | GlueData,
    experiments: Sequence[Experiment],
    how: TextMethod,
    seeds: Sequence[int],
    device: Device,
    threads: int,
) -> TextPlan:
    """List the arms of the experiments. data: with their folder.

    Raises:
        DataError: a file cannot be read, or the tasks do not suffice for an experiment.
    """
    planner = _Planner(data, how, tuple(seeds), device, threads)
    for experiment in experiments:
        getattr(planner, experiment)()
    sources = {hash: arm for hash, arm in planner.arms.items() if arm.keep_network}
    others = {hash: arm for hash, arm in planner.arms.items() if not arm.keep_network}
    stages = tuple(tuple(stage.values()) for stage in (sources, others) if stage)
    LOGGER.info("%d arms, %d comparisons", len(planner.arms), len(planner.contrasts))
    return TextPlan(stages=stages, contrasts=tuple(planner.contrasts))


@dataclass
class _Planner:
    data: SentimentData | GlueData
    how: TextMethod
    seeds: tuple[int, ...]
    device: Device
    threads: int
    arms: dict[str, TextArm] = field(default_factory=dict)
    contrasts: list[Contrast] = field(default_factory=list)

    # --- Experiments ---

    def singles(self) -> None:
        """Every task alone."""
        for name in self.data.tasks:
            for seed in self.seeds:
                self._arm(SINGLE, (name,), (name,), seed)

    def pairs(self) -> None:
        """Every two tasks."""
        for pair in combinations(self._at_least_two("pairs"), 2):
            self._compare_group("pairs", pair)
            if self.how.leave_overlap and self._share_sentences(pair):
                self._compare_leak(pair)

    def together(self) -> None:
        """All tasks."""
        self._compare_group("together", self._at_least_two("together"))

    def transfer(self) -> None:
        """From one task to each other."""
        source = self.how.source
        if source not in self.data.tasks:
            raise DataError(f"transfer begins with {source}, which is not among {listed(self.data.tasks)}: add it")
        for target in self._at_least_two("transfer"):
            if target != source:
                self._compare_transfer(source, target)

    def capacity(self) -> None:
        """All tasks together and each alone, at every width."""
        group = self._at_least_two("capacity")
        for width in self.how.widths:
            condition = f"width {width}"
            joint = {seed: [self._arm(JOINT, group, group, seed, condition, width=width)] for seed in self.seeds}
            alone = {
                seed: [
                    self._arm(SINGLE, (n,), group, seed, f"{display_name(n)}, {condition}", width=width) for n in group
                ]
                for seed in self.seeds
            }
            self._contrast("capacity", condition, JOINT, SINGLE, group, joint, alone)

    # --- Comparisons ---

    def _compare_group(self, kind: str, group: tuple[str, ...]) -> None:
        """The group's network, with alignment and without, against each of its tasks alone."""
        condition = _named(group)
        found = {
            method: {seed: [self._arm(method, group, group, seed, condition)] for seed in self.seeds}
            for method in (JOINT, ALIGNED)
        }
        alone = {seed: [self._arm(SINGLE, (name,), group, seed) for name in group] for seed in self.seeds}
        for method in (JOINT, ALIGNED):
            self._contrast(kind, condition, method, SINGLE, group, found[method], alone)
        self._contrast(kind, condition, ALIGNED, JOINT, group, found[ALIGNED], found[JOINT])
        if self.how.control:
            own = {seed: [self._arm(SINGLE_MATRIX, (name,), group, seed) for name in group] for seed in self.seeds}
            self._contrast(kind, condition, SINGLE_MATRIX, SINGLE, group, own, alone)
            self._contrast(kind, condition, ALIGNED, SINGLE_MATRIX, group, found[ALIGNED], own)

    def _compare_leak(self, group: tuple[str, ...]) -> None:
        """The group's network without alignment, with the sentences left in that its tasks share, against the same
        without them, and against each task alone, which then loses none.
        """
        condition = _named(group)
        leaky, clean, alone = {}, {}, {}
        for seed in self.seeds:
            leaky[seed] = [self._arm(LEAKY, group, group, seed, condition, keep_overlap=True)]
            clean[seed] = [self._arm(JOINT, group, group, seed, condition)]
            alone[seed] = [self._arm(SINGLE, (name,), group, seed, keep_overlap=True) for name in group]
        self._contrast("overlap", condition, LEAKY, JOINT, group, leaky, clean)
        self._contrast("overlap", condition, LEAKY, SINGLE, group, leaky, alone)

    def _compare_transfer(self, source: str, target: str) -> None:
        group, condition = (source, target), f"{display_name(source)} to {display_name(target)}"
        tuned: dict[str, dict[int, list[TextArm]]] = {TRANSFER: {}, TRANSFER_ALIGNED: {}}
        for seed in self.seeds:
            begin = self._arm(
                SOURCE, (source,), group, seed, f"{display_name(source)}, for {display_name(target)}", keep=True
            )
            for method in tuned:
                tuned[method][seed] = [self._arm(method, (target,), group, seed, condition, source=begin)]
        alone = {seed: [self._arm(SINGLE, (target,), group, seed)] for seed in self.seeds}
        for method, arms in tuned.items():
            self._contrast("transfer", condition, method, SINGLE, (target,), arms, alone)
        self._contrast(
            "transfer", condition, TRANSFER_ALIGNED, TRANSFER, (target,), tuned[TRANSFER_ALIGNED], tuned[TRANSFER]
        )

    def _contrast(
        self, kind: str, condition: str, method: str, baseline: str, tasks: tuple[str, ...],
        arms: dict[int, list[TextArm]], others: dict[int, list[TextArm]],
    ) -> None:  # fmt: skip
        hashes = {seed: tuple(tuple(arm.hash for arm in found[seed]) for found in (arms, others)) for seed in arms}
        self.contrasts.append(
            Contrast(
                kind=kind, condition=condition, method=method, baseline=baseline,
                tasks=tuple(map(display_name, tasks)), arms=hashes,
            )
        )  # fmt: skip

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
        keep: bool = False,
    ) -> TextArm:
        """The arm with these tasks, of those whose sentences are kept apart; the same arm again if it is there."""
        is_aligned = method in (ALIGNED, TRANSFER_ALIGNED, SINGLE_MATRIX)
        words = self._fingerprints(self.data.tasks, seed, keep_overlap) if keep or source else {}
        arm = TextArm(
            method=method,
            condition=condition or self._alone(tasks, overlap_group, seed, keep_overlap),
            data=self.data,
            overlap_group=overlap_group,
            tasks={name: self._fingerprints(overlap_group, seed, keep_overlap)[name] for name in tasks},
            vocabulary_tasks=words,
            keep_overlap=keep_overlap,
            network=self._network(self.how.align if is_aligned else "none", width),
            training=self._training(is_aligned, fine_tuning=source is not None),
            max_length=self.how.max_length,
            encoder=self.how.pretrained,
            vectors=self.how.vectors,
            source=source and Source(hash=source.hash),
            keep_network=keep,
            seed=seed,
            device=self.device,
            threads=self.threads,
        )
        return self.arms.setdefault(arm.hash, arm)

    def _network(self, alignment: AlignmentKind, width: int | None) -> TextNetworkSettings:
        encoder = self.how.encoder
        if width is not None:
            if not isinstance(encoder, WordEncoderSettings):
                raise DataError("the capacity curve is for encoders over words: lstm, cnn or mlp")
            encoder = encoder.model_copy(update={"width": width})
        return TextNetworkSettings(encoder=encoder, alignment=alignment)

    def _training(self, is_aligned: bool, fine_tuning: bool) -> TextTrainingSettings:
        """What has no effect on an arm stands at its default, so that the arm is known again whatever it says."""
        plain = TextTrainingSettings()
        changes: dict[str, Any] = {"freeze_shared": self.how.training.freeze_shared and fine_tuning}
        if fine_tuning:
            changes["epochs"] = self.how.fine_tuning_epochs
        if not is_aligned:
            changes |= {"schedule": plain.schedule, "alignment_share": plain.alignment_share}
        return self.how.training.model_copy(update=changes)

    def _fingerprints(self, overlap_group: Iterable[str], seed: int, keep_overlap: bool) -> dict[str, str]:
        read = read_texts(self.data, tuple(overlap_group), seed, keep_overlap)
        return {name: each.fingerprint for name, each in read.items()}

    def _alone(self, tasks: tuple[str, ...], overlap_group: tuple[str, ...], seed: int, keep_overlap: bool) -> str:
        """The condition of a task alone: its name, and whose sentences it does without."""
        (name,) = tasks
        here, own = (self._fingerprints(names, seed, keep_overlap)[name] for names in (overlap_group, tasks))
        others = [other for other in overlap_group if other != name]
        return display_name(name) if here == own else f"{display_name(name)}, kept apart from {_named(others)}"

    def _share_sentences(self, group: tuple[str, ...]) -> bool:
        return self._fingerprints(group, self.seeds[0], False) != self._fingerprints(group, self.seeds[0], True)

    def _at_least_two(self, experiment: str) -> tuple[str, ...]:
        if len(self.data.tasks) < 2:
            raise DataError(f"{experiment} takes two tasks or more; got {listed(self.data.tasks)}")
        return self.data.tasks


def _named(group: Sequence[str]) -> str:
    return listed([display_name(name) for name in group])
