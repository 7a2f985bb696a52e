"""Lightning Fabric: the device, the precision and the processes of a training."""

from typing import Any, Literal

import torch

from models.errors import SettingError
from models.training.distributed import SINGLE_PROCESS, Processes

Device = Literal["auto", "cpu", "cuda"]  # auto: a GPU if there is one


def check_device(device: Device) -> None:
    """Check that there is such a device here, and raise SettingError otherwise."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device cuda is asked for, but PyTorch finds no GPU here: use device auto or cpu")


def make_fabric(precision: str, device: Device, processes: Processes = SINGLE_PROCESS) -> Any:
    """Create a Lightning Fabric on the device, and launch it where several processes train one network.

    Args:
        precision: auto, 32 or bf16; see `models.training.image_step.StepSettings`.
        device: auto (a GPU if there is one), cpu or cuda.
        processes: that train the network.

    Returns:
        A `lightning_fabric.Fabric`.

    Raises:
        SettingError: there is no such device.
    """
    from lightning_fabric import Fabric

    check_device(device)
    accelerator = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        # a device without bfloat16 units emulates it: 3 to 14 times slower, measured on a CPU with AVX2 only
        on_gpu = accelerator == "cuda"
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else torch.cpu._is_amx_tile_supported()
        precision = "bf16" if fast else "32"
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes.count,
        strategy="ddp" if processes.count > 1 else "auto",
        precision="32-true" if precision == "32" else "bf16-mixed",
    )
    if processes.count > 1:
        fabric.launch()
    return fabric
