"""Photographs inside a page, and how small they are shown."""

import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from weldnet.explain.attribution import find_stretch

Pixels = NDArray[np.uint8]


class Picture(NamedTuple):
    """A JPEG in a data URI, and the size in pixels to show it at."""

    source: Markup
    width: int
    height: int


@dataclass
class Album:
    """Embeds photographs in a page up to a total size, so that a browser can open it."""

    bytes_left: int = 15_000_000

    @property
    def is_full(self) -> bool:
        return self.bytes_left <= 0

    def embed(self, image: Image.Image, num_pixels: int, side: int, *, widen: bool = True) -> Picture | None:
        """Embeds a photograph of at most `num_pixels`, shown at the size of `fit`; None once the album is full."""
        if self.is_full:
            return None
        scale = min(1.0, (num_pixels / (image.width * image.height)) ** 0.5)
        small = image.resize([max(1, round(length * scale)) for length in image.size]) if scale < 1 else image
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=80)
        source = Markup("data:image/jpeg;base64,") + base64.b64encode(stream.getvalue()).decode()
        self.bytes_left -= len(source)
        return Picture(source, *fit(image.width, image.height, side, widen=widen))


def fit(width: int, height: int, side: int, *, widen: bool) -> tuple[int, int]:
    """The width and height at which a photograph is shown; its long side has `side` pixels.

    Args:
        widen: show a narrow strip at twice its width, as `draw_overlay` does.
    """
    scale = side / max(width, height)
    widening, heightening = (find_stretch(height, width), find_stretch(width, height)) if widen else (1, 1)
    return max(1, round(width * scale * widening)), max(1, round(height * scale * heightening))
