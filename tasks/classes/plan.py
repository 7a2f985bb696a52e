"""Plan a classification study: list the arms (noise rates x lengths x seeds x policies), and contrast them.

The noise floor (A/A) is each policy that others are compared with, trained with other seeds on the same wrong labels.
"""

from collections.abc import Collection, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from data_prep.labels.class_split import ClassSplitSettings
from models.augmentation.natural_images import NaturalPolicySettings
from models.data.image_batches import steps_per_epoch
from models.networks.multitask import NetworkSettings, check_backbone
from models.training.image_training import TrainingSettings, check_shares
from tasks.arms.runner import Device
from tasks.classes.spec import METHOD, ClassArm, condition_name
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.engine.plan import Plan, against_baseline
from tasks.images.plan import MOST_ARMS, training_under
from tasks.images.policy_contrasts import interactions, policy_contrasts
from tasks.runtime.progress import LOGGER


class ClassPlanSettings(BaseModel):
    """Settings from which the arms of a study are planned.

    Attributes:
        split: which images of each class train, validate and test.
        noise: rates of symmetric noise on the training labels.
        policies: the augmentation policies.
        baseline_policy: name of the policy that the others are compared with.
        network: of all arms.
        training: of all arms; its epochs are replaced by the lengths, of which a policy may make more.
        lengths: numbers of epochs.
        score_tests: see `ClassArm`.
        seed: the first.
        seeds: of the arms.
        floor: whether the baseline is also trained with as many other seeds (A/A).
        device: of all arms.
        threads: of each arm.
    """

    model_config = ConfigDict(frozen=True)

    split: ClassSplitSettings
    noise: tuple[float, ...]
    policies: tuple[NaturalPolicySettings, ...]
    baseline_policy: str
    network: NetworkSettings
    training: TrainingSettings
    lengths: tuple[int, ...]
    score_tests: bool
    seed: int
    seeds: int
    floor: bool
    device: Device
    threads: int


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_classes(store: StoreRef, settings: ClassPlanSettings) -> Plan[ClassArm]:
    """List the arms; all policies of a seed and a noise rate train on the same labels.

    Raises:
        DataError: the split does not fit the data, or there are too many arms.
        SettingError: the training does not fit the images or this machine.
    """
    opened, parts = open_split(store, settings.split)
    count = len(settings.noise) * len(settings.lengths) * settings.seeds * len(settings.policies)
    if count > MOST_ARMS:
        raise DataError(f"the study would have {count:,} arms; the limit is {MOST_ARMS:,}: take fewer seeds or lengths")
    check_shares(settings.training, len(parts.train))
    smallest_batch = len(parts.train) // steps_per_epoch(len(parts.train), settings.training.batch_size)
    check_backbone(settings.network, opened.size, smallest_batch, channels=opened.channels)
    shared = {name: getattr(settings, name) for name in ("split", "network", "score_tests", "device", "threads")}
    arms = _arms(settings, shared | {"store": store, "split_fingerprint": parts.fingerprint})
    contrasts = policy_contrasts(arms, settings.baseline_policy)
    floor = _floor(arms, {contrast.baseline for contrast in contrasts}, settings.seeds) if settings.floor else []
    of_floor = against_baseline([*arms, *floor], METHOD, role="floor")
    sizes = len(parts.train), len(parts.val), len(parts.test)
    LOGGER.info("%d training, %d validation and %d test images; %d arms planned", *sizes, len(arms) + len(floor))
    return Plan(arms=(*arms, *floor), contrasts=(*contrasts, *of_floor, *interactions(of_floor)))


def _arms(settings: ClassPlanSettings, shared: dict[str, Any]) -> list[ClassArm]:
    """Return the arms in the order of the noise rates, lengths, seeds and policies."""
    return [
        ClassArm(
            **shared,
            method=METHOD,
            condition=condition_name(rate),
            noise_rate=rate,
            policy=policy,
            length=f"{length} epoch{'s' if length > 1 else ''}",
            training=training_under(policy, settings.training.model_copy(update={"epochs": length})),
            seed=seed,
        )
        for rate in settings.noise
        for length in settings.lengths
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for policy in settings.policies
    ]


def _floor(arms: Sequence[ClassArm], baselines: Collection[str], seeds: int) -> list[ClassArm]:
    """Return the arms of the baseline policies once more, with other seeds on the same wrong labels."""
    return [
        arm.model_copy(update={"seed": arm.seed + seeds, "floor_of": arm.seed})
        for arm in arms
        if arm.policy.name in baselines
    ]
