"""The strips and tiles of a TIFF, decompressed and put together."""

import math
import struct
import sys
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.jpeg import decode_undamaged, refuse_lost_bytes
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.data.decode.structure import SCAN, read_frame, read_segments
from weldnet.data.decode.tiff_layout import (
    CCITT,
    DEFLATE,
    JPEG,
    LZMA,
    LZW,
    NONE,
    PACKBITS,
    RGB,
    SAVE_ANEW,
    Layout,
)
from weldnet.data.decode.tiff_tags import Tag

# What the decompressors raise for damaged data, and for data of a different shape.
_DAMAGE = (RuntimeError, ValueError, zlib.error)
_IS_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's segment for RGB. Without it, or JFIF's, libjpeg takes three channels for YCbCr."""
_COLOURS = {1: ("GRAY", 1), 3: ("RGB", 2), 4: ("CMYK", 4)}
"""What a JPEG of so many channels is decoded to: simplejpeg's and libjpeg's names."""
_ORDER = {"little": "<", "big": ">"}[sys.byteorder]
_BAND = 2**23
"""Bytes of pixels that are decoded at once."""


def read_samples(content: bytes, layout: Layout) -> NDArray[Any]:
    """Decodes all strips or tiles.

    Returns:
        (H, W, channels), in the machine's byte order: uint8, uint16, uint32, int8, int16, int32, float16, float32 or
        float64.

    Raises:
        UnreadableImage: they are truncated or damaged, or stored in a way that is not read.
    """
    across, down = math.ceil(layout.width / layout.columns), math.ceil(layout.height / layout.rows)
    channels = 1 if layout.separate else layout.samples
    samples = np.empty((layout.height, layout.width, layout.samples), _find_dtype(layout))
    # A row of tiles, or many strips: there can be one for each row of pixels, and a call costs more than its decoding.
    step = 1 if layout.tiled else max(1, _BAND // samples[: layout.rows].nbytes)
    for plane in range(layout.samples // channels):
        for row in range(0, down, step):
            top, first = row * layout.rows, (plane * down + row) * across
            target = samples[top : top + step * layout.rows, :, plane : plane + channels]
            heights = [layout.rows] * across
            if not layout.tiled:
                heights = [min(layout.rows, len(target) - above) for above in range(0, len(target), layout.rows)]
            # Strips of all channels are decoded to where they stay.
            in_place = not (layout.tiled or layout.separate)
            band = target if in_place else np.empty((sum(heights), layout.columns, channels), samples.dtype)
            _fill_band(band, content, layout, first, heights)
            if not in_place:
                for left, tile in zip(range(0, layout.width, layout.columns), np.split(band, across), strict=True):
                    part = target[:, left : left + layout.columns]
                    part[...] = tile[: part.shape[0], : part.shape[1]]
    return samples


def _find_dtype(layout: Layout) -> np.dtype[Any]:
    size = next(size for size in (8, 16, 32, 64) if size >= layout.bits)
    return np.dtype(f"{layout.kind}{size // 8}")


def _fill_band(band: NDArray[Any], content: bytes, layout: Layout, first: int, heights: list[int]) -> None:
    """Decodes strips or tiles from the `first` on into (rows of all, columns, channels), each below the one before."""
    if layout.compression in (JPEG, *CCITT):
        _decode(band, content, layout, first, heights)
    elif layout.subsampling != (1, 1):
        across, down = layout.subsampling
        heights = [math.ceil(height / down) for height in heights]
        units = np.empty((sum(heights), math.ceil(layout.columns / across), across * down + 2), np.uint8)
        _decode(units, content, layout, first, heights)
        band[...] = _spread_chroma(units, layout)[: len(band)]
    elif layout.bits in (8, 16, 32, 64):
        _decode(band.reshape(len(band), -1).view(np.uint8), content, layout, first, heights)
        _undo_predictor(band, layout)
    else:
        row_bytes = math.ceil(band[0].size * layout.bits / 8)
        packed = np.empty((len(band), row_bytes), np.uint8)
        _decode(packed, content, layout, first, heights)
        band[...] = _unpack(packed, layout, band[0].size).reshape(band.shape)


def _decode(stack: NDArray[Any], content: bytes, layout: Layout, first: int, heights: list[int]) -> None:
    """Decodes them into samples (JPEG, CCITT) or into bytes, in rows of any shape."""
    pieces = _cut(content, layout, first, np.array(heights) * stack[0].nbytes)
    if layout.compression == PACKBITS and len(pieces) > 1:
        # The runs of all are those of each, one after the other; only the last strip may have more than it needs.
        pieces, heights = [b"".join(pieces[:-1]), pieces[-1]], [sum(heights[:-1]), heights[-1]]
    try:
        if layout.compression == LZW:
            _decompress_at_once(stack.reshape(len(stack), -1), pieces, layout, heights)
            return
        bottom = 0
        for data, height in zip(pieces, heights, strict=True):
            top, bottom = bottom, bottom + height
            target = stack[top:bottom]
            part = _decode_one(data, layout, target)
            if part.shape != target.shape:
                raise ValueError(f"it is {part.shape}, not {target.shape}")
            if part is not target:
                target[...] = part
    except UnreadableImage:
        raise
    except _DAMAGE as error:
        raise UnreadableImage(f"a damaged TIFF: a strip or tile: {error}") from error


def _cut(content: bytes, layout: Layout, first: int, sizes: NDArray[np.int_]) -> list[Any]:
    """The bytes of strips or tiles in the file; `sizes`: their number without compression."""
    offsets = layout.offsets[first : first + len(sizes)].astype(np.int64)
    counts = (
        layout.counts[first : first + len(sizes)].astype(np.int64) if len(layout.counts) else len(content) - offsets
    )
    if layout.compression == NONE:
        # Of a single strip some writers give no count, or a wrong one.
        counts = np.where((counts >= sizes) | (len(layout.offsets) == 1), sizes, counts)
    beyond = (offsets < 8) | (counts < 1) | (offsets > len(content) - counts)
    if beyond.any():
        raise UnreadableImage("a truncated TIFF: a strip or tile lies beyond the end of the file")
    view = memoryview(content)
    return [view[start:end] for start, end in zip(offsets.tolist(), (offsets + counts).tolist(), strict=True)]


def _decompress_at_once(stack: NDArray[np.uint8], pieces: list[Any], layout: Layout, heights: list[int]) -> None:
    """By libtiff, from a file that says nothing else: twice as fast as `lzw_decode`, and reads old LZW."""
    counts = np.array([len(piece) for piece in pieces])
    # A single number would stand in the tag itself.
    tables = np.stack([8 + counts.cumsum() - counts, counts]).astype("<u4").repeat(2 if len(pieces) == 1 else 1, axis=1)
    end = 8 + int(counts.sum())
    tags = {Tag.WIDTH: stack.shape[1], Tag.LENGTH: len(stack), Tag.BITS: 8, Tag.COMPRESSION: LZW}
    tags |= {Tag.PHOTOMETRIC: 1, Tag.FILL_ORDER: 2 if layout.reversed_bits else 1, Tag.STRIPS: end, Tag.SAMPLES: 1}
    tags |= {Tag.ROWS: heights[0], Tag.STRIP_COUNTS: end + tables[0].nbytes}
    many = dict.fromkeys((Tag.STRIPS, Tag.STRIP_COUNTS), tables.shape[1])
    entries = [struct.pack("<HHII", tag, 4, many.get(tag, 1), value) for tag, value in tags.items()]
    head = struct.pack("<2sHI", b"II", 42, end + tables.nbytes)
    file = b"".join([head, *pieces, tables.tobytes(), struct.pack("<H", len(tags)), *entries, bytes(4)])
    imagecodecs.tiff_decode(file, out=stack)


def _decode_one(data: Any, layout: Layout, target: NDArray[Any]) -> NDArray[Any]:
    """One strip or tile, which may have been decoded into `target`."""
    if layout.compression == JPEG:
        return _decode_jpeg(bytes(data), layout, target)
    if layout.reversed_bits:
        data = imagecodecs.bitorder_decode(bytes(data))
    if layout.compression in CCITT:
        return _decode_ccitt(bytes(data), layout, len(target))
    size = target.size
    if layout.compression in DEFLATE:
        data = _inflate(data, size)
    elif layout.compression == LZMA:
        data = imagecodecs.lzma_decode(data, out=size)
    elif layout.compression != NONE:
        decode = imagecodecs.packbits_decode if layout.compression == PACKBITS else imagecodecs.zstd_decode
        # Some writers fill the last strip up to its whole height; a small file could hold gigabytes of zeros.
        data = decode(data, out=max(size, math.ceil(size * layout.rows / len(target))))
    if len(data) < size:
        raise ValueError(f"it has {len(data):,} of {size:,} bytes")
    return np.frombuffer(data, np.uint8, size).reshape(target.shape)


def _inflate(data: Any, size: int) -> Any:
    try:
        return imagecodecs.deflate_decode(data, out=size)
    except RuntimeError:
        # Damaged, or whole rows more than are needed, as some writers have it.
        stream = zlib.decompressobj()
        raw = stream.decompress(data, size)
        # Past the end, where the checksum is.
        stream.decompress(stream.unconsumed_tail, 1)
        return raw


def _decode_ccitt(data: bytes, layout: Layout, rows: int) -> NDArray[Any]:
    if layout.compression == 2:
        pixels = imagecodecs.ccittrle_decode(data, rows, layout.columns)
    elif layout.compression == 3:
        pixels = imagecodecs.ccittfax3_decode(data, rows, layout.columns, t4options=layout.t4_options)
    else:
        pixels = imagecodecs.ccittfax4_decode(data, rows, layout.columns)
    return pixels[..., None]


def _decode_jpeg(data: bytes, layout: Layout, target: NDArray[Any]) -> NDArray[Any]:
    height, width, channels = target.shape
    if layout.tables:
        data = layout.tables[:-2] + data[2:]
    segments = read_segments(data)
    frame = read_frame(data, segments)
    if frame is None or frame.bits != layout.bits or frame.channels != channels:
        raise UnreadableImage(f"a damaged TIFF: a JPEG inside it is not of {channels} channels of {layout.bits} bits")
    if (frame.height, frame.width) != (height, width):
        raise UnreadableImage("a damaged TIFF: a JPEG inside it is larger or smaller than its strip or tile")
    if frame.bits == 8:
        refuse_lost_bytes(data, segments)
    if layout.photometric == RGB:
        scan = next((one.start for one in segments if one.marker == SCAN), len(data))
        data = data[:scan] + _IS_RGB + data[scan:]
    colours, code = _COLOURS.get(channels, (None, None))
    if colours and frame.bits == 8 and decode_undamaged(data, colours, into=target) is not None:
        return target
    return imagecodecs.jpeg8_decode(data, outcolorspace=code).reshape(height, width, -1)


def _spread_chroma(units: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """YCbCr (rows, columns, 3) from units of some luma samples, a Cb and a Cr."""
    across, down = layout.subsampling
    luma = units[..., :-2].reshape(*units.shape[:2], down, across).swapaxes(1, 2)
    chroma = units[..., -2:].repeat(down, 0).repeat(across, 1)
    return np.dstack([luma.reshape(chroma.shape[:2]), chroma])[:, : layout.columns]


def _undo_predictor(band: NDArray[Any], layout: Layout) -> None:
    """Makes samples (rows, columns, channels) of what the file has of them, in place."""
    predictor = _find_predictor(layout)
    if predictor == 3 and layout.kind == "f":
        band[...] = imagecodecs.floatpred_decode(band, axis=-2)
        return
    if predictor not in (1, 2):
        raise UnreadableImage(f"a TIFF with predictor {predictor}; {SAVE_ANEW}")
    if layout.order != _ORDER:
        band.byteswap(inplace=True)
    if predictor == 2:
        imagecodecs.delta_decode(band, axis=-2, out=band)


def _find_predictor(layout: Layout) -> int:
    return layout.predictor if layout.compression not in (NONE, PACKBITS) else 1


def _unpack(packed: NDArray[np.uint8], layout: Layout, run: int) -> NDArray[Any]:
    """Samples of other bits than 8, 16, 32 and 64; `run`: in a row, which is filled up to bytes."""
    if _find_predictor(layout) != 1:
        raise UnreadableImage(f"a TIFF of {layout.bits} bits with a predictor; {SAVE_ANEW}, with 8 or 16 bits")
    if layout.bits != 24:
        return imagecodecs.packints_decode(packed.tobytes(), _find_dtype(layout), layout.bits, runlen=run)
    low, middle, high = packed.reshape(-1, 3).T.astype(np.uint32)[:: 1 if layout.order == "<" else -1]
    joined: NDArray[np.uint32] = low | middle << 8 | high << 16
    return joined
