"""Anatomy of the healthy chest: one body per patient, one chest geometry per image.

Coordinates are those of `data_prep.phantom.canvas`: image widths, x from the midline to the viewer's right, so that
the patient's right is at negative x. `side` is -1 for the patient's right, +1 for the left.

Every quantity that a finding changes (heart width, depth of the diaphragm, air, lines) also varies between healthy
people, so that a mild finding and a healthy variant can look alike.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.phantom.canvas import curve
from data_prep.phantom.population import Patient, Visit

SIDES = (-1, 1)

# Shapes of an average adult, PA, full inspiration. Lung: (share of the half-width, share of the height).
_LUNG_LATERAL = np.array(
    [(0.40, 0.0), (0.60, 0.035), (0.76, 0.12), (0.88, 0.27), (0.95, 0.46), (0.985, 0.66), (1.0, 0.84), (0.985, 1.0)]
)
_LUNG_MEDIAL = np.array([(0.15, 0.80), (0.145, 0.62), (0.14, 0.45), (0.15, 0.28), (0.18, 0.13), (0.25, 0.04)])
_DOME = np.array([(0.93, -0.045), (0.78, -0.105), (0.58, -0.145), (0.36, -0.14), (0.19, -0.10)])
_HEART = np.c_[
    [-0.040, -0.078, -0.092, -0.080, -0.030, 0.06, 0.145, 0.195, 0.198, 0.165, 0.118, 0.074, 0.040],
    [0.40, 0.48, 0.57, 0.66, 0.72, 0.745, 0.735, 0.695, 0.64, 0.555, 0.475, 0.415, 0.375],
]
_HEART_WIDTH = 0.290  # of the outline above, right border to apex


@dataclass(frozen=True)
class Vessels:
    """One generation of m vessels."""

    side: np.ndarray  # (m,), -1 or +1
    lines: np.ndarray  # (m, 5, 2), in the lung's coordinates (`Chest.in_lung`)
    width: float  # in image widths


@dataclass(frozen=True)
class Body:
    """The body of a patient, the same in all images; lengths in image widths, the rest relative to an average adult."""

    female: bool
    age: int
    build: float  # standard deviations: -2 thin, +2 stout
    half_width: float  # of the lungs, at the widest
    apex: float
    height: float  # of the lungs, from apex to the costophrenic angle
    heart_ratio: float  # heart's width by the chest's
    heart_turn: float
    knob: float  # radius of the aortic knob
    dome: float
    rib_drop: float
    rib_pitch: float
    bone: float
    vessel: float
    bubble: float  # radius of the gastric bubble; none below 0.02
    breast: float
    scoliosis: float
    air: float  # how transparent the lungs are
    vessels: tuple[Vessels, ...]


@dataclass(frozen=True)
class Chest:
    """The geometry of the chest in one image."""

    body: Body
    portable: bool
    half_width: float
    apex: float
    base: float
    heart_width: float
    heart_turn: float
    dome: tuple[float, float]  # right and left, relative to an average adult
    mediastinum: float  # shift to the viewer's right
    air: float
    vessel: float
    reach: float  # of the arms, sideways
    blur: float  # by motion; softness of everything

    def lung(self, side: int) -> np.ndarray:
        """Return the outline of one lung, (points, 2)."""
        height = self.base - self.apex
        medial = _LUNG_MEDIAL * (self.half_width, height) + (0, self.apex)
        lateral = _LUNG_LATERAL * (self.half_width, height) + (0, self.apex)
        dome = _DOME * (self.half_width, self.dome[side > 0]) + (0, self.base)
        medial[0, 1] = min(medial[0, 1], dome[-1, 1] - 0.02)
        outline = curve(np.concatenate([lateral, dome, medial]))
        outline[:, 0] = side * outline[:, 0] + self.mediastinum * np.clip(1 - outline[:, 0] / self.half_width, 0, 1)
        return outline

    def in_lung(self, side: int | np.ndarray, across: np.ndarray | float, down: np.ndarray | float) -> np.ndarray:
        """Convert a lung's coordinates, across (0 medial, 1 chest wall) and down (0 apex, 1 base), to points (…, 2)."""
        y = self.apex + np.asarray(down) * (self.base - self.apex)
        wall = self.wall(y)
        inner = 0.15 * self.half_width
        return np.stack([side * (inner + np.asarray(across) * (wall - inner)), y], -1)

    def wall(self, y: np.ndarray | float) -> np.ndarray:
        """Return the distance of the inner chest wall from the midline at height y."""
        down = (np.asarray(y) - self.apex) / (self.base - self.apex)
        return self.half_width * np.interp(down, _LUNG_LATERAL[:, 1], _LUNG_LATERAL[:, 0])

    def heart(self) -> np.ndarray:
        """Return the outline of the heart, (points, 2); it rests on the diaphragm."""
        wide = self.heart_width / _HEART_WIDTH
        high = (self.base - self.apex) / 0.68
        around = np.array([0.02, 0.735])
        cos, sin = np.cos(self.heart_turn), np.sin(self.heart_turn)
        points = (_HEART - around) @ np.array([[cos, sin], [-sin, cos]])
        low = np.clip(1 + points[:, 1:] / 0.30, 0, 1)  # 0 at the great vessels, which do not widen, 1 at the floor
        points = points * np.concatenate([1 + (wide - 1) * low**0.7, np.full_like(low, high * (0.75 + 0.25 * wide))], 1)
        floor = self.base - 0.055
        return curve(points + (0.02 + self.mediastinum, floor))


def draw_body(patient: Patient) -> Body:
    """Draw the body of a patient: a pure function of the population's seed and the patient's number."""
    rng = patient.generator("body")
    female = patient.sex == "F"
    age = patient.visits[0].age
    build = float(np.clip(rng.normal(), -2, 2.2))
    old = (age - 45) / 20
    return Body(
        female=female,
        age=age,
        build=build,
        half_width=float(rng.normal(0.345, 0.013)) - 0.008 * female,
        apex=float(rng.normal(0.115, 0.012)),
        height=float(rng.normal(0.685, 0.03)) - 0.02 * female - 0.012 * build,
        heart_ratio=float(np.clip(rng.normal(0.432 + 0.012 * old + 0.008 * build, 0.028), 0.35, 0.55)),
        heart_turn=float(rng.normal(0.03 * build, 0.08)),
        knob=float(np.clip(rng.normal(0.030 + 0.005 * old, 0.004), 0.02, 0.055)),
        dome=float(rng.normal(1.0, 0.15)),
        rib_drop=float(rng.normal(0.105, 0.018)),
        rib_pitch=float(rng.normal(0.0665, 0.003)),
        bone=float(np.clip(rng.normal(1 - 0.12 * old, 0.15), 0.5, 1.5)),
        vessel=float(np.clip(rng.normal(1, 0.2), 0.5, 1.6)),
        bubble=float(rng.normal(0.035, 0.02)),
        breast=float(np.clip(rng.normal(0.11 + 0.02 * build, 0.025), 0.05, 0.2)) if female else 0.0,
        scoliosis=float(rng.normal(0, 0.008)),
        air=float(rng.normal(1, 0.05)),
        vessels=_grow_vessels(rng),
    )


def draw_chest(patient: Patient, visit: Visit, body: Body) -> Chest:
    """Draw the healthy geometry of one visit: inspiration and projection differ from visit to visit."""
    rng = patient.generator("chest", visit.number)
    portable = visit.view == "AP"
    inspiration = float(rng.normal(-0.055 if portable else 0.0, 0.022))
    half_width = body.half_width * float(rng.normal(1, 0.012))
    magnified = 1.11 if portable else 1.0
    return Chest(
        body=body,
        portable=portable,
        half_width=half_width,
        apex=body.apex,
        base=body.apex + body.height + inspiration,
        heart_width=2 * half_width * body.heart_ratio * magnified * (1 - 0.7 * inspiration),
        heart_turn=body.heart_turn - 1.5 * inspiration,
        dome=(body.dome * float(rng.normal(1.08, 0.1)), body.dome * float(rng.normal(0.92, 0.1))),
        mediastinum=float(rng.normal(0, 0.008)),
        air=body.air * (1 + 1.2 * inspiration) * float(rng.normal(1, 0.03)),
        vessel=body.vessel * (1 - 2 * inspiration) * float(rng.normal(1, 0.08)),
        reach=float(rng.normal(0.59 if portable else 0.67, 0.045)),
        blur=float(abs(rng.normal(0, 0.0022 if portable else 0.001))),
    )


def _grow_vessels(rng: np.random.Generator) -> tuple[Vessels, ...]:
    """Draw the branching vessels of both lungs, one entry per generation, the thinnest first."""
    stems = 11  # per lung, fanned out from the hilum
    side = np.repeat(SIDES, stems)
    fan = np.concatenate([np.linspace(-1.5, -0.45, 4), np.linspace(-0.2, 0.35, 2), np.linspace(0.55, 1.5, 5)])
    angle = np.tile(fan, 2) + rng.normal(0, 0.10, 2 * stems)
    start = np.stack([np.full(2 * stems, 0.08), np.where(side < 0, 0.44, 0.41)], 1)
    start = start + rng.normal(0, 0.025, start.shape)
    width, length = 0.0088, 0.15
    generations: list[Vessels] = []
    for _ in range(4):
        bends = angle[:, None] + np.cumsum(rng.normal(0, 0.16, (len(angle), 4)), 1)
        reach = length * rng.uniform(0.7, 1.3, (len(angle), 1)) / 4
        steps = np.stack([1.25 * reach * np.cos(bends), reach * np.sin(bends)], 2)
        lines = np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, 1)], 1)
        generations.append(Vessels(side, lines, width))
        ends = lines[:, -1]
        growing = (ends[:, 0] < 0.97) & (ends[:, 0] > 0) & (ends[:, 1] > 0.02) & (ends[:, 1] < 1)
        fork = rng.uniform(0.2, 0.55, (len(angle), 2)) * (1, -1)
        angle = (bends[:, -1:] + fork)[growing].ravel()
        start, side = np.repeat(ends[growing], 2, axis=0), np.repeat(side[growing], 2)
        width, length = 0.66 * width, 0.80 * length
    return tuple(reversed(generations))
