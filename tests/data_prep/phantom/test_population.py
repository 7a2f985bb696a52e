"""The phantom's population, without rendering: prevalences, persistence, visits, the default test set."""

import numpy as np
import pytest

from data_prep.labels.splits import SplitSettings, make_split
from data_prep.labels.table import FINDINGS, read_labels
from data_prep.phantom.dataset import PhantomSettings
from data_prep.phantom.population import (
    AP_SHARE,
    LEAST_PREVALENCE,
    NIH_PREVALENCE,
    PREVALENCE,
    Patient,
    draw_patient,
)
from models.evaluation.auc import MIN_PATIENTS


@pytest.fixture(scope="module")
def population() -> list[Patient]:
    """The default population."""
    default = PhantomSettings()
    return [draw_patient(default.seed, number) for number in range(1, default.patients + 1)]


def present(population: list[Patient]) -> np.ndarray:
    return np.array([[name in v.severity for name in FINDINGS] for p in population for v in p.visits])


def test_prevalences_are_those_of_chestxray14_or_raised(population):
    """Four standard errors, for images of one patient that count as half as many."""
    share, wanted = present(population).mean(0), np.array([PREVALENCE[name] for name in FINDINGS])
    error = np.sqrt(wanted * (1 - wanted) / (len(present(population)) / 4))
    assert (np.abs(share - wanted) < 4 * error).all()
    for name in FINDINGS:
        is_rare = NIH_PREVALENCE[name] < LEAST_PREVALENCE
        assert PREVALENCE[name] == (LEAST_PREVALENCE if is_rare else NIH_PREVALENCE[name])


def test_nihs_constants_are_those_of_its_table(shared_data):
    table = read_labels(shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz")
    np.testing.assert_allclose((table.targets == 1).mean(0), [NIH_PREVALENCE[name] for name in FINDINGS], atol=6e-6)
    assert (table.views == "AP").mean() == pytest.approx(AP_SHARE, abs=1e-5)


def test_every_label_can_be_scored_in_the_default_test_split(population):
    images = np.array([f"{p.number:08d}_{v.number:03d}.png" for p in population for v in p.visits])
    patients = np.array([str(p.number) for p in population for _ in p.visits])
    test = make_split(SplitSettings(), images, patients).test
    positive, owners = present(population)[test].astype(bool), patients[test]
    for label in positive.T:
        assert min(len(np.unique(owners[label])), len(np.unique(owners[~label]))) >= MIN_PATIENTS


def test_patients_come_once_or_often(population):
    visits = np.array([len(patient.visits) for patient in population])
    assert 0.5 < (visits == 1).mean() < 0.65
    assert visits.max() >= 15
    assert 2.5 < visits.mean() < 3.3


def test_findings_stay_with_a_patient_and_change(population):
    pairs = [(p.visits[i].severity, p.visits[i + 1].severity) for p in population for i in range(len(p.visits) - 1)]
    for name in FINDINGS:
        stays = np.mean([name in later for earlier, later in pairs if name in earlier])
        assert 2 * PREVALENCE[name] < stays < 1


def test_findings_occur_together_as_in_chestxray14(population):
    """Pneumonia with edema, effusion with cardiomegaly: far above chance; edema mostly lying."""
    index = {name: number for number, name in enumerate(FINDINGS)}
    table = present(population)

    def lift(a: str, b: str) -> float:
        both = (table[:, index[a]] & table[:, index[b]]).mean()
        return float(both / (table[:, index[a]].mean() * table[:, index[b]].mean()))

    assert lift("Pneumonia", "Edema") > 2.5
    assert lift("Effusion", "Cardiomegaly") > 1.7
    lying = np.array([visit.view == "AP" for patient in population for visit in patient.visits])
    assert lying[table[:, index["Edema"]]].mean() > 0.7
    assert lying[table[:, index["Fibrosis"]]].mean() < 0.35


def test_severity_is_uniform(population):
    severities = [s for p in population for v in p.visits for s in v.severity.values()]
    assert min(severities) >= 0
    assert max(severities) <= 1
    np.testing.assert_allclose(np.quantile(severities, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


def test_age_only_grows_and_stays_human(population):
    for patient in population:
        ages = [visit.age for visit in patient.visits]
        assert ages == sorted(ages)
        assert ages[0] >= 16
        assert ages[-1] <= 95


def test_a_patient_is_a_function_of_seed_and_number_alone():
    assert draw_patient(7, 42) == draw_patient(7, 42)
    assert draw_patient(7, 42) != draw_patient(8, 42)
