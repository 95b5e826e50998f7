"""What the formats store, against NumPy."""

import struct

import numpy as np
import pytest
from drawing import draw_blobs, draw_noise
from encoding import RAMP, apply_linear, assert_shows, encode, make_dicom, make_png, make_tiff
from PIL import Image

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.pictures import UnreadableImage, Window

RADIOGRAPHS = {
    "png": (make_png(RAMP), "PNG"),
    "tiff": (encode(Image.fromarray(RAMP), "TIFF"), "TIFF"),
    "lzw": (encode(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"), "TIFF"),
    "deflate": (encode(Image.fromarray(RAMP), "TIFF", compression="tiff_adobe_deflate"), "TIFF"),
    "big-endian": (encode(Image.frombytes("I;16B", (20, 24), RAMP.astype(">u2").tobytes()), "TIFF"), "TIFF"),
    "dicom": (make_dicom(RAMP), "DICOM"),
}


@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_sixteen_bits(name: str) -> None:
    content, file_format = RADIOGRAPHS[name]
    picture = open_picture(content)
    assert (picture.format, picture.bits, picture.size, picture.pages, picture.extremes) == (
        *(file_format, 16, (20, 24), 1),
        (1000, 5095),
    )
    assert_shows(picture, apply_linear(RAMP, 0, 65535))
    assert_shows(open_picture(content, window=(1500, 4000)), apply_linear(RAMP, 1500, 4000))
    low, high = np.percentile(RAMP, (0.5, 99.5), method="inverted_cdf")
    assert_shows(open_picture(content, window="percentile"), apply_linear(RAMP, low, high))


def test_other_depths_of_tiff() -> None:
    signed = RAMP.astype(np.int16) - 3000
    assert_shows(open_picture(make_tiff(signed, sample=2)), apply_linear(signed, -32768, 32767))
    assert_shows(open_picture(make_tiff(signed, sample=2), window=(-2000, 0)), apply_linear(signed, -2000, 0))
    unsigned = RAMP.astype(np.uint32) + 2**31 + 2**30
    picture = open_picture(make_tiff(unsigned), window=(2**31 + 2**30 + 1000, 2**31 + 2**30 + 5095))
    assert_shows(picture, apply_linear(RAMP, 1000, 5095))
    assert picture.extremes == (unsigned.min(), unsigned.max())
    # Two values of 12 bits in three bytes.
    packed = np.array([[0x80, 0x0F, 0xFF]], np.uint8)
    twelve = make_tiff(packed, bits=12).replace(struct.pack("<HHII", 256, 3, 1, 3), struct.pack("<HHII", 256, 3, 1, 2))
    picture = open_picture(twelve)
    assert (picture.bits, picture.extremes) == (12, (0x800, 0xFFF))
    assert_shows(picture, np.array([[128, 255]]))


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("window", ["full", (50.0, 200.0)])
def test_white_is_zero(dtype: type[np.generic], most: int, window: Window) -> None:
    """As scanners of film write it; Pillow inverts such a TIFF at 8 bits and leaves it at 16."""
    stored = draw_blobs(24, 20)[..., 0].astype(dtype)
    limits = window if isinstance(window, tuple) else (0, most)
    assert_shows(open_picture(make_tiff(stored, photometric=0), window=window), 255 - apply_linear(stored, *limits))


def test_floats_that_are_no_numbers() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.0, 5.0, 10.0]], np.float32)
    picture = open_picture(make_tiff(values, sample=3), window=(0, 10))
    assert np.asarray(picture.image).tolist() == [[0, 0, 255, 0, 128, 255]]
    assert picture.extremes == pytest.approx((0, 10))
    shown = np.asarray(open_picture(make_tiff(values, sample=3), window="percentile").image)
    assert shown.tolist() == [[0, 0, 255, 0, 128, 255]]
    with pytest.raises(UnreadableImage, match="no pixel has a finite value"):
        open_picture(make_tiff(np.full_like(values, np.nan), sample=3), window="percentile")


def test_percentile_of_flat_pictures() -> None:
    flat = np.full((24, 20), 4000, np.uint16)
    assert_shows(open_picture(make_png(flat), window="percentile"), np.zeros((24, 20)))
    spot = flat.copy()
    spot[0, 0] = 5000
    assert_shows(open_picture(make_png(spot), window="percentile"), apply_linear(spot, 4000, 5000))


def test_transparent_grey_of_16_bits_is_black() -> None:
    content = encode(Image.fromarray(RAMP), "PNG", transparency=5095)
    shown = np.asarray(open_picture(content, window=(1000, 5095)).image)
    assert shown[-1, -1] == 0
    assert shown.max() == 254 or shown.max() == 255


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_of_16_bits_is_shown_in_full_only(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(256, 65536, (24, 20, channels), np.uint16)
    pixels[..., 3 if channels == 4 else 1 : channels] = 65535 if channels != 3 else 300
    picture = open_picture(make_png(pixels))
    assert picture.bits == 16
    high = (pixels >> 8)[..., [0, 0, 0] if channels == 2 else [0, 1, 2]]
    assert_shows(picture, high)
    for window in ("percentile", (0.0, 4095.0)):
        with pytest.raises(UnreadableImage, match=r"16 bits a channel .* have no window; train with data.window=full"):
            open_picture(make_png(pixels), window=window)


def test_pages_are_counted_and_the_first_is_shown() -> None:
    first, *others = (Image.fromarray(draw_noise(8, 6, seed)) for seed in range(3))
    for name in ("TIFF", "PNG", "WEBP"):
        picture = open_picture(encode(first, name, save_all=True, append_images=others, lossless=True))
        assert (picture.format, picture.pages) == (name, 3)
        assert_shows(picture, np.asarray(first))


def test_size_is_the_stored_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("JPEG", "PNG", "TIFF", "WEBP"):
        picture = open_picture(encode(Image.fromarray(draw_noise(24, 20)), name, exif=exif))
        assert (picture.size, picture.image.size) == ((20, 24), (24, 20))


def test_extremes_of_8_bits() -> None:
    pixels = np.clip(draw_noise(24, 20), 7, 240)
    assert open_picture(encode(Image.fromarray(pixels), "PNG")).extremes == (7, 240)
    assert open_picture(encode(Image.fromarray(pixels), "PNG"), window=(100, 101)).extremes == (7, 240)
