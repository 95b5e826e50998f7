"""DICOM files with what few devices write."""

import io
from typing import Any

import numpy as np
import pydicom
from drawing import draw_noise
from encoding import make_dicom
from numpy.typing import NDArray
from odd_image import COLOUR, DEEP, GREY, OddImage, scale
from odd_jpegs import make_lossless
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

_DEFLATED = str(DeflatedExplicitVRLittleEndian)
_LOSSLESS_JPEG = UID("1.2.840.10008.1.2.4.70")
_HTJ2K = UID("1.2.840.10008.1.2.4.201")
_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def make_dicoms() -> list[OddImage]:
    return [*_headers(), *_values(), *_syntaxes()]


def change(content: bytes, **elements: Any) -> bytes:
    """A file with elements that `make_dicom` would set itself."""
    header = pydicom.dcmread(io.BytesIO(content))
    for name, value in elements.items():
        setattr(header, name, value)
    file = io.BytesIO()
    header.save_as(file)
    return file.getvalue()


def encapsulated(content: bytes, syntax: UID, frame: bytes) -> bytes:
    """The file with its pixels replaced by one compressed frame."""
    header = pydicom.dcmread(io.BytesIO(content))
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = encapsulate([frame])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    header.save_as(file)
    return file.getvalue()


def _headers() -> list[OddImage]:
    plain, shown = make_dicom(GREY), GREY.astype(np.float64)
    cut, text = plain[: -GREY.size // 2], make_dicom(GREY, ImageComments="abcdefgh")
    return [
        OddImage("dicom_plain", plain, "sound", shown),
        OddImage("dicom_without_preamble", plain[132:], "rare", shown),
        OddImage("dicom_text_names_deflate", make_dicom(GREY, ImageComments=_DEFLATED), "sound", shown),
        OddImage("dicom_senseless_text", text.replace(b"abcdefgh", b"\xff\xfe\0\x1babcd"), "sound", shown),
        OddImage("dicom_truncated", cut, "damaged"),
        OddImage("dicom_without_pixels", change(plain, PixelData=b""), "damaged"),
        OddImage("dicom_palette", make_dicom(GREY, PhotometricInterpretation="PALETTE COLOR"), "unsupported"),
    ]


def _values() -> list[OddImage]:
    twelve = (DEEP >> 4).astype(np.uint16)
    shifted = change(make_dicom(twelve << 4, BitsStored=12), HighBit=15)
    mono_1 = make_dicom(DEEP, PhotometricInterpretation="MONOCHROME1")
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1)).tobytes()
    planar = change(make_dicom(COLOUR), PlanarConfiguration=1, PixelData=planes)
    rescaled = make_dicom(twelve, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1024)
    hounsfield, window = scale(twelve - 1024.0, 0, 2000), (0, 2000)
    return [
        OddImage("dicom_16_bit", make_dicom(DEEP), "sound", scale(DEEP, 0, 2**16 - 1)),
        OddImage("dicom_12_bit", make_dicom(twelve, BitsStored=12), "sound", scale(twelve, 0, 4095)),
        OddImage("dicom_high_bit_15", shifted, "rare", scale(twelve, 0, 4095)),
        OddImage("dicom_high_bit_8", change(make_dicom(GREY), HighBit=8), "sound", GREY),
        OddImage("dicom_monochrome1", mono_1, "sound", 255 - scale(DEEP, 0, 2**16 - 1)),
        OddImage("dicom_rescaled", rescaled, "sound", scale(2.0 * twelve - 1024, 0, 4000), (0, 4000)),
        OddImage("dicom_enhanced_shared", _enhance(twelve, "Shared"), "rare", hounsfield, window),
        OddImage("dicom_enhanced_frame", _enhance(twelve, "PerFrame"), "rare", hounsfield, window),
        OddImage("dicom_colour", make_dicom(COLOUR), "sound", COLOUR),
        OddImage("dicom_colour_planes", planar, "sound", COLOUR),
    ]


def _enhance(values: NDArray[np.uint16], where: str) -> bytes:
    """An enhanced CT, whose rescale stands in its functional groups."""
    rescale, group = Dataset(), Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1024, 1, "HU"
    group.PixelValueTransformationSequence = [rescale]
    groups: dict[str, Any] = {f"{name}FunctionalGroupsSequence": [Dataset()] for name in ("Shared", "PerFrame")}
    groups[f"{where}FunctionalGroupsSequence"] = [group]
    return make_dicom(values, BitsStored=12, NumberOfFrames=1, SOPClassUID=_ENHANCED_CT, **groups)


def _syntaxes() -> list[OddImage]:
    plain, noise = make_dicom(GREY), draw_noise(8, 8).tobytes()
    packed = pydicom.dcmread(io.BytesIO(plain))
    packed.compress(RLELossless)
    rle = io.BytesIO()
    packed.save_as(rle)
    implicit = make_dicom(GREY, syntax=ImplicitVRLittleEndian)
    deflated = make_dicom(GREY, syntax=DeflatedExplicitVRLittleEndian)
    lossless = encapsulated(plain, _LOSSLESS_JPEG, make_lossless(*GREY.shape))
    # One segment of packed bits: a run of 128 bytes 0xAA, and one of 64, for 48 x 32 pixels.
    one_bit = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\x81\xaa\xc1\xaa"
    bits = change(plain, BitsAllocated=1, BitsStored=1, HighBit=0)
    stripes = np.broadcast_to(np.arange(GREY.shape[1]) % 2 * 255, GREY.shape)
    return [
        OddImage("dicom_implicit", implicit, "sound", GREY),
        OddImage("dicom_rle", rle.getvalue(), "sound", GREY),
        OddImage("dicom_deflated", deflated, "rare", GREY),
        OddImage("dicom_rle_1_bit", encapsulated(bits, RLELossless, one_bit), "rare", stripes),
        OddImage("dicom_jpeg_lossless", lossless, "rare", np.full(GREY.shape, 128)),
        OddImage("dicom_jpeg_ls", encapsulated(plain, JPEGLSLossless, noise), "damaged"),
        OddImage("dicom_htj2k", encapsulated(plain, _HTJ2K, noise), "damaged"),
    ]
