"""Files of every format in memory, with values that the encoders of Pillow do not write, and the windows in NumPy."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from weldnet.data.decode.pictures import Picture

RAMP = np.linspace(1000, 5095, 24 * 20).astype(np.uint16).reshape(24, 20)


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def make_png(pixels: NDArray[np.uint16]) -> bytes:
    """16 bits a channel: grey (H, W), or grey with alpha, RGB or RGBA (H, W, C)."""
    height, width, channels = np.atleast_3d(pixels).shape
    rows = pixels.astype(">u2").reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)


def make_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_tiff(
    pixels: NDArray[Any], *, bits: int = 0, sample: int = 1, photometric: int = 1, following: int = 0
) -> bytes:
    """A raw grey TIFF, little-endian: header, one directory at byte 8, pixels; `following`: the next directory."""
    height, width = pixels.shape
    bits = bits or 8 * pixels.itemsize
    data = pixels.tobytes()
    place = 8 + 2 + 12 * 10 + 4
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: place, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 279 else 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + data


def build_tiff(
    segments: list[bytes], tags: dict[int, int | list[int]], *, order: str = "<", big: bool = False
) -> bytes:
    """A TIFF with these strips (or tiles, if `tags` has 322) and tags; every number has 32 bits, in BigTIFF 64."""
    number, entry = (f"{order}Q", f"{order}HHQ") if big else (f"{order}I", f"{order}HHI")
    width, start = struct.calcsize(number), 16 if big else 8
    content, places = b"", []
    for segment in segments:
        places.append(start + len(content))
        content += segment
    offsets, counts = (324, 325) if 322 in tags else (273, 279)
    tags = {259: 1, 274: 1, **tags, offsets: places, counts: [len(segment) for segment in segments]}
    directory, extra = b"", start + len(content)
    for tag, given in sorted(tags.items()):
        values = given if isinstance(given, list) else [given]
        packed = b"".join(struct.pack(number, value) for value in values)
        if len(packed) > width:
            content, packed = content + packed, struct.pack(number, extra)
            extra = start + len(content)
        directory += struct.pack(entry, tag, 16 if big else 4, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, extra) if big else struct.pack(number, extra)
    return head + content + struct.pack(f"{order}{'Q' if big else 'H'}", len(tags)) + directory + bytes(width)


def encode_lossless_jpeg(pixels: NDArray[np.uint16]) -> bytes:
    """JPEG Lossless (process 14, first predictor) of 16 bits; every difference's length is coded in 5 bits.

    Source: ITU-T T.81, annex H.
    """
    height, width = pixels.shape
    left = np.roll(pixels.astype(int), 1, axis=1)
    left[1:, 0], left[0, 0] = pixels[:-1, 0], 2**15
    bits = ""
    for difference in ((pixels.astype(int) - left + 2**15) % 2**16 - 2**15).flat:
        length = int(abs(difference)).bit_length()
        bits += f"{length:05b}"
        if 0 < length < 16:
            bits += f"{difference if difference > 0 else difference + 2**length - 1:0{length}b}"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, 16, height, width, 1, 1, 0x11, 0)
    table = struct.pack(">HHB", 0xFFC4, 36, 0) + bytes([0] * 4 + [17] + [0] * 11 + list(range(17)))
    return b"\xff\xd8" + frame + table + struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0) + scan + b"\xff\xd9"


def make_dicom(pixels: NDArray[Any], *, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """`pixels` (H, W) grey or (H, W, 3) RGB; `elements` come on top and can belie them."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    header.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8 * pixels.itemsize
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(header, name, value)
    if "HighBit" not in elements:
        header.HighBit = header.BitsStored - 1
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def apply_linear(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """The window in plain NumPy, not rounded."""
    return np.asarray(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255)


def assert_shows(picture: Picture, expected: NDArray[Any]) -> None:
    assert picture.image.mode == ("L" if expected.ndim == 2 else "RGB")
    shown = np.asarray(picture.image)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 0.5001
