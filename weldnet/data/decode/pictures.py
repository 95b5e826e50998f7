"""A decoded file, and the window that maps its stored values to 8 bits."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.errors import InputError

WINDOWS = ("full", "percentile")

Window = str | tuple[float, float]

Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 89_478_485
"""The limit for a picture to decode; with 3 channels that is 256 MiB."""

_PERCENTILES = (0.5, 99.5)
_BLOCK = 2**18


class UnreadableImage(InputError):
    """A file that cannot be decoded; the message is the reason, without the path."""


def check_window(window: Any) -> Window:
    """Checks a window for `open_picture`: `full`, `percentile` or two numbers, the first below the second."""
    if window in WINDOWS:
        return str(window)
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if isinstance(window, str) or not (low < high and math.isfinite(high - low)):
        raise InputError(
            f"data.window={window}: allowed are {', '.join(WINDOWS)} and [low,high] in stored values, low below high"
        )
    return low, high


def check_pixels(size: Size, limit: int) -> None:
    """Refuses a size without pixels, or with more pixels than the limit."""
    width, height = size
    if width < 1 or height < 1 or width * height > limit:
        raise UnreadableImage(f"{width} x {height} pixels; allowed are 1 to {limit:,} in all")


def turn_upright(image: Image.Image, orientation: object) -> Image.Image:
    """Turns an image as an EXIF orientation from 2 to 8 says; any other value changes nothing."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


@dataclass(frozen=True)
class Stored:
    """The pixels of a file before the window.

    Attributes:
        values: (H, W) or (H, W, 3), whole numbers or floats.
        full: the smallest and the largest value of the stored type; None if they are no use as black and white.
        inverted: whether low values are bright.
    """

    values: NDArray[Any]
    full: tuple[float, float] | None
    inverted: bool = False

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest finite value; a picture without a finite value is refused."""
        finite = self._finite()
        if not finite.size:
            raise UnreadableImage("no pixel has a finite value")
        return float(finite.min()), float(finite.max())

    def show(self, window: Window) -> NDArray[np.uint8]:
        """Maps the window linearly to 0..255, uint8, clipped and rounded; `inverted` then swaps black and white.

        NaN becomes 0, as everything does where the window has no width. A window `full` without a range is refused.
        """
        low, high = self._limits(window)
        shown = np.empty(self.values.shape, np.uint8)
        # A few rows at a time: a whole radiograph in float64 takes a gigabyte, and more time.
        step = max(1, _BLOCK // self.values[0].size)
        for row in range(0, len(shown), step):
            # float32 cannot hold every 32-bit value.
            scaled: NDArray[np.float64] = np.clip(self.values[row : row + step], low, high, dtype=np.float64)
            scaled -= low
            # Divide first: 255 / (high - low) can be infinite.
            scaled /= high - low if low < high else 1
            scaled *= 255
            if self.values.dtype.kind == "f":
                np.nan_to_num(scaled, copy=False, nan=0.0)
            np.rint(scaled, out=shown[row : row + step], casting="unsafe")
        return ~shown if self.inverted else shown

    def _limits(self, window: Window) -> tuple[float, float]:
        if isinstance(window, tuple):
            return window
        if window == "full":
            if self.full is None:
                raise UnreadableImage(
                    "floats and values of more than 16 bits have no full range to show; train with "
                    "data.window=[low,high], in stored values, or data.window=percentile"
                )
            return self.full
        low, high = self.extremes
        if low < high:
            inner = np.percentile(self._finite(), _PERCENTILES, method="inverted_cdf")
            # They are equal in a picture of nearly one value; its extremes then show the rest of it.
            if inner[0] < inner[1]:
                return float(inner[0]), float(inner[1])
        return low, high

    def _finite(self) -> NDArray[Any]:
        return self.values[np.isfinite(self.values)] if self.values.dtype.kind == "f" else self.values


@dataclass(frozen=True)
class Picture:
    """The first page of a file as an 8-bit image, with the file's properties.

    Attributes:
        image: 8 bits, mode "L" or "RGB": windowed, EXIF orientation applied, transparent pixels over black.
        format: "JPEG", "PNG", "BMP", "TIFF", "WEBP" or "DICOM", by the content.
        bits: bits a channel as stored; for DICOM, Bits Stored.
        size: width and height in pixels as stored, before the EXIF turn.
        pages: pages or frames in the file, counted up to 10,000; the first one is used.
        stored: the decoded pixels before the window; None where `image` has the same values.
        damage: the sign that the file is damaged, so that parts of the picture may be wrong; None without one.
        exif: the EXIF of a JPEG, PNG or WebP as it is in the file, untrusted; empty without one.
    """

    image: Image.Image
    format: str
    bits: int
    size: Size
    pages: int
    stored: Stored | None = None
    damage: str | None = None
    exif: bytes = b""

    @property
    def upright_size(self) -> Size:
        """Width and height in pixels after the EXIF turn, however small it was decoded."""
        width, height = self.size
        is_turned = (self.image.width < self.image.height) != (width < height) and self.image.width != self.image.height
        return (height, width) if is_turned else self.size

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value of the decoded picture before the window.

        In DICOM after the modality LUT; in a colour PNG of 16 bits a channel, of the high bytes; with a palette, of the
        colours that it stands for.
        """
        stored = self.stored or Stored(np.asarray(self.image), (0, 255))
        return stored.extremes
