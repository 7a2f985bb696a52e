"""A backbone that all tasks share, and one linear head per label.

The network takes a store's raw pixels and normalises them itself, so that it cannot be fed wrongly.

Shapes: b images, s x s pixels, d features, k labels.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from models.data.image_batches import StoredPixels
from models.errors import SettingError, unknown_name
from models.randomness import seeded_construction
from models.settings import Settings


class NetworkSettings(Settings):
    """Which network, and where its first weights come from."""

    backbone: str = Field("conv4", description="conv4 (small, fast on a CPU) or any name that timm knows")
    pretrained: bool = Field(
        False, description="start from ImageNet weights: those of weights_file, or timm's own download"
    )
    weights_file: Path | None = Field(
        None,
        description="file of the backbone's weights, timm's names (safetensors or torch state dict); needs pretrained",
    )
    width: int | None = Field(
        None,
        ge=1,
        description="outputs of a shared linear layer before the heads (the paper's capacity r); none: no such layer",
    )
    separate: bool = Field(
        False, description="a network for each label, with nothing shared: as many times the work; see single_task"
    )


class _Trunk(nn.Module):
    """Backbone and optional shared width: normalised pixels (b, 1, s, s) to features (b, num_features)."""

    def __init__(self, settings: NetworkSettings, size: int) -> None:
        super().__init__()
        self.backbone = _backbone(settings.backbone, size)
        d: int = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.shared = nn.Linear(d, settings.width) if settings.width else nn.Identity()
        self.num_features = settings.width or d

    def forward(self, normalised: Tensor) -> Tensor:
        return self.shared(self.backbone(normalised))


class MultiTaskNetwork(nn.Module):
    """Backbone, optional shared width, and a head per label. Its weights are random: `initial_network` is the
    way to a network for training, `restore` the way to a trained one.

    Args:
        labels: k names, in the order of the outputs.
        mean, std: of the training pixels, in grey values (0 to 255); std > 0.
        size: side of the images in px (vision transformers are built for one size).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: NetworkSettings, labels: Sequence[str], *, mean: float, std: float, size: int) -> None:
        super().__init__()
        if not labels:
            raise SettingError("a network needs at least one label; got none")
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise SettingError(
                f"pixels need a finite mean and a positive deviation; got {mean} and {std}: are all images the same?"
            )
        self.settings, self.labels, self.size = settings, tuple(labels), size
        self.trained_on: tuple[str, ...] = ()  # hashed patients, see models.evaluation.leakage
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.trunks = nn.ModuleList(_Trunk(settings, size) for _ in (labels if settings.separate else labels[:1]))
        of_trunk = cast(_Trunk, self.trunks[0]).num_features
        self.num_features = of_trunk * len(self.trunks)
        self.heads = nn.ModuleList(nn.Linear(of_trunk, 1) for _ in labels)

    def features(self, pixels: Tensor) -> Tensor:
        """What all heads see, or side by side what each of the separate ones does.

        Args:
            pixels: (b, 1, s, s), grey values 0 to 255: uint8 as stored, or float32 after augmentation.

        Returns:
            (b, d) float32, or autocast's type under autocast.
        """
        normalised = (pixels.float() - self.mean) / self.std
        parts = [trunk(normalised) for trunk in self.trunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """(b, d) float32 features -> (b, k) float32 logits. Call it outside autocast: 8 bits are few for a logit."""
        heads = [cast(nn.Linear, head) for head in self.heads]
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        if len(self.trunks) > 1:
            return (features.unflatten(1, weight.shape) * weight).sum(2) + bias
        return linear(features, weight, bias)  # one product for all heads: k small ones would take twice as long

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 1, s, s) grey values 0 to 255 -> (b, k) logits."""
        return self.classify(self.features(pixels))

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters below the heads, which every task uses unless the networks are separate."""
        return list(self.trunks.parameters())

    def checkpoint(self) -> dict[str, Any]:
        """Everything `restore` needs, as plain values and tensors that `torch.load(weights_only=True)` reads back."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "labels": list(self.labels),
            "size": self.size,
            "trained_on": list(self.trained_on),
            "state": {name: value.detach().cpu().clone() for name, value in self.state_dict().items()},
        }

    @classmethod
    def restore(cls, checkpoint: Mapping[str, Any]) -> Self:
        """The trained network of a `checkpoint`, on the CPU, in evaluation mode."""
        settings = NetworkSettings.model_validate(checkpoint["settings"])
        network = cls(settings, checkpoint["labels"], mean=0.0, std=1.0, size=checkpoint["size"])
        network.load_state_dict(checkpoint["state"])
        network.trained_on = tuple(checkpoint["trained_on"])
        return network.eval()


class Probabilities(nn.Module):
    """The form in which a network is exported and logged: raw pixels in, probabilities out.

    Can be exported by `torch.export` with a dynamic batch. Puts the network into evaluation mode.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 1, s, s) uint8 -> (b, k) float32 in [0, 1]."""
        return torch.sigmoid(self.network(pixels))


def pixel_statistics(pixels: Tensor | StoredPixels) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels of any shape, in grey values, exact up to one rounding each."""
    counts = torch.stack([part.reshape(-1).bincount(minlength=256) for part in pixels.split(4096)]).sum(0)
    values = torch.arange(256, dtype=torch.float64, device=pixels.device)
    shares = counts.double() / pixels.numel()
    mean = (shares * values).sum()
    return mean.item(), (shares * (values - mean) ** 2).sum().sqrt().item()


def initial_network(
    settings: NetworkSettings,
    labels: Sequence[str],
    pixels: Tensor | StoredPixels,
    *,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
) -> MultiTaskNetwork:
    """A network ready for training: seeded first weights, or pretrained ones where they are asked for.

    It normalises by the training pixels' own mean and deviation, or by ImageNet's where it is pretrained.

    Args:
        pixels: (n, ..., s, s) uint8, the training images.
        weights: the contents of `settings.weights_file` (who calls reads the file); timm's names, three input
            channels or one.

    Raises:
        SettingError: pretrained weights are asked for and cannot be had, or do not fit the backbone.
    """
    if settings.weights_file and not settings.pretrained:
        raise SettingError(
            f"weights_file {str(settings.weights_file)!r} is given but pretrained is off: "
            "set pretrained: true, or leave the file out"
        )
    if settings.weights_file and weights is None:
        raise SettingError(
            f"the weights of {str(settings.weights_file)!r} were not handed over: read the file and pass its state dict"
        )
    mean, std = _imagenet_statistics(settings.backbone) if settings.pretrained else pixel_statistics(pixels)
    with seeded_construction(seed, "initial weights"):
        network = MultiTaskNetwork(settings, labels, mean=mean, std=std, size=pixels.shape[-1])
    if settings.pretrained:
        for trunk in network.trunks:
            backbone = cast(_Trunk, trunk).backbone
            if weights is None:
                backbone.load_state_dict(_downloaded(settings.backbone, network.size))
            else:
                _load_pretrained(backbone, settings.backbone, weights)
    return network


def _backbone(name: str, size: int, *, pretrained: bool = False) -> Any:
    one_size = {"img_size": size} if _timm_config(name).fixed_input_size else {}
    return _timm().create_model(name, pretrained=pretrained, in_chans=1, num_classes=0, **one_size)


def _timm_config(name: str) -> Any:
    """timm's record of a backbone, whose name may carry the tag of its weights (`resnet18.a1_in1k`)."""
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name("backbone", name, timm.list_models())
    tagged = timm.list_models(f"{architecture}.*", pretrained=True) if tag else []
    if tag and name not in tagged:
        raise unknown_name("backbone", name, tagged)
    return timm.get_pretrained_cfg(name)


def _timm() -> Any:
    """timm with our own networks registered; imported late because it takes seconds."""
    import timm

    import models.networks.conv4  # noqa: F401  registers conv4

    return timm


def _imagenet_statistics(backbone: str) -> tuple[float, float]:
    """The backbone's own mean and deviation, averaged over the three colours, in grey values."""
    config = _timm_config(backbone)
    return 255 * sum(config.mean) / len(config.mean), 255 * sum(config.std) / len(config.std)


def _downloaded(backbone: str, size: int) -> Mapping[str, Tensor]:
    try:
        return _backbone(backbone, size, pretrained=True).state_dict()
    except SettingError:
        raise
    except Exception as reason:  # the hub's client raises a dozen unrelated types, offline or not
        raise SettingError(
            f"no pretrained weights for backbone {backbone!r} can be had here ({type(reason).__name__}): "
            "give their file as weights_file, or set pretrained: false"
        ) from reason


def _load_pretrained(backbone: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Loads timm's weights into a one-channel backbone without a classifier; refuses to leave a layer random."""
    from timm.models import adapt_input_conv

    wanted = backbone.state_dict()
    fitting = {key: value for key, value in weights.items() if key in wanted}
    first = f"{_timm_config(name).first_conv}.weight"
    if first in fitting:
        fitting[first] = adapt_input_conv(1, fitting[first])
    missing = [key for key in wanted if key not in fitting and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in fitting.items() if value.shape != wanted[key].shape]
    if missing or wrong:
        raise SettingError(
            f"the weights do not fit backbone {name!r}: {len(missing)} of {len(wanted)} tensors are missing "
            f"and {len(wrong)} have another shape (first: {(missing + wrong)[0]!r}); use a file of timm's {name!r}"
        )
    backbone.load_state_dict(fitting, strict=False)
