"""conv4: a four-block convolutional network that trains on thousands of images per second on a CPU at 64 px.

Each block is a 3x3 convolution, batch normalisation and a ReLU; all but the last end in 2x2 max pooling. The first
convolution has stride 2, which halves the cost of the whole network. The last feature map (s/16 px) is pooled by both
its mean and its maximum, because a finding is either spread over the lungs or a small spot.

Importing this module registers the network with timm: `timm.create_model("conv4")` creates it like any other network.

Shapes: b images, c channels, s x s pixels, d features.
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

default_cfgs = generate_default_cfgs(
    {"conv4.untrained": {"input_size": (1, 64, 64), "num_classes": 0, "first_conv": "blocks.0.0", "classifier": "head"}}
)


def _block(inputs: int, outputs: int, *, stride: int = 1, pool: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class Conv4(nn.Module):
    """The network that timm knows as `conv4`.

    Args:
        in_chans: channels of the input.
        num_classes: outputs of a linear head; with 0 there is no head, and `forward` returns (b, 16 * base) features.
        base: channels of the first block; each further block doubles them.
    """

    def __init__(self, in_chans: int = 3, num_classes: int = 1000, base: int = 16) -> None:
        super().__init__()
        widths = [base, 2 * base, 4 * base, 8 * base]
        self.blocks = nn.Sequential(
            _block(in_chans, widths[0], stride=2),
            _block(widths[0], widths[1]),
            _block(widths[1], widths[2]),
            _block(widths[2], widths[3], pool=False),
        )
        self.num_features = 2 * widths[3]
        self.head: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores (b, num_classes), or features (b, d) if num_classes is 0.

        Args:
            x: (b, in_chans, s, s) float, s at least 16.
        """
        maps = self.blocks(x)
        return self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


@register_model
def conv4(pretrained: bool = False, **kwargs: Any) -> Conv4:
    """Create the network; timm calls this function by its name."""
    return build_model_with_cfg(Conv4, "conv4", pretrained, **kwargs)
