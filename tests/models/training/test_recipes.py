import subprocess
import sys

import pytest

from models.errors import SettingError
from models.networks.wide_resnet import NAMES
from models.training.image_training import TrainingSettings
from models.training.recipes import family_of, recipe

CONVOLUTIONAL = (
    "resnet18", "resnet18.a1_in1k", "densenet121", "efficientnet_b0", "mobilenetv3_small_050", "vgg11", "nfnet_f0",
    "inception_v3", "regnety_002", "gcresnet50t", "efficientnet_lite0",
)  # fmt: skip
TRANSFORMERS = (
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "beit_base_patch16_224",
    "pvt_v2_b0", "xcit_nano_12_p16_224", "mvitv2_tiny", "maxvit_tiny_rw_224", "aimv2_large_patch14_224",
    "convnext_atto", "mixer_s32_224",
)  # fmt: skip


@pytest.mark.parametrize("backbone", CONVOLUTIONAL)
def test_networks_with_batch_normalisation_or_none_are_convolutional(backbone):
    assert family_of(backbone) == "convolutional"


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_networks_with_layer_normalisation_are_trained_like_transformers(backbone):
    assert family_of(backbone) == "transformer"


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_defaults_of_the_settings_are_those_of_conv4(pretrained):
    assert recipe("conv4", pretrained) == {}


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(
    "backbone", ["conv4", "tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224", "wide_resnet_16_4"]
)
def test_a_recipe_holds_valid_settings(backbone, pretrained):
    chosen = recipe(backbone, pretrained)
    settings = TrainingSettings(**chosen).model_dump(exclude_unset=True)
    assert settings == chosen


def test_pretrained_networks_learn_more_slowly_than_those_from_random_weights():
    for backbone in ("densenet121", "vit_tiny_patch16_224"):
        assert recipe(backbone, True)["learning_rate"] < recipe(backbone, False)["learning_rate"]


def test_only_the_pretrained_lite0_has_a_recipe_of_its_own():
    assert recipe("tf_efficientnet_lite0.in1k", True) == recipe("tf_efficientnet_lite0", True)
    assert recipe("tf_efficientnet_lite0", True) != recipe("efficientnet_b0", True)
    assert recipe("tf_efficientnet_lite0", False) == recipe("efficientnet_b0", False)


@pytest.mark.parametrize("backbone", NAMES)
def test_wide_residual_networks_are_trained_as_by_their_authors_from_random_weights(backbone):
    assert family_of(backbone) == "wide residual"
    settings = TrainingSettings(**recipe(backbone, pretrained=False))
    found = settings.optimizer, settings.learning_rate, settings.weight_decay, settings.batch_size, settings.warmup
    assert found == ("sgd", 0.1, 5e-4, 128, 0.0)
    assert recipe(backbone, pretrained=True) == recipe("resnet18", pretrained=True)


def test_timms_wide_networks_for_imagenet_are_none_of_them():
    assert family_of("wide_resnet50_2") == "convolutional"


def test_a_caller_may_change_its_copy_of_a_recipe():
    recipe("resnet18", True)["learning_rate"] = 7.0
    assert recipe("resnet18", True)["learning_rate"] < 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("densnet121", "densenet121"), ("conv-4", "conv4"), ("wide_resnet_28-10", "wide_resnet_28_10")],
)
def test_an_unknown_backbone_is_answered_with_the_nearest_name(name, nearest):
    with pytest.raises(SettingError, match=f"did you mean '{nearest}'"):
        recipe(name, False)


@pytest.mark.slow  # a process of its own imports torch
def test_timm_is_imported_only_for_the_networks_that_are_not_searched():
    code = (
        "import sys; from models.training.recipes import recipe; recipe('conv4', False); "
        "recipe('tf_efficientnet_lite0', True); assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
