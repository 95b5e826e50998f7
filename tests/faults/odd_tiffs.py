"""TIFF files with what libraries rarely write, from the tags up."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odd_image import COLOUR, DEEP, GREY, Kind, OddImage, scale

HEIGHT, WIDTH = GREY.shape
WIDE = DEEP[..., None] ^ np.array([0, 0x0F0F, 0x3333], np.uint16)
"""Colour of 16 bits a channel."""

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_SUBSAMPLING, _POSITIONING = 530, 531
_DEFLATE, _LZW, _PIXTIFF = 8, 5, 50013


def write_tiff(
    pieces: Sequence[bytes], *, order: str = "<", big: bool = False, tiles: int = 0, **tags: int | Sequence[int] | None
) -> bytes:
    """A TIFF of one page.

    Args:
        pieces: the data of its strips, or of its tiles.
        order: `<` or `>`.
        big: a BigTIFF.
        tiles: their side; 0 for strips.
        tags: `t<number>` on top of those of 8-bit grey; None leaves a tag out.
    """
    where, sizes = (_TILE_OFFSETS, _TILE_COUNTS) if tiles else (_OFFSETS, _COUNTS)
    start = 16 if big else 8
    starts = np.cumsum([start, *map(len, pieces)])
    values: dict[int, Any] = {_WIDTH: WIDTH, _LENGTH: HEIGHT, _BITS: 8, _COMPRESSION: 1, _PHOTOMETRIC: 1, _SAMPLES: 1}
    values |= {_TILE_WIDTH: tiles, _TILE_LENGTH: tiles} if tiles else {_ROWS: HEIGHT}
    values |= {where: starts[:-1].tolist(), sizes: [len(piece) for piece in pieces]}
    values |= {int(name[1:]): value for name, value in tags.items()}
    data, entries = bytes(start) + b"".join(pieces), b""
    data += bytes(-len(data) % 8)
    word, width = ("Q", 8) if big else ("I", 4)
    present = {tag: value for tag, value in sorted(values.items()) if value is not None}
    for tag, value in present.items():
        numbers = list(value) if isinstance(value, (list, tuple)) else [value]
        # Offsets and counts have 32 bits, anything else 16.
        letter, kind = ("I", 4) if tag in (where, sizes) else ("H", 3)
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > width:
            place, data = len(data), data + packed + bytes(-len(packed) % 8)
            packed = struct.pack(f"{order}{word}", place)
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(numbers)) + packed.ljust(width, b"\0")
    directory = struct.pack(f"{order}{'Q' if big else 'H'}", len(present)) + entries + bytes(width)
    version = struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    header = (b"II" if order == "<" else b"MM") + version + struct.pack(f"{order}{word}", len(data))
    return header + data[start:] + directory


def cut_tiles(pixels: NDArray[Any], side: int) -> list[bytes]:
    """Tiles row by row, those at the edges filled up."""
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, -height % side), (0, -width % side)))
    rows, columns = range(0, padded.shape[0], side), range(0, padded.shape[1], side)
    return [padded[row : row + side, column : column + side].tobytes() for row in rows for column in columns]


def make_tiffs() -> list[OddImage]:
    return [*_planes(), *_tags(), *_numbers(), *_packings()]


def _planes() -> list[OddImage]:
    """Colour of 16 bits a channel shows its high bytes."""
    high = (WIDE >> 8).astype(np.uint8)
    rgb: dict[str, Any] = {"t258": [16, 16, 16], "t262": 2, "t277": 3}
    found = []
    for order, letter in (("<", "little"), (">", "big")):
        planes = [np.ascontiguousarray(WIDE[..., channel]).astype(f"{order}u2").tobytes() for channel in range(3)]
        packed = [zlib.compress(plane) for plane in planes]
        chunky = [WIDE.astype(f"{order}u2").tobytes()]
        found += [
            OddImage(f"tiff_16_bit_planes_{letter}", write_tiff(planes, order=order, t284=2, **rgb), "rare", high),
            OddImage(
                f"tiff_16_bit_planes_deflated_{letter}",
                write_tiff(packed, order=order, t284=2, t259=_DEFLATE, **rgb), "rare", high,
            ),
            OddImage(f"tiff_16_bit_colour_{letter}", write_tiff(chunky, order=order, **rgb), "sound", high),
        ]  # fmt: skip
    planes = [np.ascontiguousarray(COLOUR[..., channel]).tobytes() for channel in range(3)]
    eight = write_tiff(planes, t258=[8, 8, 8], t262=2, t277=3, t284=2)
    return [*found, OddImage("tiff_8_bit_planes", eight, "sound", COLOUR)]


def _tags() -> list[OddImage]:
    grey = [GREY.tobytes()]
    alpha = np.linspace(0, 255, WIDTH).round().astype(np.uint8) * np.ones((HEIGHT, 1), np.uint8)
    over_black = GREY.astype(np.float64) * alpha / 255
    premultiplied = np.dstack([over_black.round().astype(np.uint8), alpha]).tobytes()
    straight = np.dstack([GREY, alpha]).tobytes()
    two: dict[str, Any] = {"t258": [8, 8], "t277": 2}
    return [
        OddImage("tiff_plain", write_tiff(grey), "sound", GREY),
        OddImage("tiff_white_is_zero", write_tiff(grey, t262=0), "sound", 255 - GREY),
        OddImage("tiff_without_photometric", write_tiff(grey, t262=None), "rare", GREY),
        OddImage("tiff_grey_associated_alpha", write_tiff([premultiplied], t338=1, **two), "rare", over_black),
        OddImage("tiff_grey_alpha", write_tiff([straight], t338=2, **two), "rare", over_black),
        OddImage("tiff_big_little", write_tiff(grey, big=True), "sound", GREY),
        OddImage("tiff_big_big", write_tiff(grey, big=True, order=">"), "rare", GREY),
        OddImage("tiff_compression_50013", write_tiff([zlib.compress(grey[0])], t259=_PIXTIFF), "rare", GREY),
        OddImage("tiff_compression_unknown", write_tiff(grey, t259=60_000), "unsupported"),
        OddImage("tiff_truncated", write_tiff([grey[0][:500]], t279=[len(grey[0])]), "damaged"),
        OddImage("tiff_lzw_of_noise", write_tiff([grey[0][:700]], t259=_LZW), "damaged"),
        OddImage("tiff_deflate_cut", write_tiff([zlib.compress(grey[0])[:300]], t259=_DEFLATE), "damaged"),
    ]


def _numbers() -> list[OddImage]:
    found, share = [], GREY / 255
    for order, letter in (("<", "little"), (">", "big")):
        for bits, name in ((32, "uint32"), (16, "uint16")):
            values = (share * (2**bits - 1)).astype(f"{order}u{bits // 8}")
            content = write_tiff([values.tobytes()], order=order, t258=bits)
            found.append(OddImage(f"tiff_{name}_{letter}", content, "sound", GREY, (0, 2**bits - 1)))
        for bits in (32, 64):
            content = write_tiff([share.astype(f"{order}f{bits // 8}").tobytes()], order=order, t258=bits, t339=3)
            kind: Kind = "sound" if bits == 32 else "rare"
            found.append(OddImage(f"tiff_float{bits}_{letter}", content, kind, GREY, (0, 1)))
        signed = (DEEP.astype(np.int32) - 2**15).astype(f"{order}i2")
        content = write_tiff([signed.tobytes()], order=order, t258=16, t339=2)
        found.append(OddImage(f"tiff_int16_{letter}", content, "sound", scale(signed, -(2**15), 2**15 - 1)))
    signed = (GREY.astype(np.int16) - 128).astype(np.int8)
    inverted = write_tiff([signed.tobytes()], t339=2, t262=0)
    return [
        *found,
        OddImage("tiff_int8", write_tiff([signed.tobytes()], t339=2), "rare", GREY),
        OddImage("tiff_int8_white_is_zero", inverted, "rare", 255 - GREY),
    ]


def _packings() -> list[OddImage]:
    four = GREY >> 4
    nibbles = (four[:, ::2] << 4 | four[:, 1::2]).tobytes()
    twelve = (DEEP >> 4).astype(np.uint32)
    pairs = twelve[:, ::2] << 12 | twelve[:, 1::2]
    packed = np.dstack([pairs >> 16, pairs >> 8 & 255, pairs & 255]).astype(np.uint8).tobytes()
    neutral = np.full((HEIGHT // 2, WIDTH // 2, 2), 128, np.uint8)
    blocks = GREY.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).transpose(0, 2, 1, 3).reshape(HEIGHT // 2, WIDTH // 2, 4)
    subsampled = np.dstack([blocks, neutral]).tobytes()
    steps = np.diff(GREY, axis=1, prepend=np.zeros((HEIGHT, 1), np.uint8)).tobytes()
    tiles, deep_tiles = cut_tiles(GREY, 32), cut_tiles(DEEP, 16)
    deflated = [zlib.compress(tile) for tile in tiles]
    ycc: dict[str, Any] = {"t258": [8, 8, 8], "t262": 6, "t277": 3, "t530": [2, 2], "t531": 1}
    deep = scale(DEEP, 0, 2**16 - 1)
    return [
        OddImage("tiff_4_bit", write_tiff([nibbles], t258=4), "rare", four * 17),
        OddImage("tiff_12_bit", write_tiff([packed], t258=12), "rare", scale(DEEP >> 4, 0, 4095)),
        OddImage("tiff_tiled", write_tiff(tiles, tiles=32), "rare", GREY),
        OddImage("tiff_tiled_deflated", write_tiff(deflated, tiles=32, t259=_DEFLATE), "rare", GREY),
        OddImage("tiff_tiled_16_bit", write_tiff(deep_tiles, tiles=16, t258=16), "rare", deep),
        OddImage("tiff_subsampled", write_tiff([subsampled], **ycc), "rare", GREY, tolerance=2),
        OddImage("tiff_predictor", write_tiff([zlib.compress(steps)], t259=_DEFLATE, t317=2), "sound", GREY),
    ]
