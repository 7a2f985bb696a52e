"""Data augmentation in the theory's report: what holds is said to hold, and what does not is called broken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from models.theory.augmentation_map import AugmentationMapSettings
from models.theory.augmentation_order import OrderSettings
from models.theory.augmented_ridge import RidgeCase
from models.theory.composition import CompositionSettings
from models.theory.digit_ridge import ARMS, DigitSettings
from models.theory.label_invariant import ClosedFormSettings, LeadingOrderSettings, SimulationSettings
from models.theory.label_mixing import MixupSettings
from tasks.theory.augmentation_checks import check_augmentation
from tasks.theory.augmentation_computations import AugmentationSettings, augmentation_computations
from tasks.theory.augmentation_figures import draw_augmentation_figures
from tasks.theory.augmentation_page import augmentation_lines
from tasks.theory.augmentation_records import AugmentationRecord, Deviations
from tasks.theory.augmentation_summary import summarise_augmentation
from tasks.theory.augmentation_text import answer_augmentation
from tasks.theory.digits import Digits

CASE = (RidgeCase(dimensions=20, samples=10, ridge=0.1, noise=0.5),)
SETTINGS = AugmentationSettings(
    closed_form=ClosedFormSettings(cases=5, dimensions=20),
    simulation=SimulationSettings(cases=CASE, draws=2000),
    leading_order=LeadingOrderSettings(dimensions=20, samples=10),
    composition=CompositionSettings(dimensions=20, samples=10, transforms=2),
    mixup=MixupSettings(cases=CASE, multiples=(1, 100), draws=50),
    order=OrderSettings(cases=CASE, designs=5),
    map=AugmentationMapSettings(
        dimensions=20, samples=10, relative_ridges=(0.1, 10.0), noises=(0.1, 1.0), projections=(0.1, 0.5)
    ),
    digit_ridge=DigitSettings(samples=30, held_out=50, copies=1, ridges=(0.01, 0.1), label_noises=(0.0, 0.4)),
)


def computed(seeds: range) -> tuple[dict[str, Any], Digits]:
    labels = np.arange(100, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 120, (100, 10, 10), dtype=np.uint8)
    images[np.arange(100), labels] += 100
    digits = Digits(images, labels, ("images", "labels"), "sha256:0")
    computations = augmentation_computations(SETTINGS, digits, seeds)
    return {name: [each.run(seed) for seed in seeds] for name, each in computations.items()}, digits


@pytest.fixture(scope="module")
def record() -> AugmentationRecord:
    return summarise_augmentation(*computed(range(3)))


def test_every_statement_holds_in_small_regressions_too(record: AugmentationRecord) -> None:
    assert {check.rule for check in record.checks if check.result != "ok"} == set()


def changed(record: AugmentationRecord, field: str, **values: Any) -> AugmentationRecord:
    """Change all rows of a group of the record, or the group itself where it is one row."""
    group = getattr(record, field)
    if isinstance(group, tuple):
        return record.model_copy(update={field: tuple(row.model_copy(update=values) for row in group)})
    return record.model_copy(update={field: group.model_copy(update=values)})


FAR = Deviations(together=3.1, largest=3.2, far=1, seeds=3)
BREAK: dict[str, Callable[[AugmentationRecord], AugmentationRecord]] = {
    "equals direct algebra": lambda r: changed(r, "closed_form", largest_difference=2e-10),
    "equals simulation": lambda r: changed(r, "simulation", deviations=FAR),
    "can raise the risk": lambda r: changed(r, "simulation", simulated=(0.1, 0.1, 0.1)),
    "of its leading order": lambda r: changed(r, "leading_order", kept=r.leading_order[0].rescaled),
    "that ratio tends to": lambda r: changed(r, "leading_order", rescaled=r.leading_order[0].kept),
    "sum of squared, sequentially": lambda r: changed(r, "composition", off=2e-6),
    "they lower it by 2": lambda r: changed(r, "composition", large_off=0.03),
    "adds nothing": lambda r: changed(r, "reflection", second=2e-6),
    "has the risk of ridge": lambda r: changed(r, "mixup", deviations=FAR),
    "It lowers the risk": lambda r: changed(r, "mixup", change=r.reflection.first),
    "It does not lower it": lambda r: changed(r, "mixup", change=min((c.change for c in r.map), key=lambda c: c.mean)),
    "Centred inputs": lambda r: changed(r, "grams", deviation=r.reflection.first),
    "Uncentred inputs": lambda r: changed(r, "grams", deviation=r.reflection.first),
    "bias(rotation) < bias(plain)": lambda r: changed(r, "order", fewest_biases=0.89),
    "variance(mixup) < variance(plain)": lambda r: changed(r, "order", variance_mixup_below_plain=14),
    "the transform helps exactly": lambda r: changed(r, "map", agree=2),
}


@pytest.mark.parametrize("statement", BREAK)
def test_a_statement_that_does_not_hold_is_called_broken(record: AugmentationRecord, statement: str) -> None:
    checks = [check for check in check_augmentation(BREAK[statement](record)) if statement in check.rule]
    assert checks
    assert {check.result for check in checks} == {"BROKEN"}


def test_every_check_has_been_seen_to_fail(record: AugmentationRecord) -> None:
    assert all(any(statement in check.rule for statement in BREAK) for check in record.checks)


def test_deviations_of_independent_seeds_add_up_as_their_sum_does() -> None:
    found = Deviations.over([1.0, 2.0, -4.0, 3.0])
    assert (found.together, found.largest, found.far, found.seeds) == (1.0, 4.0, 1, 4)
    drawn = np.random.default_rng(0).standard_normal((4000, 7))
    together = [Deviations.over(row.tolist()).together for row in drawn]
    assert np.std(together) == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(together) < 1) == pytest.approx(ndtr(1) - ndtr(-1), abs=0.03)
    both = Deviations.worst([found, Deviations(together=-2.0, largest=2.5, far=0, seeds=4)])
    assert str(both) == "largest 4.0 of one seed, 2.0 of all seeds together; 1 of 8 beyond 3"


def test_the_log_has_every_row(record: AugmentationRecord) -> None:
    lines = list(augmentation_lines(record))
    groups = (record.simulation, record.leading_order, record.composition, record.mixup, record.grams, record.order)
    for group, start in zip(
        groups,
        (
            "closed form against simulation",
            "leading order at",
            "composition of",
            "mixup, p",
            "mixup, mean",
            "order,",
        ),
        strict=True,
    ):
        assert sum(line.startswith(start) for line in lines) == len(group), start
    for cell in record.map:
        assert any(
            f"ridge {cell.convention}, cos² {cell.projection:g}, σ {cell.noise:g}" in line
            and f"{cell.relative_ridge:g}: {100 * cell.change.mean:+.2f} %".replace("-", "−") in line
            for line in lines
        )
    assert record.digits is not None
    for row in record.digits.rows:
        assert any(f", ridge {row.convention}, {row.arm}," in line and f"{row.ridge:g}: " in line for line in lines)
    assert all(any(check.rule in line and check.found in line for line in lines) for check in record.checks)


def test_the_best_ridge_of_each_arm_is_compared_with_plain_ridge_at_its_own_by_seed() -> None:
    results, digits = computed(range(3))
    record = summarise_augmentation(results, digits)
    assert record.digits is not None
    errors = {
        (row["arm"], row["convention"], row["label_noise"], row["ridge"], seed): row["error"]
        for seed, rows in enumerate(results["digits"])
        for row in rows
    }
    for row in record.digits.best:
        setting = (row.convention, row.label_noise)
        means = {r: np.mean([errors[row.arm, *setting, r, seed] for seed in range(3)]) for r in (0.01, 0.1)}
        assert row.error.mean == pytest.approx(min(means.values()))
        plain = min((0.01, 0.1), key=lambda r: sum(errors[ARMS[0], *setting, r, seed] for seed in range(3)))
        each = [errors[row.arm, *setting, row.ridge, s] - errors[ARMS[0], *setting, plain, s] for s in range(3)]
        assert row.minus_plain.mean == pytest.approx(np.mean(each))
    assert len(record.digits.best) == len(ARMS) * 2 * 2
    assert record.digits.ridge_step == pytest.approx(0.1 / 0.01)


def test_another_weight_and_ridges_above_the_best_are_reported_without_checks_below_it() -> None:
    mixing = MixupSettings(cases=CASE, multiples=(20,), concentrations=(0.4,), relative_ridges=(1.0, 1.2), draws=20)
    computations = augmentation_computations(SETTINGS.model_copy(update={"mixup": mixing}), None, range(2))
    record = summarise_augmentation(
        {name: [c.run(seed) for seed in range(2)] for name, c in computations.items()}, None
    )
    assert {row.weight for row in record.main_mixup("kept")} == {"Beta(0.4, 0.4)"}
    assert not any("lower" in check.rule and "λ*" in check.rule for check in record.checks)
    assert "mixup" in draw_augmentation_figures(record)


def test_one_seed_has_no_intervals_and_without_digits_there_is_no_sentence_on_them() -> None:
    results, _ = computed(range(1))
    record = summarise_augmentation(results, None)
    assert record.digits is None
    assert not any("digits" in sentence for sentence in answer_augmentation(record))
    figures = draw_augmentation_figures(record)
    assert "digits" not in figures
    assert all(figure.startswith("<svg") for figure in figures.values())
