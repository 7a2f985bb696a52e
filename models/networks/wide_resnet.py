"""Wide residual networks: few residual blocks with many channels, the usual networks for images of 32 px.

Source: Zagoruyko, Komodakis: Wide Residual Networks (BMVC 2016, arXiv:1605.07146), section 2 and Table 1, without
dropout. WRN-d-k has k times as many channels as a residual network of d = 6 n + 4 layers with weights: a convolution
with 16 channels, then three groups of n blocks with 16 k, 32 k and 64 k channels, of which the second and the third
halve the side, then batch normalisation, ReLU and the mean over the map. As in the authors' code, a convolution of
1 x 1 replaces a block's identity where the number of channels changes.

Importing this module registers the sizes in `NAMES` with timm: `timm.create_model("wide_resnet_28_10")`.

Shapes: b images, c channels, s x s pixels, d = 64 k features.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn.functional import relu

from models.errors import SettingError

SIZES = ((10, 1), (16, 1), (16, 2), (16, 4), (28, 10), (40, 2))
"""Depth and width of each network that timm knows by name."""

NAMES = tuple(f"wide_resnet_{depth}_{width}" for depth, width in SIZES)

default_cfgs = generate_default_cfgs(
    {
        f"{name}.untrained": {"input_size": (3, 32, 32), "num_classes": 10, "first_conv": "stem", "classifier": "head"}
        for name in NAMES
    }
)

_convolution = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and a ReLU, and what is added to them.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), _convolution(inputs, outputs, stride=stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), _convolution(outputs, outputs)
        changes_shape = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute maps (b, outputs, s / stride, s / stride), rounded up, of maps (b, inputs, s, s)."""
        activated = relu(self.norm1(x))
        change = self.conv2(relu(self.norm2(self.conv1(activated))))
        return change + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """A wide residual network, of random weights as in the authors' code (He et al., ICCV 2015, by the outputs).

    Args:
        depth: layers with weights (of the network with width 1), 6 n + 4: 10, 16, 22, 28, ...
        width: factor k of the channels, at least 1.
        in_chans: channels of the input.
        num_classes: outputs of a linear head; with 0 there is no head, and `forward` returns (b, 64 k) features.

    Raises:
        SettingError: there is no network of that depth.
    """

    def __init__(self, depth: int, width: int, in_chans: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise SettingError(
                f"the depth of a wide residual network is 6 n + 4; got {depth}: take 10, 16, 22, 28, ..."
            )
        self.stem = _convolution(in_chans, 16)
        channels, blocks = 16, []
        for number, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for first in (True, *[False] * ((depth - 4) // 6 - 1)):
                blocks.append(PreActivationBlock(channels, outputs, stride=2 if first and number else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.num_features = channels
        self.head: nn.Module = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores (b, num_classes), or features (b, 64 k) if num_classes is 0.

        Args:
            x: (b, in_chans, s, s) float, s at least 8.
        """
        return self.head(relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


def _entry_point(name: str, depth: int, width: int) -> Callable[..., WideResNet]:
    def create(pretrained: bool = False, **kwargs: Any) -> WideResNet:
        return build_model_with_cfg(WideResNet, name, pretrained, depth=depth, width=width, **kwargs)

    create.__name__ = name  # by which timm calls it
    return create


for _name, (_depth, _width) in zip(NAMES, SIZES, strict=True):
    register_model(_entry_point(_name, _depth, _width))
