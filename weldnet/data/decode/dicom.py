"""DICOM and DICONDE radiographs, read with pydicom; imagecodecs decodes what it lacks."""

import io
import logging
import struct
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.jpeg import decode_inner, read_frame, read_segments
from weldnet.data.decode.pictures import Picture, Stored, UnreadableImage, Window, check_pixels
from weldnet.errors import propose_extra

if TYPE_CHECKING:
    from pydicom import Dataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

_PREAMBLE = bytes(128) + b"DICM"
_START = len(_PREAMBLE)
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# JPEG of 12 bits, JPEG Lossless, JPEG-LS and HTJ2K, which Pillow does not read.
_JPEG = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_READABLE = (
    "weldnet reads uncompressed, RLE, JPEG, JPEG Lossless, JPEG-LS, JPEG 2000 and HTJ2K: save it uncompressed, as "
    "dcmconv and gdcmconv do"
)
# The types (value representations) of the first elements of a file.
_FIRST_TYPES = {b"UL", b"OB", b"UI", b"SH", b"AE", b"CS", b"DA", b"TM", b"LO", b"DT", b"SQ"}


def open_dicom(content: bytes, window: Window, max_pixels: int) -> Picture:
    """Decodes the first frame of a DICOM file to 8 bits, as `weldnet.data.decode.formats.open_picture` does.

    Values go through the first frame's modality LUT or rescale slope, then the window; MONOCHROME1 is inverted after
    that, so that low values are bright, as on a screen. The file's own window, which differs from file to file, is not
    used.

    Source: DICOM PS3.3, C.7.6.3, C.7.6.16.2.9 and C.11.1.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableImage(f"DICOM needs pydicom; type {propose_extra('dicom')}") from None
    # It logs what it then raises, with a traceback.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    content = (find_missing(content) or b"") + content
    try:
        syntax = find_syntax(content)
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        _check_header(header)
        check_pixels((header.Columns, header.Rows), max_pixels)
        size, pages = (header.Columns, header.Rows), int(header.get("NumberOfFrames") or 1)
        values = decode_frame(content, header, syntax)
        stored = _apply_modality(_align_bits(values, header), header)
    except UnreadableImage:
        raise
    # For a damaged file pydicom raises any exception of its parser, with a message of a paragraph.
    except Exception as error:
        reason = shorten(str(error).partition(". ")[0], 160) or type(error).__name__
        raise UnreadableImage(f"damaged DICOM: {reason}") from error
    return Picture(
        image=Image.fromarray(stored.show(window)),
        format="DICOM",
        bits=header.BitsStored,
        size=size,
        pages=pages,
        stored=stored,
    )


def _check_header(header: "Dataset") -> None:
    """Refuses what cannot be shown before any pixel is decoded."""
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
    missing = [name for name in needed if header.get(name) is None]
    if missing:
        raise UnreadableImage(f"DICOM without a picture: no {', '.join(missing)}")
    if header.PhotometricInterpretation not in (*_GREY, *_COLOUR):
        raise UnreadableImage(
            f"{shorten(str(header.PhotometricInterpretation), 40)} pixels; allowed are MONOCHROME1, MONOCHROME2, RGB "
            "and YBR"
        )
    numbers = [header.get(name) for name in needed[:4]]
    are_whole = all(isinstance(number, int) for number in numbers)
    if not are_whole or not 1 <= header.BitsStored <= header.BitsAllocated <= 32:
        raise UnreadableImage(
            f"damaged DICOM: Rows, Columns, BitsAllocated and BitsStored are {shorten(str(numbers), 60)}; bits may be "
            "1 to 32"
        )


def _align_bits(values: NDArray[Any], header: "Dataset") -> NDArray[Any]:
    """Stored bits at the top of a word are moved down; a sign that does not fill the word is spread."""
    stored, allocated = header.BitsStored, header.BitsAllocated
    spare = allocated - stored
    # Many headers are wrong about it, so the values decide, too.
    if spare > 0 and header.get("HighBit") == allocated - 1 and values.dtype.itemsize * 8 == allocated:
        low = values & (2**spare - 1)
        if not low.any() or values.max() >= 2**stored or values.min() < -(2**stored):
            values = values >> spare
    if header.get("PixelRepresentation") == 1 and values.dtype.kind in "ui" and values.min() >= 0:
        wide = values.astype(np.int64 if stored > 16 else np.int32)
        values = np.where(wide >= 2 ** (stored - 1), wide - 2**stored, wide)
    return values


def _find_modality(header: "Dataset") -> "Dataset":
    """What holds the first frame's modality LUT or rescale slope: the header, or a group in an enhanced file."""
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (header.get(name) or [])[:1]:
            for transformation in (group.get("PixelValueTransformationSequence") or [])[:1]:
                found: Dataset = transformation
                return found
    return header


def _apply_modality(values: NDArray[Any], header: "Dataset") -> Stored:
    from pydicom.pixels.processing import apply_modality_lut

    bits, signed = header.BitsStored, header.get("PixelRepresentation") == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    modality = _find_modality(header)
    if header.PhotometricInterpretation in _GREY:
        if modality.get("ModalityLUTSequence"):
            # Its first index can be below what the stored type holds.
            values = apply_modality_lut(values.astype(np.int64), modality)
            ends = np.array([0, 2 ** modality.ModalityLUTSequence[0].LUTDescriptor[2] - 1])
        else:
            values, ends = apply_modality_lut(values, modality), apply_modality_lut(ends, modality)
    full = (float(ends.min()), float(ends.max())) if bits <= 16 else None
    return Stored(values, full, inverted=header.PhotometricInterpretation == "MONOCHROME1")


def find_missing(content: bytes) -> bytes | None:
    """What an older DICOM file lacks before its first elements: preamble, transfer syntax. None if it is not DICOM."""
    if content[128:132] == b"DICM":
        return b""
    if len(content) < _START:
        return None
    group, element, length = struct.unpack("<HHI", content[:8])
    explicit = content[4:6] in _FIRST_TYPES
    if group == 2 and element <= 0x0102 and explicit:
        return _PREAMBLE
    if group == 8 and element <= 0x0070 and (explicit or (length <= 1024 and length % 2 == 0)):
        syntax = (_EXPLICIT if explicit else _IMPLICIT).encode()
        syntax += b"\0" * (len(syntax) % 2)
        return _PREAMBLE + struct.pack("<HH2sH", 2, 0x0010, b"UI", len(syntax)) + syntax
    return None


def find_syntax(content: bytes) -> str:
    """The transfer syntax. A deflated file is refused before pydicom inflates it to any size."""
    from pydicom.filereader import read_dataset

    file = io.BytesIO(content)
    file.seek(_START)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise UnreadableImage("damaged DICOM: no transfer syntax")
    if syntax == _DEFLATED:
        raise UnreadableImage(f"DICOM with transfer syntax Deflated Explicit VR Little Endian; {_READABLE}")
    return syntax


def decode_frame(content: bytes, header: "Dataset", syntax: str) -> NDArray[Any]:
    """The stored values of the first frame, (H, W) or (H, W, 3); exceptions but `UnreadableImage` mean damage."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    kind = f"DICOM with transfer syntax {UID(syntax).name[:60]!r}"
    if syntax in (*_JPEG, *_JPEG_LS, *_HTJ2K):
        if header.get("SamplesPerPixel") != 1:
            raise UnreadableImage(f"{kind} in colour; {_READABLE}")
        return _decode_without_pydicom(content, header, syntax)
    if header.BitsAllocated == 1 and UID(syntax).is_encapsulated:
        raise UnreadableImage(f"{kind} of 1 bit a pixel; {_READABLE}")
    try:
        has_decoder = get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        has_decoder = False
    if not has_decoder:
        raise UnreadableImage(f"{kind}; {_READABLE}")
    if syntax == _JPEG_BASELINE:
        # Pillow ignores damage; decoding to the fewest pixels finds it.
        decode_inner(_extract_frame(content, header), "GRAY", least=1)
    # pydicom clears the upper bits of each value, even where they hold the pixel by the header.
    at_top = header.get("HighBit") == header.BitsAllocated - 1 > header.BitsStored - 1
    return pixel_array(io.BytesIO(content), index=0, correct_unused_bits=not at_top)


def _extract_frame(content: bytes, header: "Dataset") -> bytes:
    """The first frame as it is encoded in the file."""
    from pydicom import dcmread
    from pydicom.encaps import get_frame

    pixels: bytes | None = dcmread(io.BytesIO(content)).get("PixelData")
    if pixels is None:
        raise ValueError("it ends before its pixels")
    return get_frame(pixels, 0, number_of_frames=int(header.get("NumberOfFrames") or 1))


def _decode_without_pydicom(content: bytes, header: "Dataset", syntax: str) -> NDArray[Any]:
    """The first frame of one channel, decoded by imagecodecs."""
    data = _extract_frame(content, header)
    shape = (header.Rows, header.Columns)
    if _find_shape(data, syntax) != shape:
        raise ValueError("the picture inside it has a different size, or more than one channel")
    if syntax in _HTJ2K:
        # OpenJPEG, since OpenJPH writes to stderr.
        values = imagecodecs.jpeg2k_decode(data)
    else:
        values = imagecodecs.jpegls_decode(data) if syntax in _JPEG_LS else imagecodecs.jpeg8_decode(data)
    if values.shape != shape:
        raise ValueError(f"the picture inside it is {values.shape}, not {shape}")
    return values


def _find_shape(data: bytes, syntax: str) -> tuple[int, int] | None:
    """Height and width that an encoded frame of one channel claims, read before a decoder allocates its pixels."""
    if syntax in _HTJ2K:
        if data[:4] != b"\xff\x4f\xff\x51" or data[40:42] != b"\0\1":
            return None
        right, bottom, left, top = struct.unpack(">4I", data[8:24])
        return bottom - top, right - left
    frame = read_frame(data, read_segments(data))
    return (frame.height, frame.width) if frame is not None and frame.channels == 1 else None
