"""How the samples of a TIFF's first page are stored, checked before any is decoded.

Source: TIFF 6.0; BigTIFF; Adobe's technical notes 1 (32-bit floats) and 2 (JPEG).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.pictures import UnreadableImage, check_pixels
from weldnet.data.decode.tiff_tags import Tag, Tags, find_number, find_numbers

NONE, JPEG, DEFLATE = 1, 7, (8, 32946)
_CCITT = (2, 3, 4)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
SAVE_ANEW = "save it as TIFF with LZW or Deflate, or as PNG"

_MAX_BYTES = 2**30
_MAX_SEGMENTS = 2**19
_REDUCED = 1
_COMPRESSIONS = {NONE, *_CCITT, 5, JPEG, *DEFLATE, 32773, 34925, 50000}
_OTHER_COMPRESSIONS = {
    6: "old-style JPEG",
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000"),
    **dict.fromkeys((34927, 50001), "WebP"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
}
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
_OTHER_COLOURS = {8: "CIELab", 9: "ICCLab", 32803: "raw colour filter", 34892: "linear raw"}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_NUMBERS = {"u": "whole numbers", "i": "signed whole numbers", "f": "floats"}
_DEPTHS = {"u": {*range(1, 17), 24, 32}, "i": {8, 16, 32}, "f": {16, 32, 64}}
_USUAL_REFERENCE = [[0, 1], [255, 1], [128, 1], [255, 1], [128, 1], [255, 1]]


@dataclass(frozen=True)
class Layout:
    """How the first page's samples are stored.

    Attributes:
        samples: channels of a pixel, with those beyond the colours.
        bits, kind: of a sample; "u", "i" or "f": unsigned or signed whole numbers, floats.
        separate: each channel is a separate plane.
        extra: what the channels beyond the colours mean: 0 unknown, 1 premultiplied alpha, 2 alpha.
        tiled: tiles, which are always whole, not strips, the last of which may be lower.
        rows, columns: of a strip or tile, in pixels.
        offsets, counts: of each strip or tile in the file, in bytes; no counts where the file gives none.
        subsampling: luma columns and rows for each chroma sample; (1, 1) within JPEG.
    """

    width: int
    height: int
    samples: int
    bits: int
    kind: str
    separate: bool
    photometric: int
    extra: tuple[int, ...]
    compression: int
    tiled: bool
    rows: int
    columns: int
    offsets: NDArray[Any]
    counts: NDArray[Any]
    subsampling: tuple[int, int]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """That holds a sample."""
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        return np.dtype(f"{self.kind}{size // 8}")

    @property
    def num_segments(self) -> int:
        """Strips or tiles in all."""
        across, down = math.ceil(self.width / self.columns), math.ceil(self.height / self.rows)
        return across * down * (self.samples if self.separate else 1)


def read_layout(tags: Tags, max_pixels: int) -> Layout:
    """The layout from the first page's tags; one that is damaged, too large or not read is refused."""
    if find_number(tags, Tag.SUBFILE, 0) & _REDUCED:
        raise UnreadableImage(
            "a TIFF whose first page is a small copy, as in a camera's raw photograph; develop it to TIFF or PNG"
        )
    width, height = find_number(tags, Tag.WIDTH), find_number(tags, Tag.LENGTH)
    check_pixels((width, height), max_pixels)
    samples = find_number(tags, Tag.SAMPLES, 1)
    bits, kind = _read_samples_type(tags, samples)
    compression = find_number(tags, Tag.COMPRESSION, NONE)
    if compression not in _COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, "private or unknown")
        raise UnreadableImage(
            f"TIFF compression {compression} ({name}); weldnet reads none, LZW, Deflate, PackBits, CCITT, JPEG, LZMA "
            f"and Zstandard: {SAVE_ANEW}"
        )
    photometric, extra = _read_colours(tags, compression, samples, bits, kind)
    tiled = Tag.TILES in tags
    strip_rows = min(find_number(tags, Tag.ROWS, height) or height, height)
    counts = Tag.TILE_COUNTS if tiled else Tag.STRIP_COUNTS
    layout = Layout(
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        kind=kind,
        separate=find_number(tags, Tag.PLANAR, 1) == 2 and samples > 1,
        photometric=photometric,
        extra=extra,
        compression=compression,
        tiled=tiled,
        rows=find_number(tags, Tag.TILE_LENGTH) if tiled else strip_rows,
        columns=find_number(tags, Tag.TILE_WIDTH) if tiled else width,
        offsets=find_numbers(tags, Tag.TILES if tiled else Tag.STRIPS),
        counts=tags[counts].numbers if counts in tags else np.empty(0, np.uint64),
        subsampling=_read_subsampling(tags, photometric, compression),
    )
    _check_layout(layout)
    return layout


def _read_samples_type(tags: Tags, samples: int) -> tuple[int, str]:
    """Bits and kind of a sample, which every channel shares."""
    # Some writers list more of them than there are channels.
    depths, formats = (find_numbers(tags, tag, 1)[:samples].tolist() for tag in (Tag.BITS, Tag.FORMAT))
    if len(set(depths)) != 1 or len(set(formats)) != 1:
        raise UnreadableImage(f"a TIFF whose channels differ in bits or kind ({depths}, {formats}); {SAVE_ANEW}")
    bits, kind = int(depths[0]), _KINDS.get(int(formats[0]))
    if kind is None or bits not in _DEPTHS[kind]:
        numbers = _NUMBERS[kind] if kind else "complex numbers or the like"
        raise UnreadableImage(
            f"a TIFF of {bits}-bit {numbers}; weldnet reads unsigned whole numbers of 1 to 16, 24 and 32 bits, signed "
            f"ones of 8, 16 and 32, and floats of 16, 32 and 64: {SAVE_ANEW}"
        )
    return bits, kind


def _read_colours(tags: Tags, compression: int, samples: int, bits: int, kind: str) -> tuple[int, tuple[int, ...]]:
    """How the colours are to be read, and what the channels beyond them mean."""
    # As libtiff guesses where the tag is missing.
    guess = WHITE_IS_ZERO if compression in _CCITT else BLACK_IS_ZERO if samples < 3 else RGB
    photometric = find_number(tags, Tag.PHOTOMETRIC, guess)
    if photometric not in _COLOURS:
        name = _OTHER_COLOURS.get(photometric, "private or unknown")
        raise UnreadableImage(f"a TIFF with pixels of type {photometric} ({name}); save it as grey or RGB")
    num_extra = samples - _COLOURS[photometric]
    if not 0 <= num_extra <= (1 if _COLOURS[photometric] == 1 else 12):
        raise UnreadableImage(f"a TIFF with {samples} channels, which are not grey or RGB; save it as grey or RGB")
    given = find_numbers(tags, Tag.EXTRA, 0)[:num_extra].tolist()
    extra = (*(int(meaning) for meaning in given), *[0] * (num_extra - len(given)))
    if photometric in (PALETTE, CMYK, YCBCR) and (kind != "u" or bits > (8 if photometric == YCBCR else 16)):
        raise UnreadableImage(f"a palette, CMYK or YCbCr TIFF of {bits} bits; save it as grey or RGB")
    if photometric == PALETTE and find_numbers(tags, Tag.COLOUR_MAP, 0).size < 3 * 2**bits:
        raise UnreadableImage("a damaged TIFF: its palette is missing or too short")
    return photometric, extra


def _read_subsampling(tags: Tags, photometric: int, compression: int) -> tuple[int, int]:
    if photometric != YCBCR or compression == JPEG:
        return 1, 1
    across, down = np.resize(find_numbers(tags, Tag.SUBSAMPLING, 2), 2).tolist()
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise UnreadableImage("a damaged TIFF: its chroma subsampling is not 1, 2 or 4")
    if Tag.REFERENCE in tags and tags[Tag.REFERENCE].numbers.tolist() != _USUAL_REFERENCE:
        raise UnreadableImage("a YCbCr TIFF with an unusual black and white; save it as RGB")
    return across, down


def _check_layout(layout: Layout) -> None:
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    if not (1 <= rows <= 2**20 and columns >= 1) or rows * columns * samples > _MAX_BYTES:
        raise UnreadableImage(f"a TIFF with strips or tiles of {columns} x {rows} pixels")
    needed = layout.num_segments
    # Tiles are whole beyond the picture's edges, too.
    pixels = math.ceil(layout.height / rows) * rows * math.ceil(layout.width / columns) * columns
    if (pixels if layout.tiled else layout.height * layout.width) * samples * max(1, layout.bits // 8) > _MAX_BYTES:
        raise UnreadableImage(
            f"a TIFF with over {_MAX_BYTES:,} bytes of pixels; save it as grey or RGB of 8 or 16 bits"
        )
    if len(layout.offsets) < needed or 0 < len(layout.counts) < needed:
        raise UnreadableImage(f"a damaged TIFF: {len(layout.offsets)} strips or tiles where {needed} are needed")
    if needed > _MAX_SEGMENTS or (needed > 1 and not len(layout.counts) and layout.compression != NONE):
        raise UnreadableImage(f"a TIFF with {needed:,} strips or tiles, which are too many, or have no byte counts")
    # Strips may overlap: a small file could have gigabytes to read.
    if layout.counts[:needed].sum(dtype=np.float64) > _MAX_BYTES:
        raise UnreadableImage(f"a TIFF with over {_MAX_BYTES:,} bytes of strips or tiles")
    if layout.rows % layout.subsampling[1] and needed > 1:
        raise UnreadableImage(f"a YCbCr TIFF with strips of {rows} rows, which split its chroma; {SAVE_ANEW} in RGB")
    if layout.subsampling != (1, 1) and (layout.separate or layout.extra):
        raise UnreadableImage(f"a YCbCr TIFF with reduced chroma in planes, or with alpha; {SAVE_ANEW} in RGB")
    if layout.compression == JPEG and (layout.kind != "u" or layout.bits not in (8, 12)):
        raise UnreadableImage(f"a TIFF with JPEG of {layout.bits} bits; {SAVE_ANEW}")
