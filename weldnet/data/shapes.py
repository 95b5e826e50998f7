"""How far photographs change when they are brought to the network's input."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.images import Geometry

MOST_SQUEEZED = 3
"""One side of a photograph may be shrunk so many times as much as the other one before it counts as squeezed."""

_STEP = 8


@dataclass(frozen=True)
class Shapes:
    """What a geometry does to N photographs.

    Attributes:
        enlarged: the share with fewer pixels than the input in width or height.
        squeezed: the share with one side shrunk more than `MOST_SQUEEZED` times as much as the other one.
        across: the share whose long side lies along the short side of the input.
        settings: what to type against it, as `key=value`; empty unless most photographs are squeezed or lie across.
    """

    geometry: Geometry
    enlarged: float
    squeezed: float
    across: float
    settings: tuple[str, ...]

    def describe(self) -> str:
        """One sentence: the shares, and what to type."""
        shares = (
            (self.enlarged, "are enlarged"),
            (self.squeezed, f"are squeezed by more than {MOST_SQUEEZED} to 1"),
            (self.across, "lie across the strip"),
        )
        first, second, third = (f"{share:.0%} {what}" for share, what in shares)
        size = f"{self.geometry.height} x {self.geometry.width} pixels"
        sentence = f"Of the photographs, brought to {size}, {first}, {second} and {third}"
        if not self.settings:
            return sentence
        instead = ", or data.resize=letterbox, which keeps the aspect" if self.squeezed > 0.5 else ""
        return f"{sentence}; type {' '.join(self.settings)}{instead}"


def measure_shapes(sizes: NDArray[np.int64], geometry: Geometry) -> Shapes:
    """Compares sizes (N, 2), width and height in pixels of upright photographs, N > 0, with the network's input."""
    wanted = np.array([geometry.width, geometry.height])
    lying = sizes.astype(np.float64)
    if geometry.orient == "long_side_vertical":
        lying = np.sort(lying, axis=1)
    scale = wanted / lying
    if geometry.resize == "letterbox":
        scale = np.broadcast_to(scale.min(axis=1, keepdims=True), scale.shape)
    is_squeezed = scale.max(axis=1) > MOST_SQUEEZED * scale.min(axis=1)
    is_across = np.sign(lying[:, 0] - lying[:, 1]) * np.sign(geometry.width - geometry.height) < 0
    squeezed, across = float(is_squeezed.mean()), float(is_across.mean())
    settings = []
    if across > 0.5 and geometry.height > geometry.width:
        settings.append("data.orient=long_side_vertical")
        lying = np.sort(lying, axis=1)
    if squeezed > 0.5:
        # As many pixels as now, in the shape of most photographs.
        aspect = float(np.exp(np.median(np.log(lying[:, 1] / lying[:, 0]))))
        sides = (math.sqrt(geometry.height * geometry.width * by) for by in (aspect, 1 / aspect))
        height, width = (min(4096, max(_STEP, _STEP * round(side / _STEP))) for side in sides)
        settings += [f"data.image_size.height={height}", f"data.image_size.width={width}"]
    return Shapes(geometry, float((scale > 1).any(axis=1).mean()), squeezed, across, tuple(settings))
