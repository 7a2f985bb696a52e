"""Studies made up of trained networks: who is drawn, what is planted, and what counts as a verdict."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from benchmarks import false_verdicts
from benchmarks.false_verdicts import (
    BASELINE,
    METHODS,
    VERDICT_WORDS,
    Phantom,
    Training,
    first_page,
    has_verdict,
    predict_test,
    raise_auc,
    resampled_studies,
    seen,
    small_studies,
)
from models.training.image_training import TrainingSettings

N, K = 240, 3


def phantom(networks: int = 14, seed: int = 0, better: float = 0.0) -> Phantom:
    """Networks that know something; from the fourth to the sixth they know more by `better`."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((N, K)) < 0.3).astype(np.int8)
    known = 0.8 * np.ones((networks, 1, 1))
    known[3:6] += better
    common, own = generator.normal(size=(N, K)), generator.normal(size=(networks, N, K))
    scores = expit(known * targets + 0.7 * common + 0.7 * own)
    return Phantom(seed, targets, np.arange(N) // 2, scores.astype(np.float32))


def mean_auc_by_scikit_learn(targets: NDArray, scores: NDArray) -> float:
    return float(np.mean([roc_auc_score(targets[:, j], scores[:, j]) for j in range(K)]))


def arms(of: Phantom) -> dict[str, NDArray]:
    return {BASELINE: of.scores[:3], METHODS[0]: of.scores[3:6], METHODS[1]: of.scores[6:9]}


def test_a_study_of_a_better_method_has_a_verdict_and_says_so() -> None:
    of = phantom(better=2.0)
    page, comparisons = first_page(of, arms(of))
    assert has_verdict(comparisons)
    assert VERDICT_WORDS.search(page)
    assert [each.method for each in comparisons] == list(METHODS)
    assert comparisons[0].over == "seeds and patients"


def test_a_study_of_equal_methods_mostly_has_none() -> None:
    found = [first_page(of, arms(of)) for of in (phantom(seed=seed) for seed in range(20))]
    assert sum(has_verdict(comparisons) for _, comparisons in found) <= 4
    assert all(VERDICT_WORDS.search(page) for page, comparisons in found if has_verdict(comparisons))


def test_a_verdict_counts_after_adjustment_for_both_methods() -> None:
    of = phantom()
    comparison = first_page(of, arms(of))[1][0]
    unclear = [comparison.model_copy(update={"p_value": p}) for p in (0.03, 0.5)]
    clear = [comparison.model_copy(update={"p_value": p}) for p in (0.02, 0.5)]
    assert not has_verdict(unclear)
    assert has_verdict(clear)


def test_small_studies_use_each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bytes] = []

    def first_page_that_counts(of: Phantom, arms: dict[str, NDArray]) -> tuple[str, list]:
        assert [len(scores) for scores in arms.values()] == [3, 3]
        used.extend(network.tobytes() for scores in arms.values() for network in scores)
        return "", []

    monkeypatch.setattr(false_verdicts, "first_page", first_page_that_counts)
    of = phantom(networks=19)
    assert len(small_studies(of)) == 3
    assert len(used) == len(set(used)) == 18


def test_a_resampled_study_has_twelve_networks_and_the_same_ones_every_time() -> None:
    of = phantom()
    studies = list(resampled_studies(of, 3))
    assert all(len(set(study.networks.ravel().tolist())) == 12 for study in studies)
    assert len({tuple(study.networks.ravel().tolist()) for study in studies}) == 3
    again = list(resampled_studies(of, 3))
    assert [study.networks.tolist() for study in again] == [study.networks.tolist() for study in studies]
    assert [study[1:] for study in again] == [study[1:] for study in studies]


@pytest.mark.parametrize("size", [0.01, 0.08])
def test_the_planted_difference_has_the_asked_size_and_moves_positives_only(size: float) -> None:
    of = phantom()
    scores = of.scores[0]
    raised = raise_auc(of, scores, size)
    before, after = (mean_auc_by_scikit_learn(of.targets, each) for each in (scores, raised))
    assert after - before == pytest.approx(size, abs=1e-4)
    moved = raised - np.log(scores / (1 - scores.astype(np.float64)))
    np.testing.assert_allclose(moved[of.targets == 0], 0, atol=1e-6)
    np.testing.assert_allclose(moved[of.targets == 1], moved[of.targets == 1].mean(), atol=1e-6)


def test_a_difference_that_an_auc_has_no_room_for_is_refused() -> None:
    of = phantom()
    with pytest.raises(ValueError, match="cannot rise"):
        raise_auc(of, of.scores[0], 0.6)
    assert seen(of, list(resampled_studies(of, 3)), [0.6, None, 0.2]) == [True]


def test_a_large_planted_difference_is_always_seen_and_one_of_nothing_seldom() -> None:
    of = phantom()
    studies = list(resampled_studies(of, 8))
    assert all(seen(of, studies, [0.2] * 8))
    assert sum(seen(of, studies, [0.0] * 8)) < 4
    in_the_second = seen(of, studies[:2], [0.0, 0.2])
    assert in_the_second == [seen(of, studies[:1], [0.0])[0], True]


@pytest.mark.slow
def test_a_network_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path, 12, 64, TrainingSettings(epochs=1), "cpu")
    training.predictions.mkdir()
    file = predict_test(training, 5, 0)
    with np.load(file) as arrays:
        assert arrays["scores"].shape[1] == 14
        assert ((arrays["scores"] >= 0) & (arrays["scores"] <= 1)).all()
    monkeypatch.setattr(false_verdicts, "fit", None)
    assert predict_test(training, 5, 0) == file
    assert training._replace(settings=TrainingSettings(epochs=2)).predictions != training.predictions
