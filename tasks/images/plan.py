"""Plan an image study: draw the noise masks, list the arms (conditions x seeds x policies x methods), contrast them.

Methods that compute weights from a finished network's features train in a second stage: their source is the arm with
uniform weights, the same policy, the same seed and the same noise mask. The noise floor (A/A) is the baseline method
under the baseline policy, trained on the same noise masks with other seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from data_prep.labels.splits import Split, SplitSettings
from data_prep.noise.protocols import Condition, ProtocolSettings, plan
from data_prep.noise.registry import draw_noise
from data_prep.store.store import Store
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.data.image_batches import steps_per_epoch
from models.networks.multitask import NetworkSettings, check_backbone
from models.training.cross_fit import check_patients
from models.training.image_training import TrainingSettings, check_shares
from models.weighting.oracle import LabelNoise
from models.weighting.registry import UniformSettings, WeightingSettings, make_weighting
from tasks.arms.base import Source, floor_level
from tasks.arms.runner import Device
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.engine.plan import Contrast, Plan, against_baseline
from tasks.images.policy_contrasts import interactions, policy_contrasts
from tasks.images.spec import ANEW, ImageArm, MaskRef, Start
from tasks.runtime.progress import LOGGER

MOST_ARMS = 100_000
"""Most arms of a study, whose masks and records are on the disk and in memory."""

SOURCE = UniformSettings()
"""The method of the networks whose features other methods need."""


class ImagePlanSettings(BaseModel):
    """Settings from which the arms of a study are planned.

    Attributes:
        split: which patients train, validate and test.
        protocol: gives the noise conditions.
        methods: the weighting methods.
        baseline: name of the method that the others are compared with.
        policies: the augmentation policies; every method is trained under each.
        baseline_policy: name of the policy that the others are compared with.
        network: of all arms; a method may adapt it.
        training: of all arms; a policy may have more epochs.
        seeds: of the arms; every method and condition is trained with each.
        floor: whether the baselines together are also trained with as many other seeds (A/A).
        device: of all arms.
        threads: of each arm.
        start: of all arms: where their initial weights come from.
    """

    model_config = ConfigDict(frozen=True)

    split: SplitSettings
    protocol: ProtocolSettings
    methods: tuple[WeightingSettings, ...]
    baseline: str
    policies: tuple[PolicySettings, ...] = (NO_POLICY,)
    baseline_policy: str = "none"
    network: NetworkSettings
    training: TrainingSettings
    seed: int
    seeds: int
    floor: bool
    device: Device
    threads: int
    start: Start = ANEW


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_images(store: StoreRef, settings: ImagePlanSettings, masks: Path) -> Plan[ImageArm]:
    """Draw the noise masks and list the arms; all methods of a seed and a condition train on the same mask.

    Args:
        store: the images and labels.
        settings: of the plan.
        masks: folder that the masks are written to.

    Returns:
        The arms, and the contrasts of each method with the baseline, and of each policy with the baseline policy.

    Raises:
        DataError: the split does not fit the data, the noise names an unknown label, there are too few labels, or too
            many arms.
        SettingError: a method or the training does not fit the labels, the images or this machine.
    """
    opened, parts = open_split(store, settings.split)
    targets = opened.targets[parts.train]
    planned = plan(settings.protocol, targets, opened.labels, settings.seed)
    _check_arms(settings, [condition.labels for condition in planned.conditions], opened, parts)
    masks.mkdir(parents=True, exist_ok=True)
    arms: list[ImageArm] = []
    for condition in planned.conditions:
        columns = [opened.labels.index(label) for label in condition.labels]
        for seed in range(condition.first_seed, condition.first_seed + settings.seeds):
            mask = _draw_mask(condition, targets[:, columns], seed, masks)
            common = {
                "store": store,
                "split_fingerprint": parts.fingerprint,
                "labels": condition.labels,
                "condition": condition.name,
                "noise": condition.noise,
                "mask": mask,
            }
            arms += _arms(settings, common, seed)
    sizes = len(parts.train), len(parts.val), len(parts.test)
    LOGGER.info(
        "split %s: %d training, %d validation and %d test images; %d arms planned", parts.name, *sizes, len(arms)
    )
    return Plan(arms=tuple(arms), contrasts=_contrasts(arms, settings, planned.population_size))


def _check_arms(settings: ImagePlanSettings, labels: Sequence[tuple[str, ...]], store: Store, parts: Split) -> None:
    """Check all that would stop an arm after others had trained for hours.

    Args:
        settings: of the plan.
        labels: of each condition.
        store: the images and labels.
        parts: the split.
    """
    methods, n = with_sources(settings.methods), len(parts.train)
    count = len(labels) * settings.seeds * (len(methods) * len(settings.policies) + settings.floor)
    if count > MOST_ARMS:
        raise DataError(f"the study would have {count:,} arms; the limit is {MOST_ARMS:,}: take fewer seeds or noises")
    training = settings.training
    check_shares(training, n)
    share = n // steps_per_epoch(n, training.batch_size) // training.devices
    micro_batch = min(training.micro_batch or share, share)
    check_backbone(settings.network, store.size, share // -(-share // micro_batch))
    patient_numbers = torch.from_numpy(np.unique(store.patients[parts.train], return_inverse=True)[1])
    for method in methods:
        for k in {len(each) for each in labels}:
            make_weighting(method, k, label_noise=LabelNoise(*torch.ones(3, k)))
        for seed in range(settings.seed, settings.seed + settings.seeds):
            check_patients(method, patient_numbers, seed)


def _draw_mask(condition: Condition, targets: NDArray[np.int8], seed: int, folder: Path) -> MaskRef:
    """Draw the noise mask of a seed, and write it into the folder."""
    mask = draw_noise(condition.noise, targets, condition.labels, seed)
    path = folder / f"{mask.fingerprint.removeprefix('sha256:')[:16]}.npz"
    mask.save(path)
    return MaskRef(path=path, fingerprint=mask.fingerprint)


def _arms(settings: ImagePlanSettings, common: Mapping[str, Any], seed: int) -> list[ImageArm]:
    """Return the arms of one seed and condition, in the order of the policies and methods, and the noise floor."""
    shared = {name: getattr(settings, name) for name in ("split", "device", "threads", "start")} | dict(common)

    def arm(method: WeightingSettings, policy: PolicySettings, **more: Any) -> ImageArm:
        of_arm = {"network": method.network(settings.network), "training": training_under(policy, settings.training)}
        return ImageArm(**shared, method=method, policy=policy, **of_arm, **{"seed": seed} | more)

    methods, arms = with_sources(settings.methods), []
    for policy in settings.policies:
        source = Source(hash=arm(SOURCE, policy).hash)
        for method in methods:
            arms.append(arm(method, policy, source=source if method.feature_source == "finished" else None))
    if settings.floor:
        method = next(method for method in methods if method.name == settings.baseline)
        policy = next(policy for policy in settings.policies if policy.name == settings.baseline_policy)
        arms.append(arm(method, policy, seed=seed + settings.seeds, floor_of=seed))
    return arms


def training_under(policy: PolicySettings, training: TrainingSettings) -> TrainingSettings:
    """Return the training of a study with the epochs that it has under a policy."""
    return training.model_copy(update={"epochs": policy.epochs(training.epochs)})


def with_sources(methods: Sequence[WeightingSettings]) -> tuple[WeightingSettings, ...]:
    """Return the methods, with uniform weights if one of them needs a network that was trained with these."""
    needs = any(method.feature_source == "finished" for method in methods) and SOURCE not in methods
    return (*([SOURCE] if needs else []), *methods)


def _contrasts(
    arms: Sequence[ImageArm], settings: ImagePlanSettings, population_size: int | None
) -> tuple[Contrast, ...]:
    """Contrast methods with the baseline, policies with theirs, the baseline with itself, methods with their controls.

    Controls are compared with the baseline too, in a family of their own: they are not what the study asks about.
    """
    methods = with_sources(settings.methods)
    names = [method.name for method in methods]
    controls = {method.name: str(method.controls) for method in methods if method.controls in names}
    compared = [name for name in names if name not in controls]

    def among(methods: Sequence[str], baseline: str, **how: Any) -> tuple[Contrast, ...]:
        chosen = [arm for arm in arms if arm.levels["method"] in methods]
        return against_baseline(chosen, baseline, population_size=population_size, **how)

    found = [
        *among([settings.baseline, *compared], settings.baseline),
        *among([settings.baseline, *controls], settings.baseline, family="controls"),
    ]
    of_policies = [arm for arm in arms if arm.levels["method"] in compared]
    policies = policy_contrasts(of_policies, settings.baseline_policy, population_size)
    floor = among([settings.baseline, floor_level(settings.baseline)], settings.baseline, role="floor")
    found += [*policies, *floor, *(interactions(floor) if policies else ())]
    for control, method in controls.items():
        found += among([control, method], control, role="control")
    return tuple(found)
