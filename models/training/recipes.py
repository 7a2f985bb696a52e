"""Default training settings by family of backbone, each with its source.

| family | initial weights | learning rate | weight decay | warm-up | batch | source |
|---|---|---|---|---|---|---|
| conv4 | random | 4e-3 | 0 | 0.3 | 32 | searched: the defaults of `TrainingSettings` |
| EfficientNet-lite0 | ImageNet | 3e-3 | 0 | 0.3 | 32 | searched, with augmentation and averaged weights |
| convolutional | ImageNet | 1e-4 | 0.05 | 0.07 | 16 | cited, untested here: 1, 2 |
| convolutional | random | 1e-3 | 0.01 | 0.1 | 64 | cited, untested here: 3 |
| wide residual | random | 0.1 | 5e-4 | 0 | 128 | cited, untested here: 5 |
| transformer | ImageNet | 5e-5 | 0.05 | 0.07 | 64 | cited, untested here: 2 |
| transformer | random | 2.5e-4 | 0.05 | 0.1 | 64 | cited, untested here: 4 |

All use AdamW but the wide residual networks, which use SGD with Nesterov momentum 0.9. The cited recipes leave epochs
at the default of `TrainingSettings`, and augment nothing: both depend on the images, of which the sources have 50,000
to 1,300,000. The searched ones are from `benchmarks/search_recipe.py`, which trains for 8 epochs (conv4, phantoms at
64 px) and 6 epochs (EfficientNet-lite0, NIH images at 128 px).

1. Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031: DenseNet-121 from ImageNet, Adam, 1e-4, batches of 16.
   Rajpurkar et al., CheXNet, arXiv:1711.05225, begin at 1e-3 and divide it by ten at each plateau of the validation
   loss; a training of few epochs would spend them at the high rate. The authors of arXiv:2005.00944 take SGD at 1e-3.
2. Xiao et al., WACV 2023, arXiv:2210.12843, and FINETUNE.md of their repository `lambert-x/medical_mae`: DenseNet-121
   and ViT-S on ChestX-ray14 with AdamW, weight decay 0.05, warm-up 5 of 75 epochs, 2.5e-4 for each 256 images of a
   batch (of 1,024). That is 6e-5 for 64 images. Lower layers of their ViT learn more slowly, by a factor of 0.55
   each; all layers learn alike here, hence rather less. Scaled by the square root, as 4 says, it is 1.25e-4 for 16
   images, which agrees with 1.
3. `scripts/train_model.py` and `train_utils.py` of `mlmed/torchxrayvision`: networks with random weights, Adam, 1e-3,
   batches of 64. Their weight decay of 1e-5 is part of Adam's gradient, which AdamW's is not; 0.01 is PyTorch's
   default for AdamW (Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101).
4. Touvron et al., DeiT, ICML 2021, arXiv:2012.12877, Table 9: AdamW, 1e-3 for batches of 1,024, weight decay 0.05.
   For batches of 64 it is divided by the square root of 16, as Adam requires (Malladi et al., NeurIPS 2022,
   arXiv:2205.10287). Their warm-up of 5 in 300 epochs would be a few steps of a short training; hence 0.1.
5. Wu et al., ICML 2020, arXiv:2005.00695, section 4, and their code: WRN-28-10 on CIFAR for 200 epochs, SGD, Nesterov
   momentum 0.9, 0.1 with a cosine and no warm-up, batches of 128, weight decay 5e-4. Theirs is of all parameters; here
   biases and normalisation have none. Zagoruyko and Komodakis, BMVC 2016, arXiv:1605.07146, divide 0.1 by five thrice.
"""

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from models.augmentation.policies import NO_POLICY, JitterPolicy, PolicySettings
from models.errors import unknown_name

Family = Literal["conv4", "EfficientNet-lite0", "wide residual", "convolutional", "transformer"]

_FROM_IMAGENET: dict[Family, dict[str, Any]] = {
    "EfficientNet-lite0": {
        "learning_rate": 3e-3,
        "weight_decay": 0.0,
        "warmup": 0.3,
        "batch_size": 32,
        "averaging": 0.95,
        "epochs": 6,
    },
    "convolutional": {"learning_rate": 1e-4, "weight_decay": 0.05, "warmup": 0.07, "batch_size": 16},
    "transformer": {"learning_rate": 5e-5, "weight_decay": 0.05, "warmup": 0.07, "batch_size": 64},
}
_FROM_RANDOM_WEIGHTS: dict[Family, dict[str, Any]] = {
    "wide residual": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "warmup": 0.0,
        "batch_size": 128,
    },
    "convolutional": {"learning_rate": 1e-3, "weight_decay": 0.01, "warmup": 0.1, "batch_size": 64},
    "transformer": {"learning_rate": 2.5e-4, "weight_decay": 0.05, "warmup": 0.1, "batch_size": 64},
}


def recipe(backbone: str, pretrained: bool) -> dict[str, Any]:
    """Return the training settings of a backbone that differ from the defaults of `TrainingSettings`.

    Args:
        backbone: conv4, or timm's name, with or without a tag of weights (`resnet18.a1_in1k`).
        pretrained: whether the training starts from ImageNet weights.

    Returns:
        Fields of `models.training.image_training.TrainingSettings`; what a user sets has precedence over them.

    Raises:
        SettingError: timm knows no such network.
    """
    family = family_of(backbone)
    if family == "conv4":
        return {}
    known = _FROM_IMAGENET if pretrained else _FROM_RANDOM_WEIGHTS
    return {"optimizer": "adamw", **known.get(family, known["convolutional"])}


def recipe_policy(backbone: str, pretrained: bool) -> PolicySettings:
    """Return the augmentation of a backbone's recipe: none, but for the one that was searched with augmentation.

    Arguments and errors as for `recipe`.
    """
    if pretrained and family_of(backbone) == "EfficientNet-lite0":
        return JitterPolicy(rotation=10, shift=0.05, scale=0.1, brightness=0.1, contrast=0.2)
    return NO_POLICY


@lru_cache
def family_of(backbone: str) -> Family:
    """Return the family of a backbone.

    A network with more layer than batch normalisations counts as a transformer. Besides transformers these are
    networks that their authors train like one, such as ConvNeXt (Liu et al., CVPR 2022, arXiv:2201.03545) and
    MLP-Mixer. The network is built without memory for its weights, which takes up to a second.

    Args:
        backbone: as for `recipe`.

    Raises:
        SettingError: timm knows no such network.
    """
    architecture = backbone.partition(".")[0]
    if architecture == "conv4":
        return "conv4"
    if architecture == "tf_efficientnet_lite0":
        return "EfficientNet-lite0"
    import timm  # it takes seconds
    from timm.layers import RmsNorm

    from models.networks import wide_resnet  # registers its networks with timm

    if architecture in wide_resnet.NAMES:
        return "wide residual"
    if not timm.is_model(architecture):
        raise unknown_name("backbone", backbone, [*timm.list_models(), "conv4"])
    with torch.device("meta"):
        layers = list(timm.create_model(architecture).modules())
    by_layer = sum(isinstance(layer, nn.LayerNorm | RmsNorm) for layer in layers)
    by_batch = sum(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in layers)
    return "transformer" if by_layer > by_batch else "convolutional"
