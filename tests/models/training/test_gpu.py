"""Training on a GPU against the CPU: the same losses up to rounding, with every method and every text encoder.

Rounding differs, and each epoch magnifies the difference: only the first one is compared.
"""

from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from models.augmentation.augment import augment
from models.augmentation.draws import draw
from models.augmentation.policies import PolicySettings, UncertaintyPolicy
from models.data.image_batches import examples
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import NetworkSettings, initial_network
from models.networks.word_encoders import CnnSettings, LstmSettings, MlpSettings
from models.training.cross_fit import cross_fit
from models.training.image_training import TrainingSettings, fit, predict
from models.training.text_training import fit_text, predict_text
from models.weighting.aggregation import AggregationSettings
from models.weighting.scalarization import ScalarizationSettings
from tests.models.training import test_image_training as toy_images
from tests.models.training import test_text_training as toy_texts

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

METHODS = [
    "uniform", "single_task", "svd", "svd_dynamic",
    *get_args(ScalarizationSettings.model_fields["kind"].annotation),
    *sorted({*get_args(AggregationSettings.model_fields["kind"].annotation)} - {"krum"}),  # it needs four tasks
]  # fmt: skip
DRAWS_ON_THE_DEVICE = {"rlw", "graddrop"}  # whose random numbers are not the CPU's
NEAR = pytest.approx


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Let no matrix unit round float32 products to 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def image_losses(device, kind="uniform", **changed):
    """Train the toy network; return the losses of its epochs."""
    settings = toy_images.SETTINGS.model_copy(update={"learning_rate": 1e-3} | changed)
    rule = toy_images.weighting(kind)
    network = toy_images.toy_network()
    train, val = toy_images.TRAIN, toy_images.VAL
    fitted = fit(network, rule, train, val, settings, seed=0, device=device)
    assert predict(network, val.pixels).isfinite().all()
    return np.array([report.losses for report in fitted.history])


def compare(one, other):
    """Check that all losses are numbers, and those of the first epoch the same up to rounding."""
    assert np.isfinite(one).all()
    assert one[0] == NEAR(other[0], rel=0.05)


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_trains_as_on_the_cpu(kind):
    if kind in {"cagrad", "nash_mtl"}:
        pytest.importorskip("cvxpy")
    on_gpu = image_losses("cuda", kind)
    compare(on_gpu, on_gpu if kind in DRAWS_ON_THE_DEVICE else image_losses("cpu", kind))


@pytest.mark.parametrize("changed", [{"micro_batch": 5}, {"precision": "bf16"}, {"channels_last": False},
                                     {"compile": "on"}, {"optimizer": "sgd", "learning_rate": 0.01}])  # fmt: skip
def test_a_step_in_another_way_trains_as_on_the_cpu(changed):
    compare(image_losses("cuda", **changed), image_losses("cpu", **(changed | {"compile": "off"})))


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_a_network_of_timm_trains_as_on_the_cpu(backbone):
    targets = toy_images.TRAIN.targets
    pixels = torch.randint(
        0, 256, (len(targets), 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    train = examples(pixels.numpy(), targets, hashed_patients("toy", [str(i) for i in range(len(targets))]))
    settings = TrainingSettings(epochs=2, batch_size=16, learning_rate=1e-4, precision="32")
    found = {}
    for device in ("cpu", "cuda"):
        network = initial_network(NetworkSettings(backbone=backbone), toy_images.LABELS, train.pixels[:, 0], seed=0)
        fitted = fit(
            network, toy_images.weighting("uniform"), train, toy_images_of(32), settings, seed=0, device=device
        )
        found[device] = np.array([report.losses for report in fitted.history])
    compare(found["cuda"], found["cpu"])


def toy_images_of(side):
    """The validation images, of another size."""
    val = toy_images.VAL
    pixels = val.pixels[:, 0].repeat_interleave(side // 16, 1).repeat_interleave(side // 16, 2)
    return examples(pixels.numpy(), val.targets, val.patients)


POLICIES = [
    {"kind": "composed", "operations": "paper", "then": "paper"},
    {"kind": "composed", "operations": "paper", "then": "paper", "interpolation": "nearest", "outside": "black"},
    {"kind": "jitter", "flip": 0.5, "rotation": 10, "shift": 0.05, "brightness": 0.1},
]


@pytest.mark.parametrize("policy", POLICIES)
def test_images_are_augmented_as_on_a_cpu(policy):
    """Draws are the same to the bit; grey values differ by rounding, and pixels at edges by their neighbour."""
    made = TypeAdapter(PolicySettings).validate_python(policy)
    images = torch.randint(0, 256, (200, 1, 33, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    drawn = draw(made.slots, seed=0, epoch=1, samples=torch.arange(200), candidate=0, n=200)
    partners = images[drawn.partner_rows]
    on_cpu = augment(images, drawn, partners, made.sampling)
    on_gpu = augment(images.cuda(), drawn, partners.cuda(), made.sampling).cpu()
    different = (on_cpu.int() - on_gpu.int()).abs() > 1
    assert different.float().mean() < 1e-3


@pytest.mark.parametrize("selection", ["highest", "proportional", "lowest"])
def test_candidates_are_selected_as_on_a_cpu(selection):
    policy = UncertaintyPolicy(operations="paper", then="paper", selection=selection, score="kl_divergence")
    settings = toy_images.SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 1e-3})

    def report(device):
        rule = toy_images.weighting("uniform")
        how = {"seed": 0, "policy": policy, "device": device}
        return fit(toy_images.toy_network(), rule, toy_images.TRAIN, toy_images.VAL, settings, **how).history[0]

    on_cpu, on_gpu = report("cpu"), report("cuda")
    assert on_gpu.drawn == on_cpu.drawn
    assert sum(abs(a - b) for a, b in zip(on_gpu.chosen, on_cpu.chosen, strict=True)) <= 20  # of 90 images
    assert on_gpu.losses == NEAR(on_cpu.losses, rel=0.1)


def test_images_in_main_memory_train_to_the_same_losses_with_candidates():
    """Partners of mixup are gathered with the images, and copied to the device beside the step."""
    policy = UncertaintyPolicy(operations="paper", then="paper")

    def losses(**changed):
        settings = toy_images.SETTINGS.model_copy(update={"epochs": 1} | changed)
        how = {"seed": 0, "policy": policy, "device": "cuda"}
        rule = toy_images.weighting("uniform")
        return fit(toy_images.toy_network(), rule, toy_images.TRAIN, toy_images.VAL, settings, **how).history[0].losses

    assert losses(device_memory=0.0) == NEAR(losses(), rel=0.02)


def test_networks_are_cross_fitted():
    features = [
        batch.features.cpu()
        for batch in cross_fit(
            toy_images.toy_network(), toy_images.TRAIN, toy_images.VAL, toy_images.SETTINGS, seed=0, device="cuda"
        )(None)
    ]
    assert sum(len(each) for each in features) == len(toy_images.TRAIN)
    assert torch.cat(features).isfinite().all()


@pytest.mark.parametrize("kind", ["uniform", "svd_dynamic", "uncertainty"])
def test_a_resumed_training_ends_as_one_without_a_break(kind):
    settings = toy_images.SETTINGS

    def trained(state=None):
        states, rule = [], toy_images.weighting(kind)
        fitted = fit(toy_images.toy_network(), rule, toy_images.TRAIN, toy_images.VAL, settings, seed=0, device="cuda",
                     state=state, on_epoch=lambda report, state: states.append(state))  # fmt: skip
        return fitted, states

    whole, states = trained()
    resumed, _ = trained(states[0])
    assert [report.losses for report in resumed.history] == [NEAR(report.losses, rel=1e-3) for report in whole.history]
    assert resumed.best_epoch == whole.best_epoch


@pytest.mark.parametrize("alignment", ["none", "free", "rotation"])
@pytest.mark.parametrize("encoder", [LstmSettings, CnnSettings, MlpSettings])
def test_a_text_encoder_trains_as_on_the_cpu(encoder, alignment):
    found = {}
    for device in ("cpu", "cuda"):
        network = toy_texts.toy_network(alignment, encoder, dropout=0.0)
        fitted = fit_text(network, toy_texts.TRAIN, toy_texts.VAL, toy_texts.SETTINGS, seed=0, device=device)
        found[device] = np.array([list(report.losses.values()) for report in fitted.history])
        assert predict_text(network, "mood", toy_texts.VAL["mood"]).device.type == "cpu"
    compare(found["cuda"], found["cpu"])


def test_random_numbers_of_dropout_resume_with_the_training():
    states = []
    network = toy_texts.toy_network(dropout=0.3)
    settings = toy_texts.SETTINGS
    whole = fit_text(network, toy_texts.TRAIN, toy_texts.VAL, settings, seed=0, device="cuda",
                     on_epoch=lambda report, state: states.append(state))  # fmt: skip
    resumed = fit_text(toy_texts.toy_network(dropout=0.3), toy_texts.TRAIN, toy_texts.VAL, settings, seed=0,
                       device="cuda", state=states[0])  # fmt: skip
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert list(one.losses.values()) == NEAR(list(other.losses.values()), rel=1e-3)
