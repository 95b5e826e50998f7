"""The tags of a TIFF's first page, as numbers.

Source: TIFF 6.0, section 2; BigTIFF.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.pictures import UnreadableImage

Tags = dict[int, NDArray[Any]]


class Tag(IntEnum):
    """What is read; everything else is passed over."""

    SUBFILE = 254
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIPS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    STRIP_COUNTS = 279
    PLANAR = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILES = 324
    TILE_COUNTS = 325
    EXTRA = 338
    FORMAT = 339
    TABLES = 347
    SUBSAMPLING = 530
    REFERENCE = 532


# Whole numbers; a tag of a different type is passed over.
_TYPES = {1: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_FRACTION = 5
_CODES = set(Tag)


def read_tags(content: bytes) -> Tags:
    """The numbers of each `Tag`; they stay where they are in the file.

    Raises:
        UnreadableImage: the tags, or the values of one, lie beyond the end of the file.
    """
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    offset, first, count, entry, inline = ("u8", 8, "u8", 20, 12) if big else ("u4", 4, "u2", 12, 8)

    def read(at: int, kind: str) -> int:
        dtype = np.dtype(order + kind)
        if at + dtype.itemsize > len(content):
            raise UnreadableImage("a truncated TIFF: the end of the file comes before the end of its tags")
        return int(np.frombuffer(content, dtype, 1, at)[0])

    page = read(first, offset)
    start = page + np.dtype(count).itemsize
    tags: Tags = {}
    for number in range(read(page, count)):
        at = start + number * entry
        code, type_code = read(at, "u2"), read(at + 2, "u2")
        kind = "2u4" if (code, type_code) == (Tag.REFERENCE, _FRACTION) else _TYPES.get(type_code)
        if code not in _CODES or kind is None:
            continue
        values = read(at + 4, offset)
        size = values * np.dtype(kind).itemsize
        where = at + inline if size <= entry - inline else read(at + inline, offset)
        if not values or where + size > len(content):
            raise UnreadableImage(
                f"a truncated or damaged TIFF: the values of tag {code} lie beyond the end of the file"
            )
        tags[code] = np.frombuffer(content, kind.replace("u", f"{order}u"), values, where)
    return tags


def find_numbers(tags: Tags, code: int) -> NDArray[Any]:
    if code not in tags:
        raise UnreadableImage(f"a damaged TIFF: no tag {code}")
    return tags[code]


def find_number(tags: Tags, code: int, default: int | None = None) -> int:
    if code not in tags and default is not None:
        return default
    return int(find_numbers(tags, code).flat[0])
