"""The healthy chest: one body per patient, one geometry per image, and its layers of absorption.

Coordinates are those of `phantom_canvas`: image widths, x from the midline to the viewer's right, so that the
patient's right is at negative x. `side` is -1 for the patient's right, +1 for the left.

Every quantity that a finding changes (heart width, depth of the diaphragm, air, lines) also varies between healthy
people, so that a mild finding and a healthy variant can look alike.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.phantom.canvas import Canvas, curve
from data_prep.phantom.population import Patient, Visit

SIDES = (-1, 1)

# Shapes of an average adult, PA, full inspiration. Lung: (share of the half-width, share of the height).
_LUNG_LATERAL = np.array(
    [(0.40, 0.0), (0.60, 0.035), (0.76, 0.12), (0.88, 0.27), (0.95, 0.46), (0.985, 0.66), (1.0, 0.84), (0.985, 1.0)]
)
_LUNG_MEDIAL = np.array([(0.15, 0.80), (0.145, 0.62), (0.14, 0.45), (0.15, 0.28), (0.18, 0.13), (0.25, 0.04)])
_DOME = np.array([(0.93, -0.045), (0.78, -0.105), (0.58, -0.145), (0.36, -0.14), (0.19, -0.10)])
_HEART = np.array(
    [
        (-0.040, 0.40), (-0.078, 0.48), (-0.092, 0.57), (-0.080, 0.66), (-0.030, 0.72), (0.06, 0.745),
        (0.145, 0.735), (0.195, 0.695), (0.198, 0.64), (0.165, 0.555), (0.118, 0.475), (0.074, 0.415), (0.040, 0.375),
    ]
)  # fmt: skip
_HEART_WIDTH = 0.290  # of the outline above, right border to apex
_CLAVICLE = np.array([(0.030, 0.185), (0.085, 0.165), (0.15, 0.158), (0.22, 0.140), (0.285, 0.108), (0.335, 0.098)])
_SCAPULA = np.array(
    [(0.39, 0.15), (0.44, 0.16), (0.45, 0.24), (0.41, 0.36), (0.375, 0.45), (0.362, 0.42), (0.365, 0.29)]
)


@dataclass(frozen=True)
class Vessels:
    """One generation of vessels: side (m,), lines (m, 5, 2) in the lung's coordinates (Chest.in_lung), width."""

    side: np.ndarray
    lines: np.ndarray
    width: float


@dataclass(frozen=True)
class Body:
    """What stays with a patient; lengths in image widths, the rest relative to an average adult (1)."""

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
    """The geometry of one image. `dome` is per side (right, left), relative to an average adult."""

    body: Body
    portable: bool
    half_width: float
    apex: float
    base: float
    heart_width: float
    heart_turn: float
    dome: tuple[float, float]
    mediastinum: float  # shift to the viewer's right
    air: float
    vessel: float
    reach: float  # of the arms, sideways
    blur: float  # by motion; softness of everything

    def lung(self, side: int) -> np.ndarray:
        """Outline of one lung, (points, 2)."""
        height = self.base - self.apex
        medial = _LUNG_MEDIAL * (self.half_width, height) + (0, self.apex)
        lateral = _LUNG_LATERAL * (self.half_width, height) + (0, self.apex)
        dome = _DOME * (self.half_width, self.dome[side > 0]) + (0, self.base)
        medial[0, 1] = min(medial[0, 1], dome[-1, 1] - 0.02)
        outline = curve(np.concatenate([lateral, dome, medial]))
        outline[:, 0] = side * outline[:, 0] + self.mediastinum * np.clip(1 - outline[:, 0] / self.half_width, 0, 1)
        return outline

    def in_lung(self, side: int | np.ndarray, across: np.ndarray | float, down: np.ndarray | float) -> np.ndarray:
        """From a lung's own coordinates, across (0 medial, 1 chest wall) and down (0 apex, 1 base), to (…, 2)."""
        y = self.apex + np.asarray(down) * (self.base - self.apex)
        wall = self.wall(y)
        inner = 0.15 * self.half_width
        return np.stack([side * (inner + np.asarray(across) * (wall - inner)), y], -1)

    def wall(self, y: np.ndarray | float) -> np.ndarray:
        """Distance of the inner chest wall from the midline at height y."""
        down = (np.asarray(y) - self.apex) / (self.base - self.apex)
        return self.half_width * np.interp(down, _LUNG_LATERAL[:, 1], _LUNG_LATERAL[:, 0])

    def heart(self) -> np.ndarray:
        """Outline of the heart, (points, 2); it lies on the diaphragm."""
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
    """The body of a patient: a pure function of the population's seed and the patient's number."""
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
    """The healthy geometry of one visit: inspiration and projection differ from visit to visit."""
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
    """Branching vessels of both lungs, one entry per generation, the thinnest first."""
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


@dataclass
class Layers:
    """The layers of one image, each (size, size) float32; findings change them before they are exposed.

    lung: (2, size, size), 1 inside the right and the left lung. air: how much air the beam crosses, 0 to about 1.
    haze: share of that air replaced by fluid or cells, below 0 where there is more air. vessels: absorption by
    vessels. bones, core (heart, great vessels, hila), tissue (body wall), added (anything on top): absorption.
    """

    canvas: Canvas
    chest: Chest
    lung: np.ndarray
    air: np.ndarray
    haze: np.ndarray
    vessels: np.ndarray
    bones: np.ndarray
    core: np.ndarray
    tissue: np.ndarray
    added: np.ndarray

    def lung_of(self, side: int) -> np.ndarray:
        """(size, size), 1 inside the lung of one side."""
        layer: np.ndarray = self.lung[SIDES.index(side)]
        return layer

    def half(self, side: int) -> np.ndarray:
        """(size, size) bool, one side of the midline: what fills air there cannot leave a rim along the lung's edge."""
        here: np.ndarray = side * self.canvas.x > 0
        return here

    def absorption(self) -> np.ndarray:
        """What the beam loses on its way, 0 in open air, about 1 in the mediastinum."""
        free = self.air * (1 - np.minimum(self.haze, 1))
        lungs = free * (1 - self.core) * (1 - self.vessels)
        return (
            self.tissue * (1.0 - np.float32(0.62 * self.chest.air) * lungs) + 0.13 * self.core + self.bones + self.added
        )


def draw_layers(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Layers:
    """All layers of a healthy chest; rng draws the mottle of lung and soft tissue."""
    lung = np.stack([canvas.area(chest.lung(side), softness=0.002 + chest.blur) for side in SIDES])
    both = np.maximum(lung[0], lung[1])
    depth = np.maximum(canvas.depth(lung[0], 0.11), canvas.depth(lung[1], 0.11))
    return Layers(
        canvas=canvas,
        chest=chest,
        lung=lung,
        air=both * (0.52 + 0.48 * depth) * (1 + np.float32(0.035) * canvas.texture(rng, 0.014)),
        haze=np.zeros_like(both),
        vessels=_vessel_layer(canvas, chest),
        bones=_bone_layer(canvas, chest),
        core=_core_layer(canvas, chest),
        tissue=_tissue_layer(canvas, chest) * (1 + np.float32(0.025) * canvas.texture(rng, 0.10)),
        added=_belly_layer(canvas, chest),
    )


def _tissue_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Thickness of the body: skin line, shoulders, arms, breasts; thicker towards the belly."""
    build = chest.body.build
    flank = chest.half_width + 0.100 + 0.024 * build
    neck, arm = 0.120 + 0.010 * build, chest.reach
    half = np.array(
        [(neck + 0.01, -0.3), (neck, -0.08), (neck + 0.025, 0.0), (0.25, 0.045), (0.41, 0.07), (0.52, 0.11),
         (0.58, 0.26), (flank + 0.085, 0.38), (flank + 0.045, 0.50), (flank + 0.018, 0.65), (flank + 0.005, 0.8),
         (flank + 0.02, 1.4)]
    )  # fmt: skip
    trunk = np.concatenate([curve(half, closed=False), curve(half * (-1, 1), closed=False)[::-1]])
    arms = [
        curve(np.array([(s * 0.40, 0.14), (s * 0.52, 0.10), (s * (arm - 0.02), 0.45), (s * (arm + 0.06), 0.9),
                        (s * (arm - 0.09), 0.9), (s * (arm - 0.135), 0.5), (s * 0.45, 0.30)]))
        for s in SIDES
    ]  # fmt: skip
    body = canvas.area(trunk, *arms, softness=0.005)
    thickness = canvas.depth(body, 0.15) * body
    slope = 0.92 + 0.10 * np.clip(canvas.y, 0, 1) + 0.05 * build * np.clip(canvas.y - 0.3, 0, 1)
    layer = thickness * (0.35 + 0.65 * thickness) * slope
    if chest.body.female:
        layer += _breast_layer(canvas, chest) * body
    return layer


def _breast_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    size = chest.body.breast
    x, y = 0.60 * chest.half_width, chest.apex + 0.60 * chest.body.height
    around = np.array([(-0.8, -0.2), (0, -1), (1.2, -0.3), (1.15, 0.55), (0, 1), (-0.75, 0.6)])
    outlines = [curve((around * size + (x, y)) * (side, 1)) for side in SIDES]
    lower = np.clip((canvas.y - np.float32(y - size)) / np.float32(2 * size), 0, 1)
    return canvas.area(*outlines, softness=0.006) * lower * np.float32(1.5 * size)


def _core_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Opacity of the mediastinum: heart, great vessels, hila; what it covers shows little air."""
    shift = chest.mediastinum
    knob = chest.body.knob
    arch = chest.apex + 0.205
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    aorta = np.stack([0.045 + shift + knob * np.cos(around), arch + 1.15 * knob * np.sin(around)], 1)
    right = np.array([(-0.052, 0.10), (-0.050, 0.18), (-0.058, 0.30), (-0.066, 0.45), (-0.05, 1.2)])
    left = np.array([(0.058, 1.2), (0.058 + 0.3 * knob, 0.6), (0.05 + 0.5 * knob, 0.40), (0.052, 0.26), (0.050, 0.10)])
    column = np.concatenate([right, left])
    sharp = canvas.area(chest.heart(), aorta, column + (shift, 0), softness=0.0035 + chest.blur)
    trunk = canvas.area(*(_hilum(chest, side) for side in SIDES), softness=0.013)
    sharp *= np.clip((canvas.y - np.float32(0.10)) * np.float32(1 / 0.14), 0, 1)  # the neck has none of it
    return np.maximum(np.float32(0.84) * sharp, np.float32(0.38 * chest.vessel) * trunk)


def _hilum(chest: Chest, side: int) -> np.ndarray:
    across = np.array([0.0, 0.12, 0.17, 0.20, 0.17, 0.10, 0.0])
    down = np.array([0.33, 0.35, 0.39, 0.45, 0.54, 0.60, 0.56]) - (0.025 if side > 0 else 0.0)
    return curve(chest.in_lung(side, across, down))


def _vessel_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    bundles = []
    for vessels in chest.body.vessels:
        points = chest.in_lung(vessels.side[:, None], vessels.lines[:, :, 0], vessels.lines[:, :, 1])
        bundles.append((points, vessels.width * chest.vessel, 0.30 + 45 * vessels.width))
    return canvas.lines(bundles, softness=0.0022 + chest.blur) * np.float32(0.55)


def _bone_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Ribs behind and in front, clavicles, shoulder blades, upper arms and the spine."""
    soft = 0.0014 + chest.blur
    ribs = canvas.bands(_posterior_ribs(chest), 0.60, 1.0, 0.0035, soft) * np.float32(0.105)
    ribs += canvas.bands(_anterior_ribs(chest), 0.80, 1.0, 0.003, 2.5 * soft) * np.float32(0.055)
    ribs *= np.clip((chest.base + 0.06 - canvas.y) * np.float32(5), 0.15, 1)  # the belly's scatter hides the last
    limbs = canvas.bands(_both_sides(_humerus(), curve(_clavicle(chest))), 0.75, 1.0, 0.004, soft)
    blades = _SCAPULA - (0.045 if chest.portable else 0.0, 0)
    blade = canvas.bands(_both_sides(curve(blades)), 0.6, 1.0, 0.004, 2 * soft)
    strength = np.float32(chest.body.bone)
    return strength * (ribs + 0.13 * limbs + 0.05 * blade + _spine_layer(canvas, chest))


def _both_sides(*outlines: np.ndarray) -> np.ndarray:
    """Outlines (points, 2) of the left and, mirrored, of the right, resampled to one number of points."""
    length = max(len(outline) for outline in outlines)
    same = [outline[np.arange(length) * len(outline) // length] for outline in outlines]
    return np.stack([outline * (side, 1) for outline in same for side in SIDES])


def _posterior_ribs(chest: Chest) -> np.ndarray:
    """(22, points, 2): from the spine outwards and down."""
    body = chest.body
    number, along = np.arange(11)[:, None], np.linspace(0, 1, 9)
    start = chest.apex - 0.005 + number * body.rib_pitch
    drop = body.rib_drop * (0.45 + 0.09 * number)
    y = start - 0.020 * np.sin(np.pi * np.minimum(along * 1.4, 1)) + drop * along**2.6
    wall = chest.wall(np.clip(y[:, -1:], chest.apex + 0.03, chest.base)) + 0.012
    x = 0.030 + (wall - 0.030) * np.sin(along * np.pi / 2) ** 0.9
    ribs = _band(np.stack([x, y], 2), np.full(9, 0.0105))
    return np.concatenate([ribs, ribs * (-1, 1)])


def _anterior_ribs(chest: Chest) -> np.ndarray:
    """(14, points, 2): from the wall inwards and down, ending where cartilage begins."""
    body = chest.body
    number, along = np.arange(1, 8)[:, None], np.linspace(0, 1, 7)
    start = chest.apex + 0.015 + number * body.rib_pitch + body.rib_drop * (0.45 + 0.09 * number)
    y = start + (0.075 + 0.012 * number) * along**0.8
    wall = chest.wall(np.clip(start, chest.apex + 0.03, chest.base)) + 0.012
    inner = 0.09 + 0.018 * number
    x = inner + (wall - inner) * np.cos(along * np.pi / 2) ** 0.8
    ribs = _band(np.stack([x, y], 2), 0.011 + 0.003 * along)
    return np.concatenate([ribs, ribs * (-1, 1)])


def _band(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Outlines (..., 2n, 2) of bands around centre lines (..., n, 2) with half-widths (n,)."""
    direction = np.gradient(centre, axis=-2)
    across = np.stack([-direction[..., 1], direction[..., 0]], -1)
    across *= (half / np.hypot(direction[..., 0], direction[..., 1]))[..., None]
    return np.concatenate([centre + across, (centre - across)[..., ::-1, :]], -2)


def _clavicle(chest: Chest) -> np.ndarray:
    line = _CLAVICLE + (0, chest.apex - 0.125 + (0.02 if chest.portable else 0.035))
    outline: np.ndarray = _band(line, np.array([0.014, 0.010, 0.008, 0.009, 0.011, 0.010]))
    return outline


def _humerus() -> np.ndarray:
    outline = [(0.415, 0.165), (0.445, 0.140), (0.48, 0.150), (0.50, 0.195), (0.525, 0.34), (0.60, 0.7),
               (0.565, 0.7), (0.49, 0.36), (0.455, 0.235), (0.42, 0.200)]  # fmt: skip
    return curve(np.array(outline))


def _spine_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Vertebrae, seen faintly through the mediastinum, less the air of the trachea and the main bronchi."""
    pitch = chest.body.rib_pitch
    y = chest.apex - 2.5 * pitch + pitch * np.arange(17)[:, None]
    x = chest.body.scoliosis * np.sin(5 * y)
    half = 0.030 + 0.0006 * np.arange(17)[:, None]
    right = np.array([(-1, 0.42), (-0.9, 0.0), (-1, -0.42), (-0.8, -0.36)])
    around = np.concatenate([right, right[::-1] * (-1, 1)])
    vertebrae = np.stack([x + half * around[:, 0], y + pitch * around[:, 1]], 2)
    column = canvas.bands(vertebrae, 0.65, 1.0, 0.003, 0.0025 + chest.blur)
    shift = chest.mediastinum
    airway = [
        (np.array([(shift * 0.5, -0.1), (shift * 0.6, 0.1), (shift + 0.004, 0.365)]), 0.030, 1.0),
        (np.array([(shift + 0.004, 0.36), (shift - 0.045, 0.425)]), 0.018, 0.8),
        (np.array([(shift + 0.004, 0.36), (shift + 0.055, 0.43)]), 0.016, 0.8),
    ]
    return np.float32(0.055) * column - np.float32(0.10) * canvas.lines(airway, softness=0.005)


def _belly_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Below the diaphragm: the liver's extra thickness and the gas of stomach and bowel."""
    layer = np.clip((canvas.y - np.float32(chest.base - 0.1)) * np.float32(0.35), 0, 0.10)
    radius = chest.body.bubble
    if radius > 0.02:
        top = chest.base - 0.145 * chest.dome[1] + 0.022
        bubble = np.array([(0.10, top + 0.5 * radius), (0.14, top), (0.19, top + 0.004), (0.22, top + 0.8 * radius),
                           (0.20, top + 1.5 * radius), (0.12, top + 1.6 * radius)])  # fmt: skip
        layer = layer - 0.22 * canvas.area(curve(bubble), softness=0.005)
    return layer
