"""Parts of the theory, one computation for one seed each: computed in parallel, stored on disk, and reused."""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data_prep.errors import DataError
from data_prep.json_file import read_json
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interruptible
from tasks.runtime.processes import processors
from tasks.runtime.progress import LOGGER, progress

PART_VERSION = 1  # raise it when the same settings give other results; stored parts are then not reused

Part = tuple[str, int]
"""The name of a computation and a seed."""


class Computation(NamedTuple):
    """One figure or statement of a paper, computed for every seed.

    `depends_on` holds, as plain JSON values, all that the result depends on beside the seed.
    """

    depends_on: dict[str, Any]
    run: Callable[[int], Any]
    seeds: range


@task(name="compute theory", cache_policy=NO_CACHE)
def compute(computations: Mapping[str, Computation]) -> tuple[dict[str, list[Any]], int]:
    """Run computations, given by name, for all of their seeds; parts already stored are only read.

    Returns:
        Computation -> its results, one per seed in the order of the seeds; and the number of parts that were reused.
    """
    parts = [(name, seed) for name, computation in computations.items() for seed in computation.seeds]
    stored = {part: result for part in parts if (result := _read(_path(computations, part))) is not None}
    missing = [part for part in parts if part not in stored]
    if stored:
        LOGGER.info("%d of %d parts: reused from an earlier run", len(stored), len(parts))
    results = stored | _compute_all(computations, missing)
    return {name: [results[part] for part in parts if part[0] == name] for name in computations}, len(stored)


def _compute_all(computations: Mapping[str, Computation], parts: list[Part]) -> dict[Part, Any]:
    """Compute the parts in parallel, one per processor: linear algebra of this size gains nothing from more threads."""
    done: dict[Part, Any] = {}
    with (
        progress("theory") as update,
        interruptible() as raise_if_stopped,
        threadpool_limits(1),
        ThreadPoolExecutor(processors()) as pool,
    ):
        futures = {pool.submit(_compute, computations, part): part for part in parts}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                update(len(done), len(parts))
                raise_if_stopped()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _compute(computations: Mapping[str, Computation], part: Part) -> Any:
    """Compute a part, store it, and return it exactly as `_read` will return it from the file."""
    name, seed = part
    text = json.dumps(computations[name].run(seed), allow_nan=False)
    write_atomically(_path(computations, part), text.encode())
    return json.loads(text)


def _read(path: Path) -> Any | None:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged: delete it, and run the command again to compute it anew") from error


def _path(computations: Mapping[str, Computation], part: Part) -> Path:
    """Return the file of a part; its name is a hash of all that determines the result."""
    name, seed = part
    identity = json.dumps([PART_VERSION, name, seed, computations[name].depends_on], sort_keys=True)
    return home().root / "theory" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
