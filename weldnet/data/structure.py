"""What a file's own structure says, before a library walks through all of it."""

import re
from dataclasses import dataclass
from typing import Literal

from weldnet.data.pictures import UnreadableImage

_MAX_PAGES = 10_000
_MAX_TAGS = 4096
_MAX_SCANS = 100

# SOF0 to SOF15, without DHT, JPG and DAC; SOF55 is that of JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def count_pages(content: bytes) -> int:
    """Directories in a TIFF's chain, which may be broken, endless or a circle.

    Raises:
        UnreadableImage: the first has more tags than any image needs; Pillow would read them all.
    """
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    # A BigTIFF has wider offsets, counts and tags.
    start, offset, count, tag = (8, 8, 8, 20) if content[2:4] in (b"+\0", b"\0+") else (4, 4, 2, 12)
    seen: set[int] = set()

    def read(place: int, width: int) -> int:
        return int.from_bytes(content[place : place + width], order)

    page = read(start, offset)
    while page and page not in seen and len(seen) < _MAX_PAGES:
        tags = read(page, count)
        if not seen and tags > _MAX_TAGS:
            raise UnreadableImage(f"a TIFF with {tags:,} tags; at most {_MAX_TAGS:,} are read")
        seen.add(page)
        page = read(page + count + tags * tag, offset)
    return max(1, len(seen))


def check_scans(content: bytes) -> None:
    """Counts a JPEG's scans: each of ten bytes costs libjpeg a pass over all pixels.

    Raises:
        UnreadableImage: they are too many.
    """
    scans = place = 0
    # Up to its end: a telephone puts a film behind it.
    while (found := _MARKER.search(content, place)) and found[1] != b"\xd9":
        place = found.end()
        if found[1] not in b"\x01\xd8":
            place += int.from_bytes(content[place : place + 2], "big")
        scans += found[1] == b"\xda"
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"a JPEG with {scans:,} scans; at most {_MAX_SCANS} are read")


@dataclass(frozen=True)
class Frame:
    """What a JPEG says of its pixels."""

    bits: int
    height: int
    width: int
    channels: int


def read_frame(content: bytes) -> Frame | None:
    """A JPEG's or JPEG-LS's frame header, or None where there is none before the pixels."""
    place = 0
    while (found := _MARKER.search(content, place)) and found[1] not in b"\xd9\xda":
        place = found.end()
        if found[1][0] in _FRAMES:
            header = content[place + 2 : place + 8].ljust(6, b"\0")
            return Frame(header[0], int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big"), header[5])
        if found[1] not in b"\x01\xd8":
            place += int.from_bytes(content[place : place + 2], "big")
    return None
