import io
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError

import models.networks.multitask
from models.errors import SettingError
from models.networks.multitask import (
    MultiTaskNetwork,
    NetworkSettings,
    Probabilities,
    check_backbone,
    initial_network,
    pixel_statistics,
)

LABELS = ("Effusion", "Mass", "Hernia")


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (6, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def network_of(pixels, *, seed=0, weights=None, **settings):
    return initial_network(NetworkSettings(**settings), LABELS, pixels, seed=seed, weights=weights)


@pytest.mark.parametrize(
    ("backbone", "d"), [("conv4", 256), ("resnet18", 512), ("resnet18.a1_in1k", 512), ("mobilenetv3_small_050", 1024)]
)
def test_any_name_of_timm_makes_a_network_with_a_head_per_label(pixels, backbone, d):
    network = network_of(pixels, backbone=backbone).eval()
    assert network.features(pixels[:, None]).shape == (6, d)
    assert network(pixels[:, None]).shape == (6, 3)
    assert len(network.heads) == 3


def test_a_vision_transformer_is_built_for_the_size_of_the_images(pixels):
    assert network_of(pixels, backbone="test_vit")(pixels[:, None]).shape == (6, 3)


def test_conv4_is_made_by_timm_like_any_other():
    assert timm.create_model("conv4", in_chans=1, num_classes=5)(torch.zeros(2, 1, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "nearest"), [("densnet121", "densenet121"), ("conv-4", "conv4"), ("resnet18.a1_in2k", "resnet18.a1_in1k")]
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_an_unknown_backbone_is_answered_with_the_nearest_name(pixels, name, nearest, pretrained):
    with pytest.raises(SettingError, match=f"did you mean '{nearest}'"):
        network_of(pixels, backbone=name, pretrained=pretrained)


def test_the_width_is_a_shared_layer_between_backbone_and_heads(pixels):
    network = network_of(pixels, width=5).eval()
    assert network.features(pixels[:, None]).shape == (6, 5)
    heads = {id(p) for p in network.heads.parameters()}
    assert {id(p) for p in network.parameters()} - heads == {id(p) for p in network.shared_parameters()}


def test_the_network_normalises_raw_pixels_by_the_training_images(pixels):
    mean, std = pixel_statistics(pixels)
    assert mean == pytest.approx(pixels.double().mean().item(), rel=1e-12)
    assert std == pytest.approx(pixels.double().std(correction=0).item(), rel=1e-12)
    network = network_of(pixels).eval()
    by_hand = network.classify(network.trunks[0].backbone((pixels[:, None].float() - mean) / std))
    torch.testing.assert_close(network(pixels[:, None]), by_hand)


def test_images_that_are_all_the_same_are_refused():
    with pytest.raises(SettingError, match="positive standard deviation"):
        network_of(torch.full((4, 64, 64), 7, dtype=torch.uint8))


def test_initial_weights_are_seeded_and_leave_the_global_generator_unchanged(pixels):
    before = torch.get_rng_state()
    first, again, other = (network_of(pixels, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["heads.0.weight"], other["heads.0.weight"])


def test_weights_of_a_file_are_taken_and_folded_to_one_channel(pixels):
    original = timm.create_model("resnet18", num_classes=1000)
    weights = original.state_dict()
    network = network_of(pixels, backbone="resnet18", pretrained=True, weights_file=Path("r.pt"), weights=weights)
    state = network.trunks[0].backbone.state_dict()
    torch.testing.assert_close(state["conv1.weight"], weights["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(state["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    assert network.mean.item() == pytest.approx(255 * (0.485 + 0.456 + 0.406) / 3)
    assert network.std.item() == pytest.approx(255 * (0.229 + 0.224 + 0.225) / 3)


def test_weights_that_leave_a_layer_random_are_refused(pixels):
    weights = timm.create_model("resnet18").state_dict()
    del weights["layer1.0.conv1.weight"]
    with pytest.raises(SettingError, match=r"1 of 120 tensors are missing.*layer1\.0\.conv1\.weight"):
        network_of(pixels, backbone="resnet18", pretrained=True, weights_file=Path("r.pt"), weights=weights)


def test_unavailable_pretrained_weights_are_an_error(pixels, monkeypatch):
    with pytest.raises(SettingError, match=r"no pretrained weights for backbone 'conv4'.*weights_file"):
        network_of(pixels, pretrained=True)
    create = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise ConnectionError("no route")
        return create(name, **kwargs)

    monkeypatch.setattr(models.networks.multitask._timm(), "create_model", offline)
    with pytest.raises(SettingError, match=r"resnet18.*\(ConnectionError\).*pretrained: false"):
        network_of(pixels, backbone="resnet18", pretrained=True)


def test_a_weights_file_is_never_ignored(pixels):
    with pytest.raises(ValidationError, match="pretrained is off"):
        network_of(pixels, weights_file=Path("w.pt"))
    with pytest.raises(SettingError, match="were not passed"):
        network_of(pixels, weights_file=Path("w.pt"), pretrained=True)


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ValidationError, match="backbne"):
        NetworkSettings(backbne="conv4")


@pytest.mark.parametrize(("shape", "channels"), [((6, 64, 64), 1), ((6, 1, 64, 64), 1), ((6, 3, 64, 64), 3)])
def test_the_channels_follow_from_the_pixels(shape, channels):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    network = network_of(pixels).eval()
    assert network.channels == channels
    images = pixels.reshape(6, channels, 64, 64)
    again = MultiTaskNetwork.restore(network.checkpoint())
    assert again.channels == channels
    assert torch.equal(again(images), network(images))


def test_colour_weights_of_a_file_are_taken_as_they_are():
    weights = timm.create_model("resnet18", num_classes=1000).state_dict()
    settings = {"backbone": "resnet18", "pretrained": True, "weights_file": Path("r.pt")}
    network = network_of(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), weights=weights, **settings)
    assert torch.equal(network.trunks[0].backbone.conv1.weight, weights["conv1.weight"])


def test_one_class_of_several_has_an_output_per_class(pixels):
    network = initial_network(NetworkSettings(), ("digit",), pixels, seed=0, classes=10).eval()
    logits = network(pixels[:, None])
    assert logits.shape == (6, 10)
    probabilities = Probabilities(network)(pixels[:, None])
    torch.testing.assert_close(probabilities, logits.exp() / logits.exp().sum(1, keepdim=True))
    again = MultiTaskNetwork.restore(network.checkpoint())
    assert (again.classes, again.labels) == (10, ("digit",))
    assert torch.equal(again(pixels[:, None]), logits)


@pytest.mark.parametrize(("labels", "classes"), [(("digit",), 1), (("digit", "colour"), 10)])
def test_classes_are_at_least_two_of_one_label(pixels, labels, classes):
    with pytest.raises(SettingError, match="one label"):
        initial_network(NetworkSettings(), labels, pixels, seed=0, classes=classes)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_backbone_is_checked_with_the_channels_of_the_images(channels, monkeypatch):
    built = []

    class Trunk(models.networks.multitask._Trunk):
        def __init__(self, settings, size, channels):
            built.append(channels)
            super().__init__(settings, size, channels)

    monkeypatch.setattr(models.networks.multitask, "_Trunk", Trunk)
    check_backbone(NetworkSettings(), 32, images=2, channels=channels)
    assert set(built) == {channels}
    with pytest.raises(SettingError, match="cannot train on 2 images of 8 px"):
        check_backbone(NetworkSettings(), 8, images=2, channels=channels)


def test_statistics_that_are_known_are_taken(pixels):
    network = initial_network(NetworkSettings(), LABELS, pixels, seed=0, statistics=(100.0, 50.0))
    assert (network.mean.item(), network.std.item()) == (100, 50)


def test_a_grey_binary_checkpoint_has_the_keys_of_old(pixels):
    assert set(network_of(pixels).checkpoint()) == {"settings", "labels", "size", "trained_on", "state"}


@pytest.mark.parametrize("backbone", ["conv4", "resnet18"])
def test_a_checkpoint_survives_a_safe_load_with_its_patients(pixels, backbone):
    network = network_of(pixels, backbone=backbone, width=7).eval()
    network.trained_on = ("00ff", "11ee")
    file = io.BytesIO()
    torch.save(network.checkpoint(), file)
    file.seek(0)
    before = torch.get_rng_state()
    again = MultiTaskNetwork.restore(torch.load(file, weights_only=True))
    assert torch.equal(before, torch.get_rng_state())
    assert again.trained_on == ("00ff", "11ee")
    assert again.labels == LABELS
    assert torch.equal(again(pixels[:, None]), network(pixels[:, None]))


@pytest.mark.parametrize("backbone", ["conv4", "resnet18"])
def test_the_exported_program_gives_the_same_probabilities_for_any_batch(pixels, backbone):
    module = Probabilities(network_of(pixels, backbone=backbone))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(module, (pixels[:2, None],), dynamic_shapes={"pixels": {0: batch}})
    for n in (1, 2, 5):
        probabilities = module(pixels[:n, None])
        torch.testing.assert_close(program.module()(pixels[:n, None]), probabilities, rtol=0, atol=1e-6)
        assert probabilities.dtype == torch.float32
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def first_predictions(pixels, targets, **values):
    """What a fresh network whose heads see no feature predicts; (c,)."""
    labels = ("digit",) if "classes" in values else tuple(f"label {i}" for i in range(targets.shape[1]))
    network = initial_network(NetworkSettings(), labels, pixels, seed=0, targets=targets, **values).eval()
    for head in network.heads:
        torch.nn.init.zeros_(head.weight)
    predicted = Probabilities(network)(pixels[:, None])
    torch.testing.assert_close(predicted, predicted[:1].expand_as(predicted))
    return predicted[0].double()


def test_a_network_begins_by_predicting_the_prevalence_of_each_label(pixels):
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(10_000, 4, generator=generator) < torch.tensor([0.001, 0.02, 0.3, 0.9])).to(torch.int8)
    targets[torch.rand(10_000, 4, generator=generator) < 0.3] = -1
    known = (targets >= 0).sum(0)
    expected = ((targets == 1).sum(0) + 0.5) / (known + 1)
    torch.testing.assert_close(first_predictions(pixels, targets), expected.double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(expected, torch.tensor([0.001, 0.02, 0.3, 0.9]), rtol=0.5, atol=0.01)


def test_unknown_labels_take_no_part_in_the_first_predictions(pixels):
    targets = torch.tensor([[1, 0], [0, 0], [0, 1], [1, 1]], dtype=torch.int8)
    unknown = torch.full((50, 2), -1, dtype=torch.int8)
    given = first_predictions(pixels, targets)
    torch.testing.assert_close(first_predictions(pixels, torch.cat([targets, unknown])), given, rtol=0, atol=0)


def test_a_label_of_one_class_or_of_none_begins_with_a_finite_prediction(pixels):
    targets = torch.tensor([[0, 1, -1]] * 9, dtype=torch.int8)
    predicted = first_predictions(pixels, targets)
    torch.testing.assert_close(predicted, torch.tensor([0.05, 0.95, 0.5], dtype=torch.float64), rtol=1e-5, atol=0)


def test_one_class_of_several_begins_with_the_shares_of_the_classes(pixels):
    targets = torch.tensor([[2]] * 60 + [[0]] * 30 + [[1]] * 10 + [[-1]] * 50)
    predicted = first_predictions(pixels, targets, classes=4)
    expected = torch.tensor([30.5, 10.5, 60.5, 0.5], dtype=torch.float64) / 102
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=0)


def test_the_prevalences_set_the_biases_of_the_heads_and_nothing_else(pixels):
    targets = torch.tensor([[1, 0, 0], [0, 0, 1]], dtype=torch.int8)
    network = initial_network(NetworkSettings(), LABELS, pixels, seed=0, targets=targets)
    before, after = network_of(pixels).state_dict(), network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"heads.{i}.bias" for i in range(3)}
    single = initial_network(NetworkSettings(separate=True), LABELS, pixels, seed=0, targets=targets)
    assert [head.bias.tolist() for head in single.heads] == [head.bias.tolist() for head in network.heads]
