"""The fourteen findings as they appear on a frontal radiograph.

A finding reshapes the chest before anything is drawn (a wide heart, a raised diaphragm), paints into the layers
afterwards (haze in place of air, lines, missing vessels), or does both. Its position is drawn once per patient, so
that it is in the same place at every visit; its strength follows from the visit's severity s in (0, 1).

`STRENGTH` alone sets the difficulty of the phantom: for each finding the strength at s = 0 (faint: many readers would
miss it) and at s = 1 (obvious). How strength scales size and contrast is defined by each finding's function; 0 is
invisible.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from data_prep.labels.table import FINDINGS
from data_prep.phantom.anatomy import SIDES, Chest
from data_prep.phantom.canvas import curve
from data_prep.phantom.layers import Layers

# (at severity 0, at severity 1); see docs/phantom.md for how they were set
STRENGTH: Mapping[str, tuple[float, float]] = {
    "Atelectasis": (0.10, 1.00),
    "Cardiomegaly": (0.05, 0.95),
    "Effusion": (0.05, 0.90),
    "Infiltration": (0.10, 1.00),
    "Mass": (0.10, 0.90),
    "Nodule": (0.30, 1.00),
    "Pneumonia": (0.10, 0.90),
    "Pneumothorax": (0.05, 0.90),
    "Consolidation": (0.15, 1.00),
    "Edema": (0.05, 0.80),
    "Emphysema": (0.10, 1.00),
    "Fibrosis": (0.15, 1.00),
    "Pleural_Thickening": (0.05, 1.00),
    "Hernia": (0.10, 1.00),
}

Rng = np.random.Generator


def strength(finding: str, severity: float) -> float:
    """Return the strength of a finding, for a severity in (0, 1)."""
    faint, obvious = STRENGTH[finding]
    return faint + (obvious - faint) * severity


def reshape(finding: str, chest: Chest, amount: float, rng: Rng) -> Chest:
    """Return the chest as the finding reshapes it; unchanged if the finding has no effect on the shape."""
    return _RESHAPES[finding](chest, amount, rng) if finding in _RESHAPES else chest


def paint(finding: str, layers: Layers, amount: float, rng: Rng) -> None:
    """Draw the finding into the layers."""
    if finding in _PAINTS:
        _PAINTS[finding](layers, amount, rng)


def _one_side(rng: Rng) -> int:
    return int(rng.choice(SIDES))


def _haze(layers: Layers, opacity: np.ndarray) -> None:
    """Fill air with `opacity`, in addition to earlier fillings."""
    layers.haze = 1 - (1 - layers.haze) * (1 - opacity)


# Atelectasis: plate-like bands in the lower lung, the diaphragm drawn up on that side
def _atelectasis_shape(chest: Chest, amount: float, rng: Rng) -> Chest:
    side = _one_side(rng)
    raised = tuple(0.55 * amount if own == side else 0.0 for own in SIDES)
    dome = (chest.dome[0] + raised[0], chest.dome[1] + raised[1])
    return replace(chest, dome=dome, mediastinum=chest.mediastinum + 0.015 * amount * side)


def _atelectasis(layers: Layers, amount: float, rng: Rng) -> None:
    side = _one_side(rng)
    plates = []
    for _ in range(int(rng.integers(2, 4))):
        across, down, slope = rng.uniform(0.10, 0.35), rng.uniform(0.56, 0.80), rng.uniform(-0.10, 0.16)
        reach = rng.uniform(0.35, 0.55)
        line = layers.chest.in_lung(
            side, across + reach * np.linspace(0, 1, 5), down + slope * np.linspace(0, 1, 5) ** 1.3
        )
        plates.append((curve(line, closed=False), rng.uniform(0.008, 0.014) * (0.6 + 0.5 * amount), 1.0))
    bands = layers.canvas.lines(plates, softness=0.0025)
    layers.added = layers.added + 0.19 * amount * bands * layers.lung_of(side)
    base = layers.canvas.blob(tuple(layers.chest.in_lung(side, 0.35, 0.80)), 0.09, 0.045)
    _haze(layers, 0.35 * amount * base)


# Cardiomegaly: a wide heart
def _cardiomegaly_shape(chest: Chest, amount: float, rng: Rng) -> Chest:
    widening = 1 + (0.10 + 0.32 * amount) * rng.uniform(0.85, 1.1)
    return replace(chest, heart_width=min(chest.heart_width * widening, 1.56 * chest.half_width))


# Effusion: fluid in the costophrenic angle with a meniscus; a veil when the patient lies
def _effusion(layers: Layers, amount: float, rng: Rng) -> None:
    first = _one_side(rng)
    sides = [(first, 1.0)] + ([(-first, rng.uniform(0.4, 0.9))] if rng.random() < 0.35 else [])
    chest, canvas = layers.chest, layers.canvas
    for side, share in sides:
        lateral = np.clip(np.float32(side) * canvas.x / chest.half_width, 0, 1.1)
        height = 0.015 + 0.30 * (amount * share) ** 1.3
        level = chest.base - 0.010 - height * (0.25 + 0.75 * lateral**3) + 0.07 * (1 - lateral)
        fluid = np.clip((canvas.y - level) * np.float32(1 / 0.028) + 0.5, 0, 1)
        if chest.portable:
            veil = 0.30 * amount * share * np.clip((canvas.y - chest.apex - 0.15) / 0.45, 0, 1)
            fluid = np.maximum(fluid, veil)
        _haze(layers, fluid * layers.half(side))


# Infiltration: an ill-defined hazy patch
def _infiltration(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    for _ in range(int(rng.integers(1, 4))):
        centre = chest.in_lung(_one_side(rng), rng.uniform(0.2, 0.7), rng.uniform(0.35, 0.85))
        wide, high = rng.uniform(0.045, 0.085), rng.uniform(0.045, 0.095)
        patch = canvas.blob(tuple(centre), wide, high, rng.uniform(0, np.pi))
        grain = 1 + 0.45 * canvas.texture(rng, 0.03)
        _haze(layers, np.clip(0.50 * amount * patch * grain, 0, 0.9))


# Mass (over 3 cm) and Nodule (up to 3 cm; the film is about 38 cm wide): round opacities
def _round(layers: Layers, centre: np.ndarray, radius: float, lobes: float, rng: Rng) -> np.ndarray:
    around = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    bumps = 1 + lobes * np.sin(around[:, None] * (2, 3, 5) + rng.uniform(0, 6.3, 3)) @ (0.5, 0.35, 0.25)
    outline = centre + radius * bumps[:, None] * np.stack([np.cos(around), np.sin(around)], 1)
    return layers.canvas.area(curve(outline, steps=3), softness=0.004 + 0.06 * radius)


def _mass(layers: Layers, amount: float, rng: Rng) -> None:
    centre = layers.chest.in_lung(_one_side(rng), rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.75))
    radius = (0.042 + 0.045 * amount) * rng.uniform(0.9, 1.15)
    lump = _round(layers, centre, radius, 0.16, rng) * layers.lung.max(0)
    layers.added = layers.added + (0.10 + 0.20 * amount) * lump
    _haze(layers, 0.35 * amount * lump)


def _nodule(layers: Layers, amount: float, rng: Rng) -> None:
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        centre = layers.chest.in_lung(_one_side(rng), rng.uniform(0.2, 0.85), rng.uniform(0.15, 0.82))
        radius = (0.013 + 0.021 * amount) * rng.uniform(0.85, 1.15)
        lump = _round(layers, centre, radius, 0.10, rng) * layers.lung.max(0)
        layers.added = layers.added + (0.10 + 0.26 * amount) * lump


# Pneumonia: a cluster of fluffy spots that run together in one zone
def _pneumonia(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    centre = chest.in_lung(_one_side(rng), rng.uniform(0.3, 0.65), rng.uniform(0.45, 0.78))
    spots = rng.normal(0, 1, (16, 2)) * (0.042, 0.05) * (0.8 + 0.4 * amount) + centre
    radii = rng.uniform(0.010, 0.022, 16)
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    fluff = canvas.area(*(spot + radius * ring for spot, radius in zip(spots, radii, strict=True)), softness=0.007)
    ground = canvas.blob(tuple(centre), 0.07, 0.075)
    _haze(layers, np.clip(amount * (0.62 * fluff + 0.42 * ground), 0, 0.95))


# Pneumothorax: the visceral pleural line, and beyond it air without vessels
def _pneumothorax(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    side = _one_side(rng)
    gap, end = 0.10 + 0.36 * amount, 0.38 + 0.55 * amount
    down = np.linspace(0.0, end, 9)
    inner = 1 - gap * (1 - (down / end) ** 2.2) * rng.uniform(0.9, 1.1)
    top = 0.05 + 0.16 * amount
    edge = chest.in_lung(side, inner, np.maximum(down, top * (1 - down / end)))
    apex = chest.in_lung(side, np.array([0.05, 0.3]), np.array([top * 1.15, top * 0.95]))
    line = curve(np.concatenate([apex, edge]), closed=False)
    outside = np.array([(side * 0.6, line[-1, 1]), (side * 0.6, -0.1), (0.0, -0.1)])
    free = canvas.area(np.concatenate([line, outside]), softness=0.002) * layers.half(side)
    layers.vessels = layers.vessels * (1 - free)
    layers.haze = layers.haze - (0.10 + 0.16 * amount) * free
    pleura = canvas.lines([(line, 0.0045, 1.0)], softness=0.0012) * layers.lung_of(side)
    layers.added = layers.added + (0.07 + 0.09 * amount) * pleura
    collapsed = layers.half(side) * (1 - free) * canvas.blob(tuple(chest.in_lung(side, 0.3, 0.45)), 0.12, 0.2)
    _haze(layers, 0.25 * amount * collapsed)


# Consolidation: a dense lobe, sharp at the fissure, with air bronchograms
def _consolidation(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    side, upper = _one_side(rng), bool(rng.random() < 0.4)
    fissure, tilt = (rng.uniform(0.40, 0.48), 0.02) if upper else (rng.uniform(0.52, 0.62), 0.10)
    depth = 0.16 + 0.16 * amount
    down = (fissure, fissure - depth) if upper else (fissure, fissure + depth)
    across = np.array([0.02, 0.35, 0.75, 1.02])
    border = chest.in_lung(side, across, down[0] + tilt * across)
    far = chest.in_lung(side, across[::-1], down[1] + 0.6 * tilt * across[::-1])
    lobe = canvas.area(np.concatenate([border, far]), softness=0.004)
    fading = canvas.soften(lobe, 0.03) * lobe * (1 + 0.12 * canvas.texture(rng, 0.05))
    hilum = np.array([0.05, 0.43])
    ends = np.stack([rng.uniform(0.35, 0.8, 5), rng.uniform(min(down), max(down), 5)], 1)
    airways = [
        (chest.in_lung(side, *(hilum + t * (end - hilum)).T), 0.008, 1.0)
        for end in ends
        for t in [np.linspace(0.1, 1, 4)[:, None]]
    ]
    bronchograms = canvas.lines(airways, softness=0.002)
    opacity = 0.95 * amount * fading * (1 - 0.45 * bronchograms)
    _haze(layers, np.clip(opacity, 0, 0.95) * layers.half(side))


# Edema: haze around both hila, swollen vessels, Kerley B lines at the bases
def _edema(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    for side in SIDES:
        wing = canvas.blob(tuple(chest.in_lung(side, 0.30, 0.52)), 0.085, 0.15, side * 0.15)
        _haze(layers, np.clip(0.62 * amount * wing * (1 + 0.25 * canvas.texture(rng, 0.025)), 0, 0.9))
    down = np.tile(np.arange(0.72, 0.93, 0.022), 2)[:, None] + rng.normal(0, 0.004, (20, 1))
    across = np.concatenate([rng.uniform(0.84, 0.9, (20, 1)), np.ones((20, 1))], 1)
    kerley = chest.in_lung(np.repeat(SIDES, 10)[:, None], across, down + (0.006, 0.0))
    lines = canvas.lines([(kerley, 0.003, 1.0)], softness=0.001)
    layers.added = layers.added + 0.10 * amount * lines * layers.lung.max(0)
    layers.vessels = layers.vessels * (1 + 0.7 * amount)


# Emphysema: large, dark lungs on flat diaphragms, a narrow heart, few vessels
def _emphysema_shape(chest: Chest, amount: float, rng: Rng) -> Chest:
    return replace(
        chest,
        base=chest.base + 0.065 * amount,
        half_width=chest.half_width * (1 + 0.035 * amount),
        dome=(chest.dome[0] * (1 - 0.62 * amount), chest.dome[1] * (1 - 0.62 * amount)),
        heart_width=chest.heart_width * (1 - 0.18 * amount),
        heart_turn=chest.heart_turn - 0.15 * amount,
        air=chest.air * (1 + 0.16 * amount),
        vessel=chest.vessel * (1 - 0.40 * amount),
    )


def _emphysema(layers: Layers, amount: float, rng: Rng) -> None:
    for side in SIDES:
        centre = layers.chest.in_lung(side, rng.uniform(0.5, 0.8), rng.uniform(0.15, 0.3))
        bulla = layers.canvas.blob(tuple(centre), 0.06, 0.075)
        layers.vessels = layers.vessels * (1 - 0.7 * amount * bulla)
        layers.haze = layers.haze - 0.12 * amount * bulla


# Fibrosis: a net of fine lines at the bases and the periphery, with less lung
def _fibrosis_shape(chest: Chest, amount: float, rng: Rng) -> Chest:
    return replace(chest, base=chest.base - 0.025 * amount)


def _fibrosis(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    side = np.repeat(SIDES, 75)[:, None]
    across, down = rng.uniform(0.15, 1.0, (150, 1)), 1 - rng.beta(1.3, 3.2, (150, 1)) * 0.75
    angle, length = rng.uniform(0, np.pi, (150, 1)), rng.uniform(0.03, 0.075, (150, 1))
    steps = np.array([-0.5, 0, 0.5])
    bend = np.array([0, 0.25, 0]) * length
    threads = chest.in_lung(
        side, across + 1.6 * steps * length * np.cos(angle), down + steps * length * np.sin(angle) + bend
    )
    net = canvas.lines([(threads, 0.0042, 0.9)], softness=0.0014) * layers.lung.max(0)
    layers.added = layers.added + 0.17 * amount * net
    _haze(layers, 0.8 * amount * canvas.soften(net, 0.035))


# Pleural thickening: a band of soft tissue along the wall or over the apex
def _pleural_thickening(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    side, apical = _one_side(rng), bool(rng.random() < 0.5)
    width = 0.05 + 0.16 * amount
    if apical:
        across = np.linspace(0.0, 1.0, 9)
        inner = chest.in_lung(side, across, 0.05 + 0.6 * width * (1 + 0.25 * np.sin(9 * across + rng.uniform(0, 6))))
        outer = np.array([(side * 0.6, inner[-1, 1]), (side * 0.6, -0.1), (0.0, -0.1)])
    else:
        down = np.linspace(rng.uniform(0.25, 0.4), rng.uniform(0.85, 0.98), 9)
        bulge = np.sin(np.linspace(0, np.pi, 9)) ** 0.5 * (1 + 0.25 * np.sin(11 * down + rng.uniform(0, 6)))
        inner = chest.in_lung(side, 1 - width * bulge, down)
        outer = np.array([(side * 0.6, inner[-1, 1]), (side * 0.6, inner[0, 1])])
    band = canvas.area(np.concatenate([curve(inner, closed=False), inner[-1:], outer]), softness=0.003)
    _haze(layers, (0.30 + 0.60 * amount) * band * layers.half(side))


# Hernia: a round density behind the heart with a bubble of air over a fluid level
def _hernia(layers: Layers, amount: float, rng: Rng) -> None:
    chest, canvas = layers.chest, layers.canvas
    radius = 0.045 + 0.05 * amount
    centre = np.array([chest.mediastinum + rng.uniform(0.015, 0.065), chest.base - 0.10 - 0.7 * radius])
    sac = _round(layers, centre, radius, 0.06, rng)
    layers.core = np.maximum(layers.core, (0.55 + 0.3 * amount) * sac)
    layers.added = layers.added + 0.05 * amount * sac
    air = _round(layers, centre, 0.86 * radius, 0.06, rng)
    above = np.clip((np.float32(centre[1] + 0.15 * radius) - canvas.y) * np.float32(1 / 0.004), 0, 1)
    layers.added = layers.added - (0.07 + 0.22 * amount) * air * above


_RESHAPES: Mapping[str, Callable[[Chest, float, Rng], Chest]] = {
    "Atelectasis": _atelectasis_shape,
    "Cardiomegaly": _cardiomegaly_shape,
    "Emphysema": _emphysema_shape,
    "Fibrosis": _fibrosis_shape,
}
_PAINTS: Mapping[str, Callable[[Layers, float, Rng], None]] = {
    "Atelectasis": _atelectasis,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Pleural_Thickening": _pleural_thickening,
    "Hernia": _hernia,
}
assert set(_RESHAPES) | set(_PAINTS) == set(STRENGTH) == set(FINDINGS)
