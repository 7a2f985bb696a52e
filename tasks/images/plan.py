"""Plan an image study: draw the noise masks, list the arms (conditions x seeds x methods) and their contrasts."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from data_prep.labels.splits import SplitSettings
from data_prep.noise.protocols import ProtocolSettings, plan
from data_prep.noise.registry import draw_noise
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms.runner import Device
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.engine.plan import Plan, against_baseline
from tasks.images.spec import ImageArm, MaskRef
from tasks.runtime.progress import LOGGER


class ImagePlanSettings(BaseModel):
    """Settings from which the arms of a study are planned.

    Attributes:
        split: which patients train, validate and test.
        protocol: gives the noise conditions.
        methods: the weighting methods.
        baseline: name of the method that the others are compared with.
        network: of all arms; a method may adapt it.
        training: of all arms.
        seeds: of the arms; every method and condition is trained with each.
        device: of all arms.
        threads: of each arm.
    """

    model_config = ConfigDict(frozen=True)

    split: SplitSettings
    protocol: ProtocolSettings
    methods: tuple[WeightingSettings, ...]
    baseline: str
    network: NetworkSettings
    training: TrainingSettings
    seed: int
    seeds: int
    device: Device
    threads: int


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_images(store: StoreRef, settings: ImagePlanSettings, masks: Path) -> Plan[ImageArm]:
    """Draw the noise masks and list the arms; all methods of a seed and a condition train on the same mask.

    Args:
        store: the images and labels.
        settings: of the plan.
        masks: folder that the masks are written to.

    Returns:
        The arms, and the contrasts of each method with the baseline.

    Raises:
        DataError: the split does not fit the data, the noise names an unknown label, or there are too few labels.
    """
    opened, parts = open_split(store, settings.split)
    targets = opened.targets[parts.train]
    planned = plan(settings.protocol, targets, opened.labels, settings.seed)
    masks.mkdir(parents=True, exist_ok=True)
    arms: list[ImageArm] = []
    for condition in planned.conditions:
        columns = [opened.labels.index(label) for label in condition.labels]
        for seed in range(condition.first_seed, condition.first_seed + settings.seeds):
            mask = draw_noise(condition.noise, targets[:, columns], condition.labels, seed)
            path = masks / f"{mask.fingerprint.removeprefix('sha256:')[:16]}.npz"
            mask.save(path)
            arms += [
                ImageArm(
                    store=store,
                    split=settings.split,
                    split_fingerprint=parts.fingerprint,
                    labels=condition.labels,
                    condition=condition.name,
                    noise=condition.noise,
                    mask=MaskRef(path=path, fingerprint=mask.fingerprint),
                    method=method,
                    network=method.network(settings.network),
                    training=settings.training,
                    seed=seed,
                    device=settings.device,
                    threads=settings.threads,
                )
                for method in settings.methods
            ]
    sizes = len(parts.train), len(parts.val), len(parts.test)
    LOGGER.info(
        "split %s: %d training, %d validation and %d test images; %d arms planned", parts.name, *sizes, len(arms)
    )
    contrasts = against_baseline(arms, settings.baseline, population_size=planned.population_size)
    return Plan(stages=(tuple(arms),), contrasts=contrasts)
