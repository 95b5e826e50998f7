"""DICOM radiographs against NumPy."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from drawing import draw_blobs, draw_noise
from encoding import RAMP, apply_linear, assert_shows, encode, make_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

from weldnet.data.formats import UnreadableImage, Window, open_picture


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
    assert (picture.mode, picture.bits) == ("RGB", 8)
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
    with pytest.raises(UnreadableImage, match="no decoder for JPEG Lossless"):
        open_picture(make_dicom(grey, syntax=JPEGLosslessSV1, PixelData=encapsulate([b"none"])))


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
    with pytest.raises(UnreadableImage, match=r"pip install 'weldnet\[dicom\]'"):
        open_picture(make_dicom(RAMP))


@pytest.mark.parametrize("cut", [132, 140, 200, 400, -1000, -10])
def test_dicom_cut_off(cut: int) -> None:
    with pytest.raises(UnreadableImage):
        open_picture(make_dicom(RAMP)[:cut])
