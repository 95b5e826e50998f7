"""What a generated image file is, and the picture that most of them hold."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from drawing import draw_blobs
from numpy.typing import NDArray

Kind = Literal["sound", "rare", "unsupported", "damaged"]

COLOUR = draw_blobs(48, 32, seed=7)
GREY = COLOUR[..., 1]
DEEP = (GREY.astype(np.uint16) * 257) ^ (np.arange(32, dtype=np.uint16) * 5)
"""The same in 16 bits, with low bytes that differ from the high ones."""


@dataclass(frozen=True)
class OddImage:
    """A file and what must become of it.

    Attributes:
        name: of the file, which has no ending: the content decides.
        content: its bytes.
        kind: `sound` must be decoded; `rare` is decoded right or refused in words; `unsupported` is refused in words;
            `damaged` is refused, or decoded and marked as damaged.
        pixels: (H, W) or (H, W, 3), 0 to 255: what it shows; None where nothing is known of that.
        window: under which it shows that.
        tolerance: the largest difference in any pixel.
    """

    name: str
    content: bytes
    kind: Kind = "sound"
    pixels: NDArray[Any] | None = None
    window: str | tuple[float, float] = "full"
    tolerance: float = 1.0


def scale(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """The window `[low, high]` as 0 to 255, not rounded."""
    return np.asarray(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255)
