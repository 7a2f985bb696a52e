"""The film: from absorption to a grey image, with pose, devices, exposure, noise, collimation and marker letters.

Everything here depends on the patient, the visit and the view, never on the findings. The view depends on the
findings, as in real data, and devices are common in AP images.
"""

import cv2
import numpy as np

from data_prep.phantom.anatomy import SIDES
from data_prep.phantom.canvas import Canvas, curve
from data_prep.phantom.layers import Layers

Rng = np.random.Generator
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_pose(rng: Rng, size: int, portable: bool) -> Canvas:
    """Draw the pose of the patient before the film: small shifts, rotations and scalings, larger for AP."""
    loose = 1.6 if portable else 1.0
    shift = rng.normal(0, 0.016 * loose, 2)
    turn = float(np.clip(rng.normal(0, 1.6 * loose), -8, 8))
    scale = float(np.clip(rng.normal(1.06 if portable else 1.04, 0.035), 0.92, 1.16))
    return Canvas(size, (float(shift[0]), float(shift[1])), turn, scale)


def add_devices(layers: Layers, rng: Rng) -> None:
    """Add leads with electrodes, a central line, a tracheal tube: mostly in portable images."""
    chest = layers.chest
    paths = []
    if rng.random() < (0.5 if chest.portable else 0.05):
        for _ in range(int(rng.integers(2, 4))):
            start = np.array([rng.uniform(-0.32, 0.32), rng.uniform(0.22, 0.7)])
            end = np.array([np.sign(start[0]) * 0.6, start[1] + rng.uniform(-0.2, 0.35)])
            middle = (start + end) / 2 + rng.normal(0, 0.05, 2)
            paths.append((curve(np.stack([start, middle, end]), closed=False), 0.0035, 0.55))
            around = np.linspace(0, 2 * np.pi, 9)
            paths.append((start + 0.010 * np.stack([np.cos(around), np.sin(around)], 1), 0.006, 0.8))
    if rng.random() < (0.35 if chest.portable else 0.03):
        side = int(rng.choice(SIDES))
        course = np.array(
            [(side * 0.33, 0.16), (side * 0.17, 0.155), (-0.03, 0.22), (-0.055, 0.33), (-0.06, rng.uniform(0.40, 0.5))]
        )
        paths.append((curve(course, closed=False), 0.005, 0.6))
    if rng.random() < (0.25 if chest.portable else 0.0):
        paths.append(
            (np.array([(0.004, -0.1), (0.002, 0.12), (chest.mediastinum, rng.uniform(0.26, 0.32))]), 0.008, 0.5)
        )
    if paths:
        layers.added = layers.added + 0.28 * layers.canvas.lines(paths, softness=0.0008)


def expose(layers: Layers, rng: Rng) -> np.ndarray:
    """Expose the film: (size, size) uint8, dark where the beam passes, as in ChestX-ray14's images."""
    canvas, portable = layers.canvas, layers.chest.portable
    absorbed = layers.absorption()
    if portable:  # less scatter is removed at the bedside: add a blurred copy of the image
        absorbed = 0.84 * absorbed + 0.16 * canvas.soften(absorbed, 0.08)
    detail = float(np.clip(rng.normal(0.30, 0.25), 0, 0.9))
    absorbed = absorbed + np.float32(detail) * (absorbed - canvas.soften(absorbed, 0.03))
    middle = np.float32(rng.normal(0.60, 0.05 if portable else 0.035))
    slope = np.float32(rng.normal(4.1, 0.45) - 0.5 * portable)
    grey = 1 / (1 + cv2.exp(slope * (middle - absorbed)))
    floor = 1 / (1 + np.exp(slope * middle))
    white = np.float32(np.clip(rng.normal(238, 10), 205, 255))
    grey = (grey - floor) * (white / np.float32(1 - floor))
    film = np.clip(_with_noise(grey, canvas, rng, portable), 0, 255).astype(np.uint8)
    _collimate(film, rng)
    _mark(film, rng, portable)
    return film


def _with_noise(grey: np.ndarray, canvas: Canvas, rng: Rng, portable: bool) -> np.ndarray:
    size = canvas.size
    tilt = rng.normal(0, 0.05, 2)
    grey = grey * (1 + np.float32(tilt[0]) * canvas.x + np.float32(tilt[1]) * (canvas.y - np.float32(0.5)))
    # Quantum noise is white at the detector, so the amount per pixel grows with the number of pixels.
    amount = np.float32(abs(rng.normal(2.6 if portable else 1.8, 0.6)) * (size / 256) ** 0.5)
    # A separate generator, so that later draws are the same at every size.
    return grey + amount * rng.spawn(1)[0].standard_normal((size, size), dtype=np.float32)


def _collimate(film: np.ndarray, rng: Rng) -> None:
    """Blacken the borders that the collimator covers, in some images."""
    size = len(film)
    for edge in range(4):
        if rng.random() < 0.12:
            width = max(1, round(rng.uniform(0.005, 0.035) * size))
            np.rot90(film, edge)[:width] = 0


def _mark(film: np.ndarray, rng: Rng, portable: bool) -> None:
    """Write L or R in a corner, and AP PORTABLE on most bedside images."""
    size = len(film)
    side = "L" if rng.random() < 0.75 else "R"
    x = rng.uniform(0.86, 0.93) if side == "L" else rng.uniform(0.03, 0.09)
    y = rng.uniform(0.07, 0.2)
    _write(film, side, x, y, 0.00185 * size)
    if portable and rng.random() < 0.8:
        _write(film, "AP", x - 0.02, y + 0.07, 0.00105 * size)
        _write(film, "PORTABLE", min(x - 0.05, 0.83), y + 0.12, 0.00095 * size)
    elif not portable and rng.random() < 0.1:
        _write(film, "PA", x - 0.02, y + 0.07, 0.00105 * size)


def _write(film: np.ndarray, text: str, x: float, y: float, scale: float) -> None:
    size = len(film)
    thickness = max(1, round(scale * 1.8))
    cv2.putText(film, text, (round(x * size), round(y * size)), _FONT, scale, 245, thickness, cv2.LINE_AA)
