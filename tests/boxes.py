"""How much of a map lies in a box."""

import numpy as np
from numpy.typing import NDArray

from weldnet.explain.attribution import Map

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, right and bottom exclusive."""


def share_inside(evidence: Map, box: Box) -> float:
    """The share of a map (H, W) of 0 or more that lies in a box, counting parts of pixels; 0 for a map of zeros.

    A map that knows nothing, the same everywhere, has the box's share of the area.
    """
    left, top, right, bottom = box
    inside = _cover(top, bottom, evidence.shape[0]) @ evidence @ _cover(left, right, evidence.shape[1])
    total = float(evidence.sum(dtype=np.float64))
    return float(inside) / total if total else 0.0


def _cover(start: float, stop: float, length: int) -> NDArray[np.float64]:
    """How much of each of `length` pixels lies between start and stop: (length,) in 0..1."""
    pixels = np.arange(length)
    cover: NDArray[np.float64] = np.clip(np.minimum(pixels + 1, stop) - np.maximum(pixels, start), 0, 1)
    return cover
