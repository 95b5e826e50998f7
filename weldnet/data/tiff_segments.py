"""The strips and tiles of a TIFF, decompressed and put together."""

import math
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from weldnet.data.jpeg import refuse_damaged
from weldnet.data.pictures import UnreadableImage
from weldnet.data.structure import read_frame
from weldnet.data.tiff_layout import (
    CCITT,
    CMYK,
    DEFLATE,
    JPEG,
    LZMA,
    LZW,
    NONE,
    PACKBITS,
    RGB,
    SAVE_ANEW,
    YCBCR,
    Layout,
)
from weldnet.data.tiff_tags import Tag

# What the decompressors raise for damaged data, and for data of a different shape.
_DAMAGE = (RuntimeError, ValueError, zlib.error)
_NO_CONVERSION, _TO_RGB, _TO_CMYK, _TO_GREY = None, 2, 4, 1


def read_samples(content: bytes, layout: Layout) -> NDArray[Any]:
    """Decodes all strips or tiles.

    Returns:
        (H, W, channels), in the machine's byte order: uint8, uint16, uint32, int8, int16, int32, float16, float32 or
        float64.

    Raises:
        UnreadableImage: they are truncated or damaged, or stored in a way that is not read.
    """
    across, down = math.ceil(layout.width / layout.columns), math.ceil(layout.height / layout.rows)
    samples = np.empty((layout.height, layout.width, layout.samples), _find_dtype(layout))
    for index in range(across * down * (layout.samples if layout.separate else 1)):
        plane, place = divmod(index, across * down)
        top, left = place // across * layout.rows, place % across * layout.columns
        target = samples[top : top + layout.rows, left : left + layout.columns]
        target = target[..., plane : plane + 1] if layout.separate else target
        try:
            segment = _read_segment(content, layout, index, len(target))
        except _DAMAGE as error:
            # InputError is a ValueError.
            if isinstance(error, UnreadableImage):
                raise
            raise UnreadableImage(f"a damaged TIFF: strip or tile {index + 1}: {error}") from error
        segment = segment[: target.shape[0], : target.shape[1]]
        if segment.shape != target.shape:
            raise UnreadableImage(f"a damaged TIFF: strip or tile {index + 1} is {segment.shape}, not {target.shape}")
        target[...] = segment
    return samples


def _find_dtype(layout: Layout) -> np.dtype[Any]:
    size = next(size for size in (8, 16, 32, 64) if size >= layout.bits)
    return np.dtype(f"{layout.kind}{size // 8}")


def _read_segment(content: bytes, layout: Layout, index: int, height: int) -> NDArray[Any]:
    """(rows, columns, channels) of one strip or tile; `height`: its rows within the picture."""
    rows = layout.rows if layout.tiled else height
    channels = 1 if layout.separate else layout.samples
    (across, down), size = layout.subsampling, rows * math.ceil(layout.columns * channels * layout.bits / 8)
    if layout.subsampling != (1, 1):
        size = math.ceil(rows / down) * math.ceil(layout.columns / across) * (across * down + 2)
    offset = int(layout.offsets[index])
    count = int(layout.counts[index]) if len(layout.counts) else len(content) - offset
    if layout.compression == NONE and (len(layout.offsets) == 1 or count >= size):
        # Of a single strip some writers give no count, or a wrong one.
        count = size
    if offset + count > len(content) or offset < 8 or count < 1:
        raise UnreadableImage(f"a truncated TIFF: strip or tile {index + 1} lies beyond the end of the file")
    data: Any = memoryview(content)[offset : offset + count]
    if layout.compression == JPEG:
        return _decode_jpeg(bytes(data), layout, (rows, layout.columns, channels))
    if layout.reversed_bits:
        data = imagecodecs.bitorder_decode(bytes(data))
    if layout.compression in CCITT:
        return _decode_ccitt(bytes(data), layout, rows)
    # Some writers fill the last strip up to its whole height.
    raw = _decompress(data, layout.compression, size, math.ceil(size * layout.rows / rows))
    if len(raw) < size:
        raise UnreadableImage(f"a damaged TIFF: strip or tile {index + 1} has {len(raw):,} of {size:,} bytes")
    raw = memoryview(raw)[:size]
    if layout.subsampling != (1, 1):
        return _spread_chroma(np.frombuffer(raw, np.uint8), layout, rows)
    return _unpack(raw, layout, (rows, layout.columns, channels))


def _decompress(data: Any, compression: int, size: int, room: int) -> Any:
    """`size` bytes are needed, and at most `room` are unpacked: a small file could hold gigabytes of zeros."""
    if compression == NONE:
        return data
    if compression in DEFLATE:
        return _inflate(data, size)
    if compression == LZW:
        return _decompress_lzw(data, size)
    if compression == PACKBITS:
        return imagecodecs.packbits_decode(data, out=room)
    if compression == LZMA:
        return imagecodecs.lzma_decode(data, out=size)
    return imagecodecs.zstd_decode(data, out=room)


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


def _decompress_lzw(data: Any, size: int) -> Any:
    """By libtiff, from a file of one row that says nothing else: twice as fast as `lzw_decode`, and reads old LZW."""
    tags = {Tag.WIDTH: size, Tag.LENGTH: 1, Tag.BITS: 8, Tag.COMPRESSION: LZW, Tag.PHOTOMETRIC: 1, Tag.STRIPS: 122}
    tags |= {Tag.SAMPLES: 1, Tag.ROWS: 1, Tag.STRIP_COUNTS: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return imagecodecs.tiff_decode(b"".join((head, *entries, bytes(4), data)))[0]


def _decode_ccitt(data: bytes, layout: Layout, rows: int) -> NDArray[Any]:
    if layout.compression == 2:
        pixels = imagecodecs.ccittrle_decode(data, rows, layout.columns)
    elif layout.compression == 3:
        pixels = imagecodecs.ccittfax3_decode(data, rows, layout.columns, t4options=layout.t4_options)
    else:
        pixels = imagecodecs.ccittfax4_decode(data, rows, layout.columns)
    return pixels[..., None]


def _decode_jpeg(data: bytes, layout: Layout, shape: tuple[int, int, int]) -> NDArray[Any]:
    frame = read_frame(data)
    if frame is None or frame.bits != layout.bits or frame.channels != shape[2]:
        raise UnreadableImage(f"a damaged TIFF: a JPEG inside it is not of {shape[2]} channels of {layout.bits} bits")
    if frame.height > shape[0] or frame.width > shape[1]:
        raise UnreadableImage("a damaged TIFF: a JPEG inside it is larger than its strip or tile")
    if frame.bits == 8:
        refuse_damaged(layout.tables[:-2] + data[2:] if layout.tables else data)
    known, wanted = None, _NO_CONVERSION
    if layout.separate:
        wanted = _TO_GREY
    elif layout.photometric == YCBCR:
        wanted = _TO_RGB
    elif layout.photometric == RGB and not layout.extra:
        # Without this libjpeg takes three channels for YCbCr; those of JFIF are.
        known, wanted = None if b"JFIF\0" in data[:32] else _TO_RGB, _TO_RGB
    elif layout.photometric == CMYK:
        wanted = _TO_CMYK
    pixels = imagecodecs.jpeg8_decode(data, tables=layout.tables or None, colorspace=known, outcolorspace=wanted)
    return pixels.reshape(*pixels.shape[:2], -1)


def _spread_chroma(raw: NDArray[np.uint8], layout: Layout, rows: int) -> NDArray[np.uint8]:
    """YCbCr (rows, columns, 3) from units of some luma samples, a Cb and a Cr."""
    across, down = layout.subsampling
    units = raw.reshape(math.ceil(rows / down), math.ceil(layout.columns / across), across * down + 2)
    luma = units[..., :-2].reshape(*units.shape[:2], down, across).swapaxes(1, 2)
    chroma = units[..., -2:].repeat(down, 0).repeat(across, 1)
    return np.dstack([luma.reshape(chroma.shape[:2]), chroma])[:rows, : layout.columns]


def _unpack(raw: memoryview, layout: Layout, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Samples (rows, columns, channels) from the bytes of a strip or tile."""
    bits, predicted = layout.bits, layout.predictor if layout.compression not in (NONE, PACKBITS) else 1
    if bits not in (8, 16, 32, 64):
        if predicted != 1:
            raise UnreadableImage(f"a TIFF of {bits} bits with a predictor; {SAVE_ANEW}, with 8 or 16 bits")
        if bits == 24:
            return _join_bytes(np.frombuffer(raw, np.uint8), layout.order).reshape(shape)
        dtype = np.uint8 if bits <= 8 else np.uint16
        return imagecodecs.packints_decode(bytes(raw), dtype, bits, runlen=shape[1] * shape[2]).reshape(shape)
    native = _find_dtype(layout)
    if predicted == 3 and layout.kind == "f":
        return imagecodecs.floatpred_decode(np.frombuffer(raw, native).reshape(shape), axis=-2)
    samples = np.frombuffer(raw, f"{layout.order}{native.str[1:]}").reshape(shape)
    if predicted == 1:
        return samples
    if predicted != 2:
        raise UnreadableImage(f"a TIFF with predictor {predicted}; {SAVE_ANEW}")
    return imagecodecs.delta_decode(samples.astype(native), axis=-2)


def _join_bytes(raw: NDArray[np.uint8], order: str) -> NDArray[np.uint32]:
    low, middle, high = raw.reshape(-1, 3).T.astype(np.uint32)[:: 1 if order == "<" else -1]
    joined: NDArray[np.uint32] = low | middle << 8 | high << 16
    return joined
