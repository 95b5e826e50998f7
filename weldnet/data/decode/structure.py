"""What a file's own structure says, before a library walks through all of it."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from weldnet.data.decode.pictures import UnreadableImage

_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000

SCAN = 0xDA
_END = 0xD9
_ALONE = (0x01, 0xD8, _END)
# SOF0 to SOF15, without DHT, JPG and DAC; SOF55 is that of JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# In a scan's data, no marker: a zero after it, a restart, or filling.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


class Segment(NamedTuple):
    """A marker, where it starts, and where its own bytes start and end; a scan's data follow its end."""

    marker: int
    start: int
    body: int
    end: int


def read_segments(content: bytes) -> list[Segment]:
    """The segments up to the one that ends the picture: behind it, a telephone puts a film.

    Raises:
        UnreadableImage: they are more than any picture needs; libjpeg would pass over all pixels for each of many
            scans.
    """
    segments: list[Segment] = []
    place, marker = 0, 0
    while marker != _END and (found := _MARKER.search(content, place)):
        marker, place = found[1][0], found.end()
        length = 0 if marker in _ALONE else int.from_bytes(content[place : place + 2], "big")
        segments.append(Segment(marker, found.start(), place, place + length))
        place += length
        if len(segments) > _MAX_SEGMENTS:
            raise UnreadableImage(f"a JPEG with more than {_MAX_SEGMENTS:,} segments")
    scans = sum(segment.marker == SCAN for segment in segments)
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"a JPEG with {scans:,} scans; at most {_MAX_SCANS} are read")
    return segments


@dataclass(frozen=True)
class Frame:
    """What a JPEG says of its pixels."""

    bits: int
    height: int
    width: int
    channels: int


def read_frame(content: bytes, segments: list[Segment]) -> Frame | None:
    """A JPEG's or JPEG-LS's frame header, or None where there is none before the pixels."""
    for segment in segments:
        if segment.marker == SCAN:
            break
        if segment.marker in _FRAMES:
            header = content[segment.body + 2 : segment.body + 8].ljust(6, b"\0")
            return Frame(header[0], int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big"), header[5])
    return None
