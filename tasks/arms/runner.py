"""Where arms run: several at a time, each with its own share of the processors, by one of Prefect's task runners."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from data_prep.errors import DataError
from tasks.runtime.env_defaults import DEFAULTS
from tasks.runtime.home import home
from tasks.runtime.processes import processors
from tasks.runtime.settings import Settings

Device = Literal["auto", "cpu", "cuda"]


class RunnerSettings(Settings):
    """How many arms train at a time, and where."""

    kind: Literal["threads", "ray"] = Field(
        "threads",
        description="threads: of this process; ray: processes of a Ray cluster whose machines all see MEDMTL_HOME "
        "and, for several machines, the server in PREFECT_API_URL (pip install 'medmtl[ray]')",
    )
    arms_at_once: int | None = Field(
        None,
        ge=1,
        description="arms that train at the same time; none: one per processor of this machine, or one on a GPU",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="processor threads of an arm, on which the last bits of its numbers depend; "
        "none: this machine's processors shared out among the arms at once",
    )
    address: str | None = Field(None, description="of a running Ray cluster; none: one on this machine for the study")

    def at_once(self, device: Device) -> int:
        """Arms that train at the same time."""
        return self.arms_at_once or (1 if on_gpu(device) else processors())

    def threads_of_an_arm(self, device: Device) -> int:
        """Processor threads that each of them gets."""
        return self.threads or max(1, processors() // self.at_once(device))


@contextmanager
def task_runner(settings: RunnerSettings, device: Device) -> Iterator[TaskRunner[Any]]:
    """A started runner for so many arms at once; `submit` the arms to it.

    Raises:
        DataError: Ray is asked for and not installed, or its cluster cannot be reached.
    """
    if settings.kind == "threads":
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=settings.at_once(device))
        with runner:
            yield runner
        return
    if find_spec("prefect_ray") is None:
        raise DataError("runner.kind is ray, which is not installed: pip install 'medmtl[ray]', or choose threads")
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    passed_on = {name: os.environ[name] for name in (*DEFAULTS, "MLFLOW_TRACKING_URI") if name in os.environ}
    environment = {"env_vars": passed_on | {"MEDMTL_HOME": str(home().root)}}
    options: dict[str, Any] = {"runtime_env": environment, "log_to_driver": False}
    threads_of_an_arm = settings.threads_of_an_arm(device)
    if settings.address is None:
        options |= {"num_cpus": settings.at_once(device) * threads_of_an_arm, "include_dashboard": False}
        options["_node_ip_address"] = "127.0.0.1"
    with ExitStack() as stack:
        try:
            ray = stack.enter_context(RayTaskRunner(address=settings.address, init_kwargs=options))
        except OSError as error:
            raise DataError(f"no Ray cluster answers at {settings.address} ({error}): name another address") from error
        stack.enter_context(remote_options(num_cpus=threads_of_an_arm, num_gpus=int(on_gpu(device))))
        yield ray


def on_gpu(device: Device) -> bool:
    """Whether an arm on this device trains on a GPU here."""
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())
