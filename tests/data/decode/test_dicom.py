"""DICOM radiographs against NumPy."""

import io
import re
import sys
from typing import Any

import imagecodecs
import numpy as np
import pytest
from damaging import zero
from drawing import draw_blobs, draw_noise
from encoding import RAMP, apply_linear, assert_shows, encode, encode_lossless_jpeg, make_dicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.pictures import UnreadableImage, Window
from weldnet.errors import propose_extra


def test_dicom_values() -> None:
    signed = RAMP.astype(np.int16) - 3000
    slope: dict[str, Any] = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    assert_shows(open_picture(make_dicom(signed, BitsStored=13)), apply_linear(signed, -4096, 4095))
    picture = open_picture(make_dicom(signed, BitsStored=13, **slope), window=(-4000, 0))
    assert_shows(picture, apply_linear(signed * 2.0 - 1024, -4000, 0))
    assert (picture.bits, picture.extremes) == (13, (-2000 * 2 - 1024, 2095 * 2 - 1024))
    full = apply_linear(signed * 2.0 - 1024, -4096 * 2 - 1024, 4095 * 2 - 1024)
    assert_shows(open_picture(make_dicom(signed, BitsStored=13, **slope)), full)
    falling: dict[str, Any] = {"RescaleSlope": "-1", "RescaleIntercept": "0"}
    assert_shows(open_picture(make_dicom(RAMP, BitsStored=13, **falling)), apply_linear(-1.0 * RAMP, -8191, 0))


@pytest.mark.parametrize(("first", "shown"), [(1, [0, 0, 100, 250, 250]), (-1, [100, 250, 250, 250, 250])])
def test_dicom_lut(first: int, shown: list[int]) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [3, first, 8])
    item.add_new("LUTData", "US", [0, 100, 250])
    picture = open_picture(make_dicom(np.array([[0, 1, 2, 3, 4]], np.uint8), ModalityLUTSequence=[item]))
    assert np.asarray(picture.image).tolist() == [shown]


@pytest.mark.parametrize("window", ["full", (1000.0, 5095.0)])
def test_dicom_monochrome1_is_inverted_after_the_window(window: Window) -> None:
    dark, bright = (
        np.asarray(open_picture(make_dicom(RAMP, PhotometricInterpretation=name, BitsStored=13), window=window).image)
        for name in ("MONOCHROME1", "MONOCHROME2")
    )
    assert (dark == 255 - bright).all()
    assert bright[0, 0] < bright[-1, -1]


def test_dicom_colour_and_frames() -> None:
    colour = draw_noise(24, 20)
    picture = open_picture(make_dicom(colour))
    assert picture.bits == 8
    assert_shows(picture, colour)
    frames = np.stack([RAMP, RAMP[::-1], RAMP * 0])
    several = make_dicom(RAMP, NumberOfFrames=3, PixelData=frames.tobytes())
    assert open_picture(several).pages == 3
    assert_shows(open_picture(several), apply_linear(RAMP, 0, 65535))


def test_dicom_compressed() -> None:
    grey = draw_blobs(24, 20)[..., 0].copy()
    jpeg = encode(Image.fromarray(grey), "JPEG")
    inside = make_dicom(grey, syntax=JPEGBaseline8Bit, PixelData=encapsulate([jpeg]))
    assert_shows(open_picture(inside), np.asarray(Image.open(io.BytesIO(jpeg))))
    damaged = make_dicom(grey, syntax=JPEGBaseline8Bit, PixelData=encapsulate([zero(jpeg, length=70)]))
    with pytest.raises(UnreadableImage, match="damaged DICOM: the JPEG inside it is damaged"):
        open_picture(damaged)
    with pytest.raises(UnreadableImage, match="damaged DICOM: the picture inside it has a different size"):
        open_picture(make_dicom(grey, syntax=JPEGLosslessSV1, PixelData=encapsulate([b"none"])))


TWELVE = RAMP - 1000
SYNTAXES: dict[UID, bytes] = {
    JPEGLosslessSV1: encode_lossless_jpeg(TWELVE),
    JPEGLossless: encode_lossless_jpeg(TWELVE),
    JPEGLSLossless: bytes(imagecodecs.jpegls_encode(TWELVE)),
    JPEG2000Lossless: bytes(imagecodecs.jpeg2k_encode(TWELVE, reversible=True, codecformat="j2k")),
    HTJ2KLossless: bytes(imagecodecs.htj2k_encode(TWELVE, reversible=True)),
    JPEGExtended12Bit: bytes(imagecodecs.jpeg8_encode(TWELVE, level=100, bitspersample=12)),
}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_dicom_codes_of_radiographs(syntax: UID) -> None:
    content = make_dicom(TWELVE, syntax=syntax, PixelData=encapsulate([SYNTAXES[syntax]]), BitsStored=12)
    stored = open_picture(content).stored
    assert stored is not None
    assert np.abs(stored.values.astype(int) - TWELVE).max() <= (2 if syntax == JPEGExtended12Bit else 0)
    damaged = make_dicom(TWELVE, syntax=syntax, PixelData=encapsulate([SYNTAXES[syntax]]), Columns=21)
    with pytest.raises(UnreadableImage, match=r"^damaged DICOM: "):
        open_picture(damaged)


@pytest.mark.parametrize(
    ("syntax", "elements", "words"),
    [
        (
            DeflatedExplicitVRLittleEndian,
            {},
            "Deflated Explicit VR Little Endian; weldnet reads uncompressed, RLE, .* dcmconv",
        ),
        (RLELossless, {"BitsAllocated": 1, "BitsStored": 1}, "'RLE Lossless' of 1 bit a pixel; weldnet reads"),
        (MPEG2MPML, {}, "'MPEG2 .*; weldnet reads"),
        (JPEGLSLossless, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "in colour; weldnet reads"),
    ],
)
def test_dicom_codes_that_are_not_read(syntax: UID, elements: dict[str, Any], words: str) -> None:
    data = RAMP.tobytes() if syntax == DeflatedExplicitVRLittleEndian else encapsulate([b"abcd"])
    with pytest.raises(UnreadableImage, match=f"DICOM with transfer syntax .*{words}") as caught:
        open_picture(make_dicom(RAMP, syntax=syntax, PixelData=data, **elements))
    assert len(str(caught.value)) < 250


def test_only_the_transfer_syntax_says_deflated() -> None:
    content = make_dicom(RAMP, ImageComments=f"was {DeflatedExplicitVRLittleEndian} once")
    assert_shows(open_picture(content), apply_linear(RAMP, 0, 65535))


@pytest.mark.parametrize("kind", ["meta", "explicit", "implicit"])
def test_dicom_without_preamble(kind: str) -> None:
    syntax = ImplicitVRLittleEndian if kind == "implicit" else ExplicitVRLittleEndian
    content = make_dicom(RAMP, syntax=syntax)[132:]
    if kind != "meta":
        # The length of the meta elements stands in the first of them, which has 12 bytes.
        content = content[12 + int.from_bytes(content[8:12], "little") :]
    picture = open_picture(content)
    assert picture.format == "DICOM"
    assert_shows(picture, apply_linear(RAMP, 0, 65535))
    with pytest.raises(UnreadableImage, match="not a JPEG"):
        open_picture(b"\x08\0\xff\xff" + content[4:])


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_rescale_of_an_enhanced_file(place: str) -> None:
    transformation, group = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = "2", "-1024"
    group.PixelValueTransformationSequence = [transformation]
    elements: dict[str, Any] = {place: [group]}
    content = make_dicom(RAMP, NumberOfFrames=1, **elements)
    assert_shows(open_picture(content, window=(0, 4000)), apply_linear(RAMP * 2.0 - 1024, 0, 4000))


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        (TWELVE << 4, {"BitsStored": 12, "HighBit": 15}),
        (TWELVE << 4 | 5, {"BitsStored": 12, "HighBit": 15}),
        (TWELVE, {"BitsStored": 12, "HighBit": 15}),
        (TWELVE, {"BitsStored": 12, "HighBit": 12}),
        (TWELVE, {"BitsStored": 12, "HighBit": 11}),
        ((TWELVE.astype(np.int16) - 2048) << 4, {"BitsStored": 12, "HighBit": 15}),
        (TWELVE.astype(np.int16) - 2048, {"BitsStored": 12}),
        ((TWELVE.astype(np.int16) - 2048) & 0xFFF, {"BitsStored": 12}),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else "",
)
def test_where_the_bits_are(stored: NDArray[Any], elements: dict[str, Any]) -> None:
    """At the top of the word, at the bottom, or where a header wrongly puts them; a sign may fill the word or not."""
    picture = open_picture(make_dicom(stored, **elements))
    assert_shows(picture, apply_linear(TWELVE, 0, 4095))


def test_high_bit_8_of_8() -> None:
    grey = draw_blobs(24, 20)[..., 0].copy()
    assert_shows(open_picture(make_dicom(grey, HighBit=8)), grey)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels; allowed are 1 to 89,478,485"),
        ({"Rows": 0}, "20 x 0 pixels"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR pixels; allowed are"),
        ({"PixelData": b"short"}, "damaged DICOM: cannot reshape"),
    ],
)
def test_dicom_that_cannot_be_shown(elements: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        open_picture(make_dicom(RAMP, **elements))


def test_a_damaged_name_stays_on_one_line() -> None:
    with pytest.raises(UnreadableImage, match=r"^ONOCHROME2 pixels; allowed are"):
        open_picture(make_dicom(RAMP).replace(b"MONOCHROME2", b"\nONOCHROME2"))


def test_dicom_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UnreadableImage, match=re.escape(propose_extra("dicom"))):
        open_picture(make_dicom(RAMP))


@pytest.mark.parametrize("cut", [132, 140, 200, 400, -1000, -10])
def test_dicom_cut_off(cut: int) -> None:
    with pytest.raises(UnreadableImage):
        open_picture(make_dicom(RAMP)[:cut])
