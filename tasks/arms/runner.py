"""Task runners: how many arms train at a time, in threads or on Ray, and the processor threads of each."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from data_prep.errors import DataError
from tasks.runtime.processes import processors
from tasks.runtime.servers import environment
from tasks.runtime.settings import Settings

Device = Literal["auto", "cpu", "cuda"]

OWN_CLUSTER = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""Variables of a Ray cluster of this command only: without the first, Ray listens on all addresses of the machine."""


class RunnerSettings(Settings):
    """How many arms train at a time, and where."""

    kind: Literal["threads", "ray"] = Field(
        "threads",
        description="threads: of this process; ray: processes of a Ray cluster (pip install 'medmtl[ray]') whose "
        "machines all share MEDMTL_HOME and, if there are several, reach the server in PREFECT_API_URL",
    )
    arms_at_once: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="arms that train at the same time; none: one per processor of this machine, but one on a GPU",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="processor threads of each arm, on which the last bits of its numbers depend; "
        "none: this machine's processors divided by the number of arms at a time",
    )
    address: str | None = Field(
        None, description="address of a running Ray cluster; none: start one on this machine for this run"
    )

    def parallel_arms(self, device: Device) -> int:
        """Return how many arms train at the same time."""
        return self.arms_at_once or (1 if uses_gpu(device) else processors())

    def threads_per_arm(self, device: Device) -> int:
        """Return the number of processor threads of each arm."""
        return self.threads or max(1, processors() // self.parallel_arms(device))


def check_runner(settings: RunnerSettings) -> None:
    """Check that what the task runner needs is installed.

    Raises:
        DataError: Ray is not.
    """
    if settings.kind == "ray" and find_spec("prefect_ray") is None:
        raise DataError("runner.kind is ray, which is not installed: pip install 'medmtl[ray]', or choose threads")


@contextmanager
def task_runner(settings: RunnerSettings, device: Device) -> Iterator[TaskRunner[Any]]:
    """Start a Prefect task runner, to which arms that train on a device are submitted.

    Raises:
        DataError: Ray is not installed, or its cluster cannot be used.
        ServerError: the head of its cluster has ended.
    """
    if settings.kind == "threads":
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=settings.parallel_arms(device))
        with runner:
            yield runner
        return
    check_runner(settings)
    options: dict[str, Any] = {"address": settings.address}
    threads_per_arm = settings.threads_per_arm(device)
    with ExitStack() as stack:
        if settings.address is None:
            options = {"num_cpus": settings.parallel_arms(device) * threads_per_arm, "include_dashboard": False}
            options["_node_ip_address"] = "127.0.0.1"
            stack.enter_context(environment(OWN_CLUSTER | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}))
        from tasks.arms.ray_cluster import ray_cluster

        yield stack.enter_context(ray_cluster(options, threads_per_arm, int(uses_gpu(device))))


def uses_gpu(device: Device) -> bool:
    """Tell whether an arm with this device setting trains on a GPU of this machine."""
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())
