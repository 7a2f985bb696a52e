"""The canvas: drawing in the chest's own coordinates, independent of the number of pixels.

Coordinates (x, y) are in image widths: x runs from the midline (0) to the viewer's right, y from the upper edge
(0) down; the image spans x in (-0.5, 0.5), y in (0, 1) before the pose shifts, rotates and scales it. Lengths and
softnesses are in image widths too, and a layer is (size, size) float32 with values in [0, 1].
"""

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np

_FRACTION_BITS = 6  # OpenCV's fixed-point vertices: 1/64 pixel
_COARSE = 128  # pixels of the grid on which depths are computed; they are smooth
_FAR = 4.0  # image widths; vertices further out have no visible effect


class Canvas:
    """A square film with the chest in one pose.

    Attributes:
        size: width and height in pixels.
        x, y: (size, size) float32, the coordinates of each pixel.
    """

    def __init__(self, size: int, shift: tuple[float, float], turn: float, scale: float) -> None:
        """Set the pose: `shift` (x, y) in image widths, `turn` in degrees clockwise on the film, and `scale`."""
        self.size = size
        cos, sin = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
        self._turning = np.array([[cos, -sin], [sin, cos]])
        self._pivot = np.array([0.0, 0.5])
        self._origin = self._pivot + np.array([0.5 + shift[0], shift[1]])
        self._scale = scale
        back = np.linalg.inv(self._turning)
        pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
        from_x = (pixel - np.float32(self._origin[0]))[None, :]
        from_y = (pixel - np.float32(self._origin[1]))[:, None]
        self.x: np.ndarray = np.float32(back[0, 0]) * from_x + np.float32(back[0, 1]) * from_y
        self.y: np.ndarray = np.float32(back[1, 0]) * from_x + np.float32(back[1, 1]) * from_y + np.float32(0.5)

    def area(self, *outlines: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """Draw a layer that is 1 inside the closed outlines, each (points, 2), and falls to 0 over `softness`."""
        layer = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(layer, [self._vertices(outline)], 255, cv2.LINE_AA, _FRACTION_BITS)
        return self.soften(_as_layer(layer), softness)

    def bands(self, outlines: np.ndarray, body: float, edge: float, thickness: float, softness: float) -> np.ndarray:
        """Draw a layer of outlines (m, points, 2), filled with `body` and with an `edge` of width `thickness`."""
        layer = np.zeros((self.size, self.size), np.uint8)
        pixels, share = self._stroke(thickness)
        rim, inside = round(255 * (body + (edge - body) * share)), round(255 * body)
        for vertices in self._vertices(outlines):
            cv2.fillPoly(layer, [vertices], inside, cv2.LINE_AA, _FRACTION_BITS)
            cv2.polylines(layer, [vertices], True, rim, pixels, cv2.LINE_AA, _FRACTION_BITS)
        return self.soften(_as_layer(layer), softness)

    def lines(self, bundles: Iterable[tuple[np.ndarray, float, float]], softness: float = 0.0) -> np.ndarray:
        """Draw a layer of open lines: bundles of (points (..., n, 2), width, brightness), later ones over earlier ones.

        A line thinner than a pixel is drawn one pixel wide and fainter, so that its absorption does not depend on
        the size.
        """
        layer = np.zeros((self.size, self.size), np.uint8)
        for points, width, brightness in bundles:
            pixels, share = self._stroke(width)
            vertices = self._vertices(points).reshape(-1, points.shape[-2], 2)
            grey = round(255 * brightness * share)
            cv2.polylines(layer, list(vertices), False, grey, pixels, cv2.LINE_AA, _FRACTION_BITS)
        return self.soften(_as_layer(layer), softness)

    def soften(self, layer: np.ndarray, softness: float) -> np.ndarray:
        """Blur with a Gaussian of `softness` image widths; wide ones are computed on a coarser grid."""
        sigma = softness * self._scale * self.size
        if sigma < 0.4:
            return layer
        if sigma < 4:
            return _blur(layer, sigma)
        small = max(8, round(self.size / int(sigma / 2)))
        coarse = cv2.resize(layer, (small, small), interpolation=cv2.INTER_AREA)
        coarse = _blur(coarse, sigma * small / self.size)
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_LINEAR)

    def depth(self, layer: np.ndarray, reach: float) -> np.ndarray:
        """Return the depth inside a layer: 0 at its edge, rising like a circle's chord to 1 at `reach` and beyond."""
        coarse = cv2.resize(layer, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        distance = cv2.distanceTransform((coarse > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        inside = np.minimum(distance * np.float32(1 / (reach * self._scale * _COARSE)), np.float32(1))
        chord = _blur(np.sqrt(inside * (2 - inside)), 0.008 * _COARSE)
        return cv2.resize(chord, (self.size, self.size), interpolation=cv2.INTER_LINEAR)

    def blob(self, centre: tuple[float, float], radius_x: float, radius_y: float, turn: float = 0.0) -> np.ndarray:
        """Draw a Gaussian of height 1 with standard deviations `radius_x`, `radius_y`, rotated by `turn` radians."""
        across, down = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        long = (across * cos + down * sin) * np.float32(1 / radius_x)
        short = (down * cos - across * sin) * np.float32(1 / radius_y)
        return cv2.exp(np.float32(-0.5) * (long * long + short * short))

    def texture(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Draw smooth noise, mean 0, deviation about 1, with features of `grain` image widths, fixed to the film."""
        cells = max(4, round(1 / grain))
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)

    def _vertices(self, points: np.ndarray) -> np.ndarray:
        inside = np.clip(points, -_FAR, _FAR)
        pixels = ((inside - self._pivot) @ self._turning.T + self._origin) * self.size - 0.5
        return np.round(pixels * 2**_FRACTION_BITS).astype(np.int32)

    def _stroke(self, width: float) -> tuple[int, float]:
        """Return the thickness in whole pixels, and the share of brightness that preserves the line's absorption."""
        wanted = width * self._scale * self.size
        pixels = max(1, round(wanted))
        return pixels, min(1.0, wanted / pixels)


def curve(points: np.ndarray, closed: bool = True, steps: int = 6) -> np.ndarray:
    """Return a smooth curve (Catmull-Rom) through `points` (n, 2), with `steps` points per segment."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    segments = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)])  # (4, segments, 2)
    return np.tensordot(_catmull_rom(steps), segments, 1).transpose(1, 0, 2).reshape(-1, 2)


@lru_cache(maxsize=4)
def _catmull_rom(steps: int) -> np.ndarray:
    """Return the weights, (steps, 4), of the four neighbouring points along one segment."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None] ** np.arange(4)
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return t @ basis


def _blur(layer: np.ndarray, sigma: float) -> np.ndarray:
    width = 2 * round(2.7 * sigma) + 1  # less than 1 % of the weight is outside
    return cv2.GaussianBlur(layer, (width, width), sigma, borderType=cv2.BORDER_REPLICATE)


def _as_layer(drawing: np.ndarray) -> np.ndarray:
    return np.multiply(drawing, np.float32(1 / 255), dtype=np.float32)
