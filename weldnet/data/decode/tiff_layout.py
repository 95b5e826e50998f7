"""The tags of a TIFF's first page: where its samples are, and how they are stored.

Source: TIFF 6.0; BigTIFF; Adobe's technical notes 1 (32-bit floats) and 2 (JPEG).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.pictures import UnreadableImage, check_pixels
from weldnet.data.decode.tiff_tags import Tag, Tags, find_number, find_numbers, read_tags

NONE, CCITT, LZW, JPEG, DEFLATE, PACKBITS, LZMA, ZSTD = 1, (2, 3, 4), 5, 7, (8, 32946), 32773, 34925, 50000
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
SAVE_ANEW = "save it as TIFF with LZW or Deflate, or as PNG"

_MAX_BYTES = 2**30
_REDUCED = 1
_MAX_SEGMENTS = 2**19
_COMPRESSIONS = {NONE, *CCITT, LZW, JPEG, *DEFLATE, PACKBITS, LZMA, ZSTD}
_OTHER_COMPRESSIONS = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT",
    32809: "ThunderScan",
    34661: "JBIG",
    32908: "Pixar film",
    32909: "Pixar log",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34887: "LERC",
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000"),
    34892: "lossy DNG",
    34927: "WebP",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
_OTHER_COLOURS = {
    4: "transparency mask",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32844: "LogL",
    32845: "LogLuv",
    32803: "raw colour filter",
    34892: "linear raw",
}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_NUMBERS = {"u": "whole numbers", "i": "signed whole numbers", "f": "floats"}
_DEPTHS = {"u": {*range(1, 17), 24, 32}, "i": {8, 16, 32}, "f": {16, 32, 64}}


@dataclass(frozen=True)
class Layout:
    """How the first page's samples are stored.

    Attributes:
        order: byte order, "<" or ">".
        width, height: of the page, in pixels.
        samples: channels a pixel, with those beyond the colours.
        bits: of one sample.
        kind: "u", "i" or "f": unsigned or signed whole numbers, floats.
        separate: each channel is a plane of its own.
        photometric: how the colours are to be read.
        extra: what the channels beyond the colours mean: 0 unknown, 1 premultiplied alpha, 2 alpha.
        compression, predictor, t4_options: codes of the tags with these names.
        reversed_bits: the lowest bit of each byte comes first.
        tiled: tiles, which are always whole, not strips, the last of which may be lower.
        rows, columns: of a strip or tile, in pixels.
        offsets, counts: where each strip or tile begins in the file, and its bytes; no counts where none are given.
        tables: JPEG tables that all strips or tiles share.
        colour_map: (3, N) of 16 bits, for palettes.
        subsampling: luma columns and rows for each chroma sample.
        orientation: as in EXIF.
    """

    order: str
    width: int
    height: int
    samples: int
    bits: int
    kind: str
    separate: bool
    photometric: int
    extra: tuple[int, ...]
    compression: int
    predictor: int
    t4_options: int
    reversed_bits: bool
    tiled: bool
    rows: int
    columns: int
    offsets: NDArray[Any]
    counts: NDArray[Any]
    tables: bytes
    colour_map: NDArray[Any]
    subsampling: tuple[int, int]
    orientation: int


def read_layout(content: bytes, max_pixels: int) -> Layout:
    """Reads and checks the first page's tags.

    Raises:
        UnreadableImage: a tag is missing or damaged, the page is too large, or it is stored in a way that is not read.
    """
    tags = read_tags(content)
    if find_number(tags, Tag.SUBFILE, 0) & _REDUCED:
        raise UnreadableImage(
            "a TIFF whose first page is a small copy, as in a camera's raw photograph; develop it to TIFF or PNG"
        )
    width, height = find_number(tags, Tag.WIDTH), find_number(tags, Tag.LENGTH)
    check_pixels((width, height), max_pixels)
    bits, kind = _read_samples_type(tags)
    compression = find_number(tags, Tag.COMPRESSION, NONE)
    if compression not in _COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, "private or unknown")
        raise UnreadableImage(
            f"TIFF compression {compression} ({name}); read are none, LZW, Deflate, PackBits, CCITT, JPEG, LZMA and "
            f"Zstandard: {SAVE_ANEW}"
        )
    photometric, extra = _read_colours(tags, compression, bits, kind)
    tiled = Tag.TILES in tags
    layout = Layout(
        order="<" if content.startswith(b"II") else ">",
        width=width,
        height=height,
        samples=find_number(tags, Tag.SAMPLES, 1),
        bits=bits,
        kind=kind,
        separate=find_number(tags, Tag.PLANAR, 1) == 2 and find_number(tags, Tag.SAMPLES, 1) > 1,
        photometric=photometric,
        extra=extra,
        compression=compression,
        predictor=find_number(tags, Tag.PREDICTOR, 1),
        t4_options=find_number(tags, Tag.T4_OPTIONS, 0),
        reversed_bits=find_number(tags, Tag.FILL_ORDER, 1) == 2,
        tiled=tiled,
        rows=find_number(tags, Tag.TILE_LENGTH)
        if tiled
        else min(find_number(tags, Tag.ROWS, height) or height, height),
        columns=find_number(tags, Tag.TILE_WIDTH) if tiled else width,
        offsets=find_numbers(tags, Tag.TILES if tiled else Tag.STRIPS),
        counts=tags.get(Tag.TILE_COUNTS if tiled else Tag.STRIP_COUNTS, np.empty(0, np.uint64)),
        tables=tags[Tag.TABLES].tobytes() if Tag.TABLES in tags else b"",
        colour_map=tags.get(Tag.COLOUR_MAP, np.empty(0, np.uint16)),
        subsampling=_read_subsampling(tags, photometric, compression),
        orientation=find_number(tags, Tag.ORIENTATION, 1),
    )
    _check_layout(layout)
    return layout


def _read_samples_type(tags: Tags) -> tuple[int, str]:
    """Bits and kind of a sample, which every channel shares."""
    samples = find_number(tags, Tag.SAMPLES, 1)
    # Some writers list more of them than there are channels.
    depths, formats = (
        tags.get(Tag.BITS, np.ones(1))[:samples].tolist(),
        tags.get(Tag.FORMAT, np.ones(1))[:samples].tolist(),
    )
    if len(set(depths)) != 1 or len(set(formats)) != 1:
        raise UnreadableImage(f"a TIFF whose channels differ in bits or kind ({depths}, {formats}); {SAVE_ANEW}")
    bits, kind = int(depths[0]), _KINDS.get(int(formats[0]))
    if kind is None or bits not in _DEPTHS[kind]:
        numbers = _NUMBERS[kind] if kind else "complex numbers or the like"
        raise UnreadableImage(
            f"a TIFF of {bits}-bit {numbers}; read are unsigned whole numbers of 1 to 16, 24 and 32 bits, signed ones "
            f"of 8, 16 and 32, and floats of 16, 32 and 64: {SAVE_ANEW}"
        )
    return bits, kind


def _read_colours(tags: Tags, compression: int, bits: int, kind: str) -> tuple[int, tuple[int, ...]]:
    """How the colours are to be read, and what the channels beyond them mean."""
    samples = find_number(tags, Tag.SAMPLES, 1)
    # As libtiff guesses where the tag is missing.
    guess = WHITE_IS_ZERO if compression in CCITT else BLACK_IS_ZERO if samples < 3 else RGB
    photometric = find_number(tags, Tag.PHOTOMETRIC, guess)
    if photometric not in _COLOURS:
        name = _OTHER_COLOURS.get(photometric, "unknown")
        raise UnreadableImage(f"a TIFF with pixels of type {photometric} ({name}); save it as grey or RGB")
    unknown = samples - _COLOURS[photometric]
    if unknown < 0 or (unknown > 1 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE)) or unknown > 12:
        raise UnreadableImage(f"a TIFF with {samples} channels, which are not grey or RGB; save it as grey or RGB")
    given = tags.get(Tag.EXTRA, np.zeros(1))[:unknown].tolist()
    extra = (*(int(meaning) for meaning in given), *[0] * (unknown - len(given)))
    if photometric in (PALETTE, CMYK, YCBCR) and (kind != "u" or bits > (8 if photometric == YCBCR else 16)):
        raise UnreadableImage(f"a palette, CMYK or YCbCr TIFF of {bits} bits; save it as grey or RGB")
    if photometric == PALETTE and tags.get(Tag.COLOUR_MAP, np.empty(0)).size < 3 * 2**bits:
        raise UnreadableImage("a damaged TIFF: its palette is missing or too short")
    return photometric, extra


def _read_subsampling(tags: Tags, photometric: int, compression: int) -> tuple[int, int]:
    if photometric != YCBCR or compression == JPEG:
        return 1, 1
    across, down = (int(number) for number in np.resize(tags.get(Tag.SUBSAMPLING, np.full(2, 2)), 2))
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise UnreadableImage("a damaged TIFF: its chroma subsampling is not 1, 2 or 4")
    usual = [[0, 1], [255, 1], [128, 1], [255, 1], [128, 1], [255, 1]]
    if Tag.REFERENCE in tags and tags[Tag.REFERENCE].tolist() != usual:
        raise UnreadableImage("a YCbCr TIFF with its own black and white; save it as RGB")
    return across, down


def _check_layout(layout: Layout) -> None:
    channels = 1 if layout.separate else layout.samples
    if not (1 <= layout.rows <= 2**20 and layout.columns >= 1) or layout.rows * layout.columns * channels > _MAX_BYTES:
        raise UnreadableImage(f"a TIFF with strips or tiles of {layout.columns} x {layout.rows} pixels")
    needed = math.ceil(layout.height / layout.rows) * math.ceil(layout.width / layout.columns)
    # Tiles are whole beyond the picture's edges, too.
    pixels = needed * layout.rows * layout.columns if layout.tiled else layout.height * layout.width
    if pixels * layout.samples * max(1, layout.bits // 8) > _MAX_BYTES:
        raise UnreadableImage(
            f"a TIFF with over {_MAX_BYTES:,} bytes of pixels; save it as grey or RGB of 8 or 16 bits"
        )
    needed *= layout.samples if layout.separate else 1
    if len(layout.offsets) < needed or 0 < len(layout.counts) < needed:
        raise UnreadableImage(f"a damaged TIFF: {len(layout.offsets)} strips or tiles where {needed} are needed")
    if needed > _MAX_SEGMENTS or (needed > 1 and not len(layout.counts) and layout.compression != NONE):
        raise UnreadableImage(f"a TIFF with {needed:,} strips or tiles, which are too many, or have no byte counts")
    # Strips may lie over one another: a small file could have gigabytes to read.
    if layout.counts[:needed].sum(dtype=np.float64) > _MAX_BYTES:
        raise UnreadableImage(f"a TIFF with over {_MAX_BYTES:,} bytes of strips or tiles")
    if layout.rows % layout.subsampling[1] and needed > 1:
        raise UnreadableImage(
            f"a YCbCr TIFF with strips of {layout.rows} rows, which part its chroma; {SAVE_ANEW} in RGB"
        )
    if layout.subsampling != (1, 1) and layout.separate:
        raise UnreadableImage(f"a YCbCr TIFF with reduced chroma planes; {SAVE_ANEW} in RGB")
    if layout.compression in CCITT and (layout.bits, layout.samples) != (1, 1):
        raise UnreadableImage("a damaged TIFF: CCITT compression of more than one bit a pixel")
    if layout.compression == JPEG and (layout.kind != "u" or layout.bits not in (8, 12)):
        raise UnreadableImage(f"a TIFF with JPEG of {layout.bits} bits; {SAVE_ANEW}")
