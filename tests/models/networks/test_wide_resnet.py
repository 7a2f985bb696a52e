"""Wide residual networks: their size, one block by hand, and what every backbone has to do."""

import io

import numpy as np
import pytest
import timm
import torch

from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, Probabilities, check_backbone, initial_network
from models.networks.wide_resnet import NAMES, PreActivationBlock, WideResNet

SMALL = "wide_resnet_10_1"
LABELS = ("object",)


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def network_of(pixels, *, seed=0, backbone=SMALL):
    return initial_network(NetworkSettings(backbone=backbone), LABELS, pixels, seed=seed, classes=10)


def parameters(depth, width, classes):
    with torch.device("meta"):
        return sum(p.numel() for p in WideResNet(depth, width, 3, classes).parameters())


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (40, 8, 35.7), (28, 10, 36.5), (28, 12, 52.5), (22, 8, 17.2),
     (22, 10, 26.8), (16, 8, 11.0), (16, 10, 17.1)],
)  # fmt: skip
def test_the_networks_have_as_many_parameters_as_those_of_the_paper(depth, width, millions):
    """Of Table 4, CIFAR-10, in millions with one decimal."""
    assert round(parameters(depth, width, classes=10) / 1e6, 1) == millions


def test_the_depth_is_the_number_of_layers_with_weights_of_the_network_of_width_1():
    for depth in range(10, 47, 6):
        modules = WideResNet(depth, 1, 1, 10).modules()
        assert sum(isinstance(module, torch.nn.Linear | torch.nn.Conv2d) for module in modules) == depth


@pytest.mark.parametrize("depth", [0, 4, 9, 12, 27, -2])
def test_a_depth_that_no_such_network_has_is_refused(depth):
    with pytest.raises(SettingError, match=rf"is 6 n \+ 4; got {depth}: take 10, 16"):
        WideResNet(depth, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_one_of_timm_and_takes_batches_of_any_channels(name):
    depth, width = (int(part) for part in name.split("_")[2:])
    with torch.device("meta"):
        for channels, classes in ((1, 0), (3, 10), (4, 100)):
            network = timm.create_model(name, in_chans=channels, num_classes=classes)
            assert network(torch.zeros(2, channels, 32, 32)).shape == (2, classes or 64 * width)
            assert len(network.blocks) == (depth - 4) // 2
    check_backbone(NetworkSettings(backbone=name), 8, images=2, channels=3)


@pytest.mark.parametrize("size", [8, 9, 28, 32, 33, 64])
def test_images_of_any_size_from_8_px_have_features(size):
    assert WideResNet(10, 2, 1, 0)(torch.randn(2, 1, size, size)).shape == (2, 128)


def naive_convolution(x, weight, stride):
    """Sum over the kernel's positions, in float64."""
    reach, (b, _, s, _) = weight.shape[2] // 2, x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    side = -(-s // stride)
    out = np.zeros((b, len(weight), side, side))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            shifted = padded[:, :, i : i + s : stride, j : j + s : stride]
            out += np.einsum("bcyx,oc->boyx", shifted, weight[:, :, i, j])
    return out


def naive_norm_and_relu(x, norm):
    mean, var, weight, bias = (
        values.detach().double().numpy()[:, None, None]
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return np.maximum((x - mean) / np.sqrt(var + norm.eps) * weight + bias, 0)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2), (4, 4, 2)])
@pytest.mark.parametrize("size", [5, 8])
def test_a_block_is_the_naive_one(inputs, outputs, stride, size):
    torch.manual_seed(0)
    block = PreActivationBlock(inputs, outputs, stride).eval()
    for norm in (block.norm1, block.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, inputs, size, size)
    activated = naive_norm_and_relu(x.double().numpy(), block.norm1)
    weights = [layer.weight.detach().double().numpy() for layer in (block.conv1, block.conv2)]
    change = naive_convolution(activated, weights[0], stride)
    change = naive_convolution(naive_norm_and_relu(change, block.norm2), weights[1], 1)
    kept = x.double().numpy()
    if (inputs, 1) != (outputs, stride):
        kept = naive_convolution(activated, block.shortcut.weight.detach().double().numpy(), stride)
    np.testing.assert_allclose(block(x).detach().numpy(), kept + change, rtol=1e-4, atol=1e-4)


def test_an_image_does_not_depend_on_the_others_in_evaluation_mode(pixels):
    network = network_of(pixels).eval()
    network(pixels)
    together = network(pixels)
    for i in range(len(pixels)):
        torch.testing.assert_close(network(pixels[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_every_parameter_of_the_backbone_has_a_gradient(pixels):
    network = network_of(pixels, backbone="wide_resnet_16_2").train()
    network(pixels)[:, 3].square().sum().backward()
    for name, parameter in network.trunks.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_memory_order_changes_rounding_alone(pixels):
    network = network_of(pixels).eval()
    expected = network(pixels)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(pixels), expected, rtol=1e-4, atol=1e-5)


def test_the_exported_program_gives_the_same_probabilities_of_the_classes_for_any_batch(pixels):
    module = Probabilities(network_of(pixels))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(module, (pixels[:2],), dynamic_shapes={"pixels": {0: batch}})
    for n in (1, 2, 5):
        probabilities = module(pixels[:n])
        assert probabilities.shape == (n, 10)
        torch.testing.assert_close(program.module()(pixels[:n]), probabilities, rtol=0, atol=1e-6)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(n))


def test_a_checkpoint_survives_a_safe_load(pixels):
    network = network_of(pixels)
    network.train()(pixels)  # the running statistics are kept too
    file = io.BytesIO()
    torch.save(network.checkpoint(), file)
    file.seek(0)
    again = MultiTaskNetwork.restore(torch.load(file, weights_only=True))
    assert torch.equal(again(pixels), network.eval()(pixels))


def test_initial_weights_are_seeded_and_leave_the_global_generator_unchanged(pixels):
    before = torch.get_rng_state()
    first, same, other = (network_of(pixels, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    kernels = [name for name in first if first[name].ndim == 4]
    assert len(kernels) == 9
    assert not any(torch.equal(first[name], other[name]) for name in kernels)


def test_initial_kernels_have_the_variance_of_he_by_the_outputs():
    torch.manual_seed(0)
    for module in WideResNet(16, 4, 3, 10).modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10_000:
            outputs = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / outputs) ** 0.5, rel=0.05)
