"""The phantom's population: patients with age and sex, their visits, and the findings of each visit.

k = 14 findings; q = k + 1 latent traits (the findings, then the AP view, lying down).

A visit has a finding if a latent normal variable exceeds the finding's threshold. The latent variables of one image
have the correlations of ChestX-ray14's labels. Each is the weighted sum of a part of the patient and a part of the
visit, so that findings persist and change. The severity is the conditional quantile of the excess over the threshold:
uniform in (0, 1) over all images with the finding.

All constants were computed from NIH's table of 112,120 images (Data_Entry_2017_v2020.csv): relative frequencies,
and tetrachoric correlations (of the bivariate normal that gives the observed two-by-two table).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from data_prep.labels.table import FINDINGS

# Share of ChestX-ray14's images with each finding.
NIH_PREVALENCE: Mapping[str, float] = {
    "Atelectasis": 0.10309,
    "Cardiomegaly": 0.02476,
    "Effusion": 0.11877,
    "Infiltration": 0.17743,
    "Mass": 0.05157,
    "Nodule": 0.05647,
    "Pneumonia": 0.01276,
    "Pneumothorax": 0.04729,
    "Consolidation": 0.04163,
    "Edema": 0.02054,
    "Emphysema": 0.02244,
    "Fibrosis": 0.01504,
    "Pleural_Thickening": 0.03019,
    "Hernia": 0.00202,
}
# Rarer findings are raised to this, so that a fifth of 1,800 patients has at least 25 positives of each.
LEAST_PREVALENCE = 0.045
PREVALENCE: Mapping[str, float] = {name: max(NIH_PREVALENCE[name], LEAST_PREVALENCE) for name in FINDINGS}
AP_SHARE = 0.39966

# Tetrachoric correlations between labels of one image, below the diagonal; the last row is the AP view.
_CORRELATION = (
    (),
    (0.07,),
    (0.37, 0.39),
    (0.21, 0.05, 0.25),
    (0.06, -0.07, 0.20, 0.04),
    (-0.03, -0.07, 0.06, 0.12, 0.30),
    (0.14, 0.02, 0.12, 0.29, -0.01, -0.03),
    (0.10, -0.17, 0.15, 0.00, 0.12, 0.03, -0.09),
    (0.31, 0.08, 0.28, 0.14, 0.25, 0.12, 0.15, 0.00),
    (-0.02, 0.16, 0.23, 0.31, 0.02, 0.00, 0.56, -0.20, 0.11),
    (0.13, -0.06, 0.05, 0.00, 0.11, -0.04, -0.05, 0.51, 0.00, -0.09),
    (0.06, 0.04, -0.01, 0.04, 0.06, 0.12, -0.09, 0.00, 0.02, -0.19, -0.01),
    (0.10, 0.06, 0.23, 0.07, 0.24, 0.19, 0.02, 0.14, 0.13, -0.01, 0.14, 0.26),
    (0.11, 0.03, -0.05, -0.04, 0.13, -0.04, 0.00, -0.03, -0.11, -0.05, -0.03, 0.12, 0.02),
    (0.15, 0.04, 0.16, 0.22, -0.02, -0.08, 0.16, -0.05, 0.32, 0.53, 0.00, -0.27, -0.14, -0.23),
)
# Tetrachoric correlation of one label between consecutive images of a patient; the last is the AP view.
_PERSISTENCE = (0.53, 0.68, 0.64, 0.40, 0.72, 0.60, 0.45, 0.83, 0.55, 0.65, 0.79, 0.59, 0.55, 0.91, 0.72)
# Patients with 1, 2, ... 24 images; the 1.9 % with more (up to 184) are left out of the phantom.
_PATIENTS_BY_IMAGES = np.r_[
    17503, 4113, 2100, 1330, 938, 787, 608, 494, 387, 320, 281, 235, 165, 181, 121, 120, 91, 77, 77, 74, 68, 39, 50, 51
]
_MALE_SHARE = 0.565
_AGE_MEAN, _AGE_DEVIATION = 46.6, 16.6  # years
# Years added to the expected age, per standard deviation of the patient's part of a finding's latent variable.
_AGE_TENDENCY: Mapping[str, float] = {"Hernia": 6.0, "Fibrosis": 3.0, "Emphysema": 2.0, "Nodule": 1.5}
_YEARS_BETWEEN_VISITS = 0.4


@dataclass(frozen=True)
class Visit:
    """A visit with one image."""

    number: int  # from 0
    age: int  # years
    view: str  # "PA" or "AP"
    severity: Mapping[str, float]  # in (0, 1), of the findings that are present


@dataclass(frozen=True)
class Patient:
    """A patient."""

    seed: int  # of the population
    number: int  # from 1
    sex: str  # "M" or "F"
    visits: tuple[Visit, ...]  # in order

    def generator(self, purpose: str, *extra: int) -> np.random.Generator:
        """Return a random generator for one purpose; it depends only on the seed, the patient and the purpose."""
        key = (*b"phantom ", *purpose.encode(), 0, self.number, *extra)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def draw_patient(seed: int, number: int) -> Patient:
    """Draw patient `number` of the population `seed`: a pure function of the two."""
    rng = Patient(seed, number, "", ()).generator("history")
    shares = _PATIENTS_BY_IMAGES / _PATIENTS_BY_IMAGES.sum()
    images = 1 + int(rng.choice(len(shares), p=shares))
    sex = "M" if rng.random() < _MALE_SHARE else "F"
    mixing, persistence, thresholds = _latent_model()
    of_patient = mixing @ rng.standard_normal(len(thresholds))  # (q,)
    of_visits = rng.standard_normal((images, len(thresholds))) @ mixing.T  # (images, q)
    latent = np.sqrt(persistence) * of_patient + np.sqrt(1 - persistence) * of_visits
    age = _first_age(of_patient, rng)
    years = np.concatenate([[0.0], rng.exponential(_YEARS_BETWEEN_VISITS, images - 1)]).cumsum()
    visits = tuple(
        Visit(
            number=visit,
            age=int(min(age + years[visit], 95)),
            view="AP" if latent[visit, -1] > thresholds[-1] else "PA",
            severity=_severities(latent[visit]),
        )
        for visit in range(images)
    )
    return Patient(seed, number, sex, visits)


@lru_cache(maxsize=1)
def _latent_model() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Cholesky factor of the correlations (q, q), the persistence (q,), the thresholds (q,)."""
    q = len(_CORRELATION)
    correlation = np.eye(q)
    for row, values in enumerate(_CORRELATION):
        correlation[row, :row] = correlation[:row, row] = values
    shares = [*(PREVALENCE[name] for name in FINDINGS), AP_SHARE]
    thresholds = np.array([NormalDist().inv_cdf(1 - share) for share in shares])
    return np.linalg.cholesky(correlation), np.array(_PERSISTENCE), thresholds


def _first_age(of_patient: np.ndarray, rng: np.random.Generator) -> float:
    tendency = sum(years * of_patient[FINDINGS.index(name)] for name, years in _AGE_TENDENCY.items())
    return float(np.clip(_AGE_MEAN + tendency + _AGE_DEVIATION * rng.standard_normal(), 16, 92))


def _severities(latent: np.ndarray) -> dict[str, float]:
    """Return the findings whose latent variable, of `latent` (q,), exceeds the threshold, with their severities."""
    tail = {name: 1 - NormalDist().cdf(float(value)) for name, value in zip(FINDINGS, latent[:-1], strict=True)}
    return {name: 1 - tail[name] / PREVALENCE[name] for name in FINDINGS if tail[name] < PREVALENCE[name]}
