import pytest
import torch
from pydantic import ValidationError

from models.errors import SettingError
from models.weighting.base import FeatureBatch
from models.weighting.label_trust import label_trust
from models.weighting.rank import Moments, rank_from_spectrum
from models.weighting.registry import Uniform, UniformSettings
from models.weighting.svd import Theta, svd_weights
from models.weighting.svd_rules import Svd, SvdDynamic, SvdDynamicSettings, SvdSettings
from models.weighting.trust import trust_weights
from tests.models.weighting.test_registry import network, random_targets, step


def some_features(targets, d=8, shift=0.0):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(len(targets), d, generator=generator) + targets[:, :1].float() + shift


def passing(features, targets, asked=None, patients=None):
    """A feature pass over given features in two batches; appends the requested number of rows to `asked`.

    Two images of each patient, unless `patients` says otherwise.
    """
    patients = torch.arange(len(targets)) // 2 if patients is None else patients
    batch = FeatureBatch(features, targets, patients, torch.zeros(len(targets)))

    def start(rows):
        if asked is not None:
            asked.append(rows)
        yield FeatureBatch(*(part[:100] for part in batch))
        yield FeatureBatch(*(part[100:] for part in batch))

    return start


def letter(**values):
    """Settings of Algorithm 2 by its letter, on the network in training."""
    return SvdSettings(features="running", power=1.0, **values)


def test_svd_weights_come_from_the_features_after_the_chosen_epochs():
    targets = random_targets(300, 3)
    features, asked = some_features(targets), []
    weighting = Svd(letter(rank=2, scaling="unit", refresh=(2, 4), rows=300), 3)
    weighting.after_epoch(1, passing(features, targets, asked))
    assert torch.equal(weighting.weights(), torch.ones(3, dtype=torch.float64))
    assert weighting.diagnostics() == {}
    weighting.after_epoch(2, passing(features, targets, asked))
    theta = Theta().add(features, targets, targets >= 0).matrix("unit")
    torch.testing.assert_close(weighting.weights(), svd_weights(theta, 2))
    assert weighting.weights()[0] > 1
    assert asked == [300]
    assert weighting.diagnostics() == {"rank": 2.0}


def test_svd_weights_scale_the_losses():
    weighting = Svd(SvdSettings(), 3)
    weighting.load_state_dict({"alpha": torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64), "rank": torch.tensor(1)})
    net = network(3)
    step(net, weighting, random_targets(12, 3))
    assert not any(p.grad.any() for p in net.heads[2].parameters())
    weighted = net.heads[0].weight.grad.clone()
    step(net, Svd(SvdSettings(), 3), random_targets(12, 3))
    torch.testing.assert_close(weighted, 3 * net.heads[0].weight.grad)


@pytest.mark.parametrize(("tasks", "rank"), [(1, 1), (2, 1), (3, 1), (4, 3), (14, 3)])
def test_the_default_rank_is_3_or_1_for_few_labels(tasks, rank):
    targets = random_targets(200, tasks)
    weighting = Svd(letter(), tasks)
    weighting.after_epoch(2, passing(some_features(targets), targets))
    theta = Theta().add(some_features(targets), targets, targets >= 0).matrix("effect")
    torch.testing.assert_close(weighting.weights(), svd_weights(theta, rank))


def test_a_rank_chosen_by_rule_is_reported_and_saved_with_the_state():
    targets = random_targets(300, 5)
    features = some_features(targets)
    weighting = Svd(letter(rank="spectrum"), 5)
    weighting.after_epoch(2, passing(features, targets))
    known = targets >= 0
    expected = rank_from_spectrum(
        Theta().add(features, targets, known).matrix("unit"), Moments().add(features, targets, known)
    )
    assert weighting.diagnostics() == {"rank": float(expected)}
    other = Svd(letter(rank="spectrum"), 5)
    other.load_state_dict(weighting.state_dict())
    assert other.diagnostics() == weighting.diagnostics()
    assert torch.equal(other.weights(), weighting.weights())


def test_a_rank_by_validation_takes_a_pass_over_the_validation_images():
    targets = random_targets(300, 5)
    weighting, asked = Svd(letter(rank="validation"), 5), []
    train = passing(some_features(targets), targets)
    with pytest.raises(SettingError, match="needs validation images"):
        weighting.after_epoch(2, train)
    weighting.after_epoch(2, train, passing(some_features(targets), targets, asked))
    assert asked == [None]
    assert 1 <= weighting.diagnostics()["rank"] <= 5


def test_a_refresh_that_no_epoch_would_use_is_refused():
    weighting = Svd(letter(refresh=(3,)), 3)
    weighting.settings.check(4)
    with pytest.raises(SettingError, match=r"after epoch 3, but training has 3 epoch\(s\)"):
        weighting.settings.check(3)
    with pytest.raises(SettingError, match="first below the number of epochs"):
        SvdDynamicSettings(first=2).check(2)


def test_weights_before_training_need_a_pretrained_network():
    weighting = Svd(letter(refresh=(0,)), 3)
    with pytest.raises(SettingError, match="set pretrained: true"):
        weighting.settings.check(3)
    weighting.settings.check(3, pretrained=True)
    targets = random_targets(300, 3)
    weighting.after_epoch(0, passing(some_features(targets), targets))
    assert weighting.weights()[0] > 1


@pytest.mark.parametrize("kind", [(Svd, SvdSettings), (SvdDynamic, SvdDynamicSettings)])
def test_a_rank_above_the_number_of_labels_is_refused(kind):
    rule, of_rule = kind
    with pytest.raises(SettingError, match=r"1\.\.3, the number of labels; got 4"):
        rule(of_rule(rank=4), 3)
    with pytest.raises(ValidationError):
        of_rule(rank=0)
    with pytest.raises(ValidationError):
        of_rule(rank="guess")


@pytest.mark.parametrize("by", ["trust", "svd", "both"])
def test_svd_dynamic_weighs_by_trust_by_algorithm_2_or_by_their_product(by):
    targets = random_targets(300, 4)
    features = some_features(targets)
    weighting = SvdDynamic(SvdDynamicSettings(by=by, rank=2), 4)
    weighting.after_epoch(1, passing(features, targets))
    trust = label_trust(features, targets, torch.arange(300) // 2)
    svd = svd_weights(Theta().add(features, targets, targets >= 0).matrix("effect"), 2)
    by_trust = trust_weights(trust, targets, "coin", "signal")
    expected = {"trust": by_trust, "svd": svd, "both": svd * by_trust}[by].double()
    torch.testing.assert_close(weighting.weights(), 4 * expected / expected.sum(), rtol=1e-6, atol=1e-6)


def test_svd_dynamic_averages_theta_with_the_memory_of_its_settings():
    targets = random_targets(300, 4)
    thetas = []
    weighting = SvdDynamic(SvdDynamicSettings(by="svd", rank=2, memory=0.25), 4)
    for epoch in (1, 2):
        features = some_features(targets.roll(epoch, 1))
        thetas.append(Theta().add(features, targets, targets >= 0).matrix("effect"))
        weighting.after_epoch(epoch, passing(features, targets))
    torch.testing.assert_close(weighting.weights(), svd_weights(0.25 * thetas[0] + 0.75 * thetas[1], 2))


def test_svd_dynamic_restores_its_state():
    targets = random_targets(300, 4)
    one, two = (SvdDynamic(SvdDynamicSettings(by="both"), 4) for _ in range(2))
    one.after_epoch(1, passing(some_features(targets), targets))
    two.load_state_dict(one.state_dict())
    for weighting in (one, two):
        weighting.after_epoch(2, passing(some_features(targets, shift=1.0), targets))
    assert torch.equal(one.weights(), two.weights())
    assert one.diagnostics() == two.diagnostics()


def test_svd_dynamic_has_uniform_weights_before_its_first_epoch():
    weighting = SvdDynamic(SvdDynamicSettings(first=2), 4)
    weighting.after_epoch(1, lambda rows: pytest.fail("the features were asked for"))
    assert torch.equal(weighting.weights(), torch.ones(4, dtype=torch.float64))


def untouched(rows):
    pytest.fail("the features were asked for")


@pytest.mark.parametrize("features", ["finished", "running"])
@pytest.mark.parametrize("power", [0.5, 0.25, 1.0])
def test_the_weights_of_algorithm_2_are_raised_to_the_power_of_the_settings(features, power):
    targets = random_targets(300, 5)
    weighting = Svd(SvdSettings(features=features, power=power, rank=2), 5)
    given = passing(some_features(targets), targets)
    weighting.start(given) if features == "finished" else weighting.after_epoch(2, given)
    published = svd_weights(Theta().add(some_features(targets), targets, targets >= 0).matrix("effect"), 2)
    assert published.max() / published.min() > 1.5
    torch.testing.assert_close(weighting.weights(), 5 * published**power / (published**power).sum())
    assert weighting.weights().sum().item() == pytest.approx(5)


FINISHED = [(Svd, SvdSettings()), (SvdDynamic, SvdDynamicSettings(features="finished", by="both"))]


@pytest.mark.parametrize(("rule", "settings"), FINISHED, ids=["svd", "svd_dynamic"])
def test_weights_from_a_finished_network_stay_the_same_during_training(rule, settings):
    targets = random_targets(300, 4)
    weighting, computed, asked = rule(settings, 4), rule(settings, 4), []
    assert settings.feature_source == "finished"
    weighting.settings.check(1)  # the first epoch has the weights
    weighting.start(passing(some_features(targets), targets, asked))
    computed.compute(passing(some_features(targets), targets), None)
    expected = weighting.weights()
    assert torch.equal(expected, computed.weights())
    assert expected.std() > 0
    assert asked == [10_000]
    for epoch in range(4):
        weighting.after_epoch(epoch, untouched, untouched)
    assert torch.equal(weighting.weights(), expected)


@pytest.mark.parametrize(("rule", "settings"), FINISHED, ids=["svd", "svd_dynamic"])
def test_weights_from_a_finished_network_survive_a_resume(rule, settings):
    targets = random_targets(300, 4)
    one, two = rule(settings, 4), rule(settings, 4)
    one.start(passing(some_features(targets), targets))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.weights(), two.weights())
    assert one.diagnostics() == two.diagnostics()


def test_a_rank_by_validation_reads_the_finished_networks_validation_images():
    targets = random_targets(300, 5)
    weighting, asked = Svd(SvdSettings(rank="validation"), 5), []
    train, validation = (passing(some_features(targets), targets, counted) for counted in (None, asked))
    weighting.start(train, validation)
    assert asked == [None]


def test_a_rule_whose_features_are_those_of_the_network_in_training_cannot_start_before():
    for settings in (letter(), SvdDynamicSettings(), UniformSettings()):
        assert settings.feature_source == "running"
    with pytest.raises(NotImplementedError, match="uniform computes no weights before training"):
        Uniform(UniformSettings(), 3).start(untouched)
