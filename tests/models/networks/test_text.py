"""The multi-task text network: shared parameters, equal initial weights, checkpoints."""

import io

import numpy as np
import pytest
import torch

from models.data.text_batches import text_examples
from models.errors import SettingError
from models.networks.alignment import covariance_similarity
from models.networks.text import (
    TextNetwork,
    TextNetworkSettings,
    embedding_covariance,
    initial_text_network,
    transfer_network,
)
from models.networks.word_encoders import CnnSettings, LstmSettings, MlpSettings

ENCODERS = [LstmSettings, CnnSettings, MlpSettings]
TASKS = {"mr": 2, "tr.ec": 6}
WORDS = 30


def texts(n=12, seed=0, words=WORDS, classes=2):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *rng.integers(1, 9, n)])
    return text_examples(rng.integers(1, words, offsets[-1]), offsets, rng.integers(0, classes, n))


def network(encoder=LstmSettings, alignment="none", tasks=TASKS, seed=0, **kwargs):
    settings = TextNetworkSettings(encoder=encoder(dimension=8, width=6), alignment=alignment)
    return initial_text_network(settings, tasks, seed=seed, **({"words": WORDS} | kwargs)).eval()


BATCH = texts().batch(torch.arange(12))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_task_has_its_own_classes(encoder):
    model = network(encoder)
    assert model("mr", BATCH).shape == (12, 2)
    assert model("tr.ec", BATCH).shape == (12, 6)
    assert model.features("mr", BATCH).shape == (12, 6)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("alignment", ["free", "rotation"])
def test_at_first_an_aligned_network_is_the_unaligned_one_to_the_bit(encoder, alignment):
    for task in TASKS:
        assert torch.equal(network(encoder)(task, BATCH), network(encoder, alignment)(task, BATCH))


def test_a_tasks_matrix_changes_only_its_own_embeddings():
    model = network(alignment="free")
    before = {task: model.embeddings(task, BATCH) for task in TASKS}
    with torch.no_grad():
        model.alignment("mr").delta.add_(0.1)
    assert torch.equal(model.embeddings("tr.ec", BATCH), before["tr.ec"])
    expected = before["mr"] @ model.alignment("mr").matrix()
    torch.testing.assert_close(model.embeddings("mr", BATCH), expected)


def test_arms_that_differ_in_their_tasks_start_with_the_same_weights():
    both, single_task = network().state_dict(), network(tasks={"mr": 2}, alignment="free").state_dict()
    common = set(both) & set(single_task)
    assert len(common) == 1 + 4 + 2
    assert all(torch.equal(both[name], single_task[name]) for name in common)
    other = network(seed=1).state_dict()
    assert not any(torch.equal(both[name], other[name]) for name in both)


def test_making_a_network_does_not_change_the_global_generator():
    before = torch.get_rng_state()
    network(alignment="rotation")
    assert torch.equal(before, torch.get_rng_state())


def test_padding_and_unknown_words_are_rows_of_zeros_and_no_other_is():
    sums = network().words.weight.abs().sum(1)
    assert torch.all(sums[:2] == 0)
    assert torch.all(sums[2:] > 0)


def test_given_vectors_are_taken_and_words_without_one_get_random_values():
    vectors = np.random.default_rng(0).normal(size=(WORDS, 8)).astype(np.float32)
    vectors[[4, 9]] = 0
    vectors[[0, 1]] = 7
    table = network(vectors=vectors, words=None).words.weight.detach()
    given = [row for row in range(2, WORDS) if row not in (4, 9)]
    assert torch.equal(table[given], torch.as_tensor(vectors[given]))
    assert torch.all(table[[4, 9]].abs().sum(1) > 0)
    assert table[:2].abs().sum() == 0


def test_vectors_of_another_dimension_are_refused_with_the_remedy():
    with pytest.raises(SettingError, match="set dimension: 5"):
        network(vectors=np.ones((WORDS, 5)), words=None)


def test_frozen_embeddings_are_not_trained():
    settings = TextNetworkSettings(encoder=MlpSettings(dimension=8, trainable_embeddings=False))
    model = initial_text_network(settings, TASKS, seed=0, words=WORDS)
    assert not model.words.weight.requires_grad
    assert all(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize("alignment", ["none", "free", "rotation"])
def test_a_checkpoint_brings_the_network_back(alignment):
    model = network(alignment=alignment, seed=5)
    file = io.BytesIO()
    torch.save(model.checkpoint(), file)
    file.seek(0)
    restored = TextNetwork.restore(torch.load(file, weights_only=True))
    assert restored.settings == model.settings
    for task in TASKS:
        assert torch.equal(restored(task, BATCH), model(task, BATCH))


@pytest.mark.parametrize("alignment", ["none", "rotation"])
def test_a_target_begins_with_the_sources_shared_module(alignment):
    source = network(seed=3, alignment="free")
    target = transfer_network(source, "cr", 3, alignment, seed=0)
    assert target.tasks == {"cr": 3}
    for new, old in zip(target.shared_parameters(), source.shared_parameters(), strict=True):
        assert torch.equal(new, old)
        assert new is not old
    expected = source.encoder(source.words(BATCH.ids), BATCH)
    assert torch.equal(target.eval().features("cr", BATCH), expected)


def test_the_covariance_of_a_tasks_embeddings_is_over_its_tokens():
    model, examples = network(alignment="free"), texts(40)
    with torch.no_grad():
        model.alignment("mr").delta.copy_(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    rows = model.words.weight[examples.ids.long()].detach().double()
    for aligned in (False, True):
        x = rows @ model.alignment("mr").matrix().detach().double() if aligned else rows
        found = embedding_covariance(model, "mr", examples, aligned=aligned)
        torch.testing.assert_close(found.matrix, x.T @ x, rtol=1e-5, atol=1e-5)
        assert found.rows == len(examples.ids)


def test_the_score_of_two_tasks_is_the_same_before_any_matrix_has_moved():
    model = network(alignment="rotation")
    scores = [
        covariance_similarity(
            *(embedding_covariance(model, task, texts(40, seed), aligned=aligned) for seed, task in enumerate(TASKS))
        )
        for aligned in (False, True)
    ]
    assert scores[0] == scores[1]


def test_an_unknown_task_is_named():
    with pytest.raises(SettingError, match=r"unknown task 'tr_ec'; did you mean 'tr\.ec'"):
        network()("tr_ec", BATCH)


@pytest.mark.parametrize(
    ("tasks", "words", "message"), [({}, 9, "at least one task"), ({"mr": 1}, 9, "two classes"), (TASKS, 1, "padding")]
)
def test_what_cannot_be_a_network_is_refused(tasks, words, message):
    with pytest.raises(SettingError, match=message):
        network(tasks=tasks, words=words)


def test_a_pretrained_encoder_without_its_configuration_is_refused():
    from models.networks.pretrained_encoder import PretrainedSettings

    with pytest.raises(SettingError, match=r"config\.json"):
        initial_text_network(TextNetworkSettings(encoder=PretrainedSettings()), TASKS, seed=0)


def test_weights_of_a_file_are_not_for_a_word_encoder():
    with pytest.raises(SettingError, match="this encoder is of kind lstm"):
        network(weights={})
