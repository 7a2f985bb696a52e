"""Plan an image study: draw the noise masks and list the arms (conditions x seeds x methods)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import SplitSettings, make_split
from data_prep.noise.protocols import ProtocolSettings, plan
from data_prep.noise.registry import draw_noise
from data_prep.store.store import Store
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.data.ingest import StoreRef
from tasks.images.spec import ImageArm, MaskRef
from tasks.runtime.progress import LOGGER


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_arms(  # noqa: PLR0913  to be grouped by the study engine
    store: StoreRef,
    split: SplitSettings,
    protocol: ProtocolSettings,
    methods: Sequence[WeightingSettings],
    network: NetworkSettings,
    training: TrainingSettings,
    seed: int,
    seeds: int,
    device: Literal["auto", "cpu", "cuda"],
    threads: int,
    masks: Path,
) -> tuple[list[ImageArm], int | None]:
    """Draw the noise masks and list the arms; all methods of a seed and a condition train on the same mask.

    Args:
        store: the images and labels.
        split: which patients train, validate and test.
        protocol: gives the noise conditions.
        methods: the weighting methods.
        network: of all arms; a method may adapt it.
        training: of all arms.
        seed: the first seed.
        seeds: number of seeds.
        device: of all arms.
        threads: of each arm.
        masks: folder that the masks are written to.

    Returns:
        The arms, and the number of conditions from which the study's conditions were drawn; None if they were not
        drawn (`data_prep.noise.protocols.Plan`).

    Raises:
        DataError: the split does not fit the data, the noise names an unknown label, or there are too few labels.
    """
    opened = Store.open(store.path)
    parts = make_split(split, opened.images, opened.patients)
    targets = opened.targets[parts.train]
    planned = plan(protocol, targets, opened.labels, seed)
    masks.mkdir(parents=True, exist_ok=True)
    arms = []
    for condition in planned.conditions:
        columns = [opened.labels.index(label) for label in condition.labels]
        for arm_seed in range(condition.first_seed, condition.first_seed + seeds):
            mask = draw_noise(condition.noise, targets[:, columns], condition.labels, arm_seed)
            path = masks / f"{mask.fingerprint.removeprefix('sha256:')[:16]}.npz"
            mask.save(path)
            arms += [
                ImageArm(
                    store=store,
                    split=split,
                    split_fingerprint=parts.fingerprint,
                    labels=condition.labels,
                    condition=condition.name,
                    noise=condition.noise,
                    mask=MaskRef(path=path, fingerprint=mask.fingerprint),
                    method=method,
                    network=method.network(network),
                    training=training,
                    seed=arm_seed,
                    device=device,
                    threads=threads,
                )
                for method in methods
            ]
    sizes = len(parts.train), len(parts.val), len(parts.test)
    LOGGER.info(
        "split %s: %d training, %d validation and %d test images; %d arms planned", parts.name, *sizes, len(arms)
    )
    return arms, planned.population_size
