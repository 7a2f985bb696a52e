"""Layers of absorption of a healthy chest: lungs, vessels, bones, mediastinum, soft tissue.

Coordinates and sides are those of `data_prep.phantom.anatomy`.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.phantom.anatomy import SIDES, Chest
from data_prep.phantom.canvas import Canvas, curve

# Shapes of an average adult, PA, full inspiration.
_CLAVICLE = np.array([(0.030, 0.185), (0.085, 0.165), (0.15, 0.158), (0.22, 0.140), (0.285, 0.108), (0.335, 0.098)])
_SCAPULA = np.array(
    [(0.39, 0.15), (0.44, 0.16), (0.45, 0.24), (0.41, 0.36), (0.375, 0.45), (0.362, 0.42), (0.365, 0.29)]
)
_HUMERUS = np.c_[
    [0.415, 0.445, 0.48, 0.50, 0.525, 0.60, 0.565, 0.49, 0.455, 0.42],
    [0.165, 0.140, 0.150, 0.195, 0.34, 0.7, 0.7, 0.36, 0.235, 0.200],
]


@dataclass
class Layers:
    """The layers of one image, each (size, size) float32; findings change them before the film is exposed."""

    canvas: Canvas
    chest: Chest
    lung: np.ndarray  # (2, size, size), 1 inside the right and the left lung
    air: np.ndarray  # amount of air that the beam crosses, 0 to about 1
    haze: np.ndarray  # share of that air replaced by fluid or cells; below 0 where there is more air
    vessels: np.ndarray  # absorption by vessels; below, absorption by the others
    bones: np.ndarray
    core: np.ndarray  # heart, great vessels and hila
    tissue: np.ndarray  # the body wall
    added: np.ndarray  # everything else

    def lung_of(self, side: int) -> np.ndarray:
        """Return (size, size), 1 inside the lung of one side."""
        return self.lung[SIDES.index(side)]

    def half(self, side: int) -> np.ndarray:
        """Return (size, size) bool, one side of the midline.

        A mask of half the image, unlike a mask of the lung, leaves no rim along the edge of the lung.
        """
        return side * self.canvas.x > 0

    def absorption(self) -> np.ndarray:
        """Return the absorption of the beam: 0 in open air, about 1 in the mediastinum."""
        free = self.air * (1 - np.minimum(self.haze, 1))
        lungs = free * (1 - self.core) * (1 - self.vessels)
        return (
            self.tissue * (1.0 - np.float32(0.62 * self.chest.air) * lungs) + 0.13 * self.core + self.bones + self.added
        )


def draw_layers(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Layers:
    """Draw all layers of a healthy chest; `rng` draws the mottle of lung and soft tissue."""
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
        added=_abdomen_layer(canvas, chest),
    )


def _tissue_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Draw the thickness of the body: skin line, shoulders, arms, breasts; thicker towards the abdomen."""
    build = chest.body.build
    flank = chest.half_width + 0.100 + 0.024 * build
    neck, arm = 0.120 + 0.010 * build, chest.reach
    half = np.array(
        [
            (neck + 0.01, -0.3),
            (neck, -0.08),
            (neck + 0.025, 0.0),
            (0.25, 0.045),
            (0.41, 0.07),
            (0.52, 0.11),
            (0.58, 0.26),
            (flank + 0.085, 0.38),
            (flank + 0.045, 0.50),
            (flank + 0.018, 0.65),
            (flank + 0.005, 0.8),
            (flank + 0.02, 1.4),
        ]
    )
    trunk = np.concatenate([curve(half, closed=False), curve(half * (-1, 1), closed=False)[::-1]])
    arms = [
        curve(
            np.array(
                [
                    (s * 0.40, 0.14),
                    (s * 0.52, 0.10),
                    (s * (arm - 0.02), 0.45),
                    (s * (arm + 0.06), 0.9),
                    (s * (arm - 0.09), 0.9),
                    (s * (arm - 0.135), 0.5),
                    (s * 0.45, 0.30),
                ]
            )
        )
        for s in SIDES
    ]
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
    """Draw the opacity of the mediastinum (heart, great vessels, hila), which hides the air behind it."""
    shift = chest.mediastinum
    knob = chest.body.knob
    arch = chest.apex + 0.205
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    aorta = np.stack([0.045 + shift + knob * np.cos(around), arch + 1.15 * knob * np.sin(around)], 1)
    right = np.array([(-0.052, 0.10), (-0.050, 0.18), (-0.058, 0.30), (-0.066, 0.45), (-0.05, 1.2)])
    left = np.array([(0.058, 1.2), (0.058 + 0.3 * knob, 0.6), (0.05 + 0.5 * knob, 0.40), (0.052, 0.26), (0.050, 0.10)])
    column = np.concatenate([right, left]) + (shift, 0)
    sharp = canvas.area(chest.heart(), aorta, column, softness=0.0035 + chest.blur)
    trunk = canvas.area(*(_hilum(chest, side) for side in SIDES), softness=0.013)
    sharp *= np.clip((canvas.y - np.float32(0.10)) * np.float32(1 / 0.14), 0, 1)  # not in the neck
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
    """Draw posterior and anterior ribs, clavicles, shoulder blades, upper arms and the spine."""
    soft = 0.0014 + chest.blur
    ribs = canvas.bands(_posterior_ribs(chest), 0.60, 1.0, 0.0035, soft) * np.float32(0.105)
    ribs += canvas.bands(_anterior_ribs(chest), 0.80, 1.0, 0.003, 2.5 * soft) * np.float32(0.055)
    ribs *= np.clip(
        (chest.base + 0.06 - canvas.y) * np.float32(5), 0.15, 1
    )  # scatter from the abdomen hides the lowest ribs
    limbs = canvas.bands(_both_sides(curve(_HUMERUS), curve(_clavicle(chest))), 0.75, 1.0, 0.004, soft)
    blades = _SCAPULA - (0.045 if chest.portable else 0.0, 0)
    blade = canvas.bands(_both_sides(curve(blades)), 0.6, 1.0, 0.004, 2 * soft)
    strength = np.float32(chest.body.bone)
    return strength * (ribs + 0.13 * limbs + 0.05 * blade + _spine_layer(canvas, chest))


def _both_sides(*outlines: np.ndarray) -> np.ndarray:
    """Return outlines (points, 2) of the left side and their mirror images, resampled to one number of points."""
    length = max(len(outline) for outline in outlines)
    same = [outline[np.arange(length) * len(outline) // length] for outline in outlines]
    return np.stack([outline * (side, 1) for outline in same for side in SIDES])


def _posterior_ribs(chest: Chest) -> np.ndarray:
    """Return outlines (22, points, 2), from the spine outwards and down."""
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
    """Return outlines (14, points, 2), from the chest wall inwards and down to where the cartilage begins."""
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
    """Return outlines (..., 2n, 2) of bands around centre lines (..., n, 2) with half-widths (n,)."""
    direction = np.gradient(centre, axis=-2)
    across = np.stack([-direction[..., 1], direction[..., 0]], -1)
    across *= (half / np.hypot(direction[..., 0], direction[..., 1]))[..., None]
    return np.concatenate([centre + across, (centre - across)[..., ::-1, :]], -2)


def _clavicle(chest: Chest) -> np.ndarray:
    line = _CLAVICLE + (0, chest.apex - 0.125 + (0.02 if chest.portable else 0.035))
    return _band(line, np.array([0.014, 0.010, 0.008, 0.009, 0.011, 0.010]))


def _spine_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Draw the vertebrae, faint behind the mediastinum, minus the air of the trachea and the main bronchi."""
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


def _abdomen_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Draw the abdomen below the diaphragm: the thickness of the liver and the gas of the stomach."""
    layer = np.clip((canvas.y - np.float32(chest.base - 0.1)) * np.float32(0.35), 0, 0.10)
    radius = chest.body.bubble
    if radius > 0.02:
        top = chest.base - 0.145 * chest.dome[1] + 0.022
        bubble = np.c_[
            [0.10, 0.14, 0.19, 0.22, 0.20, 0.12],
            [top + 0.5 * radius, top, top + 0.004, top + 0.8 * radius, top + 1.5 * radius, top + 1.6 * radius],
        ]
        layer = layer - 0.22 * canvas.area(curve(bubble), softness=0.005)
    return layer
