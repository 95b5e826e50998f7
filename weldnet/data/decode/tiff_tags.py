"""The directories of a TIFF: the first page's tags as numbers, and how many pages there are.

Source: TIFF 6.0, section 2; BigTIFF.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.pictures import UnreadableImage

_MAX_TAGS = 4096
_MAX_PAGES = 10_000


class Tag(IntEnum):
    """The tags that are read; all others are ignored."""

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


class Field(NamedTuple):
    """A tag's numbers, and their offset in the file."""

    numbers: NDArray[Any]
    offset: int


Tags = dict[int, Field]

# Whole numbers; a tag of a different type is ignored.
_TYPES = {1: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_FRACTION = 5
_CODES = set(Tag)


def read_tags(content: bytes) -> tuple[Tags, int]:
    """The numbers of each `Tag` of the first page, which stay where they are in the file; and the number of pages.

    Pages are counted along a chain that may be broken, endless or a circle.
    """
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    first, count_bytes, offset_bytes = (8, 8, 8) if content[2:4] in (b"+\0", b"\0+") else (4, 2, 4)
    entry = np.dtype([("tag", "u2"), ("type", "u2"), ("count", f"u{offset_bytes}"), ("value", f"u{offset_bytes}")])

    def read(offset: int, num_bytes: int) -> int:
        return int.from_bytes(content[offset : offset + num_bytes], order)

    page = read(first, offset_bytes)
    start, num_tags = page + count_bytes, read(page, count_bytes)
    if num_tags > _MAX_TAGS:
        raise UnreadableImage(f"a TIFF with {num_tags:,} tags; at most {_MAX_TAGS:,} are read")
    if start + num_tags * entry.itemsize > len(content):
        raise UnreadableImage("a truncated TIFF: the end of the file comes before the end of its tags")
    tags: Tags = {}
    entries = np.frombuffer(content, entry.newbyteorder(order), num_tags, start)
    for index, (code, type_code, count, value) in enumerate(entries.tolist()):
        kind = "2u4" if (code, type_code) == (Tag.REFERENCE, _FRACTION) else _TYPES.get(type_code)
        if code not in _CODES or code in tags or kind is None:
            continue
        dtype = np.dtype(kind).newbyteorder(order)
        size = count * dtype.itemsize
        offset = start + (index + 1) * entry.itemsize - offset_bytes if size <= offset_bytes else value
        if not count or offset + size > len(content):
            raise UnreadableImage(
                f"a truncated or damaged TIFF: the values of tag {code} lie beyond the end of the file"
            )
        tags[code] = Field(np.frombuffer(content, dtype, count, offset), offset)
    seen: set[int] = set()
    while page and page not in seen and len(seen) < _MAX_PAGES:
        seen.add(page)
        page = read(page + count_bytes + read(page, count_bytes) * entry.itemsize, offset_bytes)
    return tags, max(1, len(seen))


def find_numbers(tags: Tags, code: int, default: int | None = None) -> NDArray[Any]:
    if code in tags:
        return tags[code].numbers
    if default is None:
        raise UnreadableImage(f"a damaged TIFF: no tag {code}")
    return np.array([default])


def find_number(tags: Tags, code: int, default: int | None = None) -> int:
    return int(find_numbers(tags, code, default).flat[0])


def change_tags(content: bytes, tags: Tags, values: Mapping[Tag, int]) -> bytes:
    """The file with different values for those of some tags that it has."""
    changed = bytearray(content)
    for code in values.keys() & tags.keys():
        numbers, offset = tags[code]
        np.frombuffer(changed, numbers.dtype, numbers.size, offset)[:] = values[code]
    return bytes(changed)
