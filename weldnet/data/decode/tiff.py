"""TIFF: the first page's samples become a picture.

Read by imagecodecs's libtiff. Pillow takes some layouts for others, and its libtiff writes to stderr.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.pictures import Picture, Stored, UnreadableImage, Window, turn_upright
from weldnet.data.decode.tiff_layout import (
    BLACK_IS_ZERO,
    CMYK,
    JPEG,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    read_layout,
)
from weldnet.data.decode.tiff_samples import read_samples
from weldnet.data.decode.tiff_tags import Tag, Tags, find_number, read_tags

_STRAIGHT_ALPHA = 2
_BLOCK = 2**18


def open_tiff(content: bytes, window: Window, max_pixels: int) -> Picture:
    """Decodes the first page of a TIFF to 8 bits, as `weldnet.data.decode.formats.open_picture` does.

    Grey of fewer than 8 bits and palettes are spread to 8 bits before the window. Pixels with alpha are laid over black
    before it. A channel beyond the colours is ignored where the file does not say what it means.
    """
    tags, pages = read_tags(content)
    layout = read_layout(tags, max_pixels)
    stored = _read_colours(read_samples(content, tags, layout), tags, layout)
    plain = stored.values.dtype == np.uint8 and window == "full"
    shown = (~stored.values if stored.inverted else stored.values) if plain else stored.show(window)
    shown = np.ascontiguousarray(shown)
    kept = None if plain and not stored.inverted else stored
    # Before Pillow takes its copy: a large picture's channels are hundreds of megabytes.
    del stored
    return Picture(
        image=turn_upright(Image.fromarray(shown), find_number(tags, Tag.ORIENTATION, 1)),
        format="TIFF",
        mode=_name_mode(layout, "I;16" if content.startswith(b"II") else "I;16B"),
        bits=layout.bits,
        size=(layout.width, layout.height),
        pages=pages,
        stored=kept,
    )


def _read_colours(samples: NDArray[Any], tags: Tags, layout: Layout) -> Stored:
    """The values that the window is given in: grey (H, W) or RGB (H, W, 3)."""
    most = 2**layout.bits - 1
    if layout.photometric == PALETTE:
        colours = tags[Tag.COLOUR_MAP].numbers[: 3 * 2**layout.bits].reshape(3, -1).T
        # Some writers fill the low byte only.
        shades = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        return Stored(shades.take(samples[..., 0], axis=0), (0, 255))
    if layout.photometric == CMYK:
        values = most - samples[..., :3]
        _weigh(values, most - samples[..., 3], most)
    elif layout.photometric == YCBCR and layout.compression != JPEG:
        values = np.array(Image.fromarray(np.ascontiguousarray(samples[..., :3]), "YCbCr").convert("RGB"))
    else:
        values = samples[..., 0] if layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else samples[..., :3]
    inverted = layout.photometric == WHITE_IS_ZERO
    if _STRAIGHT_ALPHA in layout.extra:
        if layout.kind != "u" or inverted:
            raise UnreadableImage("a TIFF with transparency over signed, float or WhiteIsZero pixels; save it without")
        alpha = samples[..., layout.extra.index(_STRAIGHT_ALPHA) - len(layout.extra)]
        _weigh(values, alpha, most)
    if layout.kind == "u" and layout.bits < 8:
        values, most = np.round(values * np.float32(255 / most)).astype(np.uint8), 255
    if layout.kind == "f" or layout.bits > 16:
        return Stored(values, None, inverted)
    return Stored(values, (-(2 ** (layout.bits - 1)), most >> 1) if layout.kind == "i" else (0, most), inverted)


def _weigh(values: NDArray[Any], weight: NDArray[Any], most: int) -> None:
    """values x weight / most, rounded, in place and some rows at a time: all in wider numbers would be gigabytes."""
    wide: np.dtype[Any] = np.dtype(np.uint32 if most < 2**16 else np.uint64)
    step = max(1, _BLOCK // values[0].size)
    for row in range(0, len(values), step):
        band, share = values[row : row + step].astype(wide), weight[row : row + step].astype(wide)
        values[row : row + step] = (band * (share[..., None] if band.ndim == 3 else share) + most // 2) // most


def _name_mode(layout: Layout, sixteen_bits: str) -> str:
    """Pillow's name for pixels like these."""
    if layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        if layout.kind == "f":
            return "F"
        if layout.bits > 8:
            return "I" if layout.bits > 16 else sixteen_bits
        return "1" if layout.bits == 1 else "LA" if layout.extra else "L"
    name = {RGB: "RGB", PALETTE: "P", CMYK: "CMYK", YCBCR: "YCbCr"}[layout.photometric]
    return f"{name}A" if layout.extra and name in ("RGB", "P") else name
