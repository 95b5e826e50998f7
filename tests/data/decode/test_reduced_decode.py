"""Large photographs decoded to fewer pixels."""

import numpy as np
import pytest
from drawing import draw_blobs
from encoding import encode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.images import Geometry, to_geometry


def draw_photograph(width: int, height: int, seed: int) -> Image.Image:
    """Smooth shading, hard edges and the noise of a sensor."""
    rng = np.random.default_rng(seed)
    pixels = draw_blobs(height, width, seed).astype(np.float64)
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        pixels[top : top + rng.integers(4, height), left : left + rng.integers(4, width)] = rng.integers(0, 256, 3)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8))


@settings(max_examples=100, deadline=None)
@example((200, 304), 1, (8, 8), "stretch", "as_is", 1, 0)
@given(
    size=st.tuples(st.integers(25, 75), st.integers(25, 75)).map(lambda sides: (8 * sides[0], 8 * sides[1])),
    odd=st.sampled_from([0, 1, 4]),
    target=st.tuples(st.integers(24, 80), st.integers(24, 80)),
    resize=st.sampled_from(["stretch", "letterbox"]),
    orient=st.sampled_from(["as_is", "long_side_vertical"]),
    orientation=st.sampled_from([1, 3, 6, 8]),
    seed=st.integers(0, 1000),
)
def test_reduced_decode_is_within_a_level(
    size: tuple[int, int], odd: int, target: tuple[int, int], resize: str, orient: str, orientation: int, seed: int
) -> None:
    size = size[0] + odd, size[1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(draw_photograph(*size, seed), "JPEG", quality=90, exif=exif)
    geometry = Geometry(*target, resize=resize, orient=orient)
    reduced, picture = to_geometry(content, geometry)
    # The same pixels without loss are never reduced.
    whole, _ = to_geometry(encode(open_picture(content).image, "BMP"), geometry)
    assert picture.size == size
    assert np.abs(reduced.astype(float) - whole).mean() <= 1


@pytest.mark.parametrize(
    ("geometry", "mode", "orientation", "decoded"),
    [
        (Geometry(300, 30), "RGB", 1, (960, 540)),
        (Geometry(300, 30), "L", 1, (960, 540)),
        (Geometry(300, 30, orient="long_side_vertical"), "RGB", 1, (480, 270)),
        (Geometry(300, 30), "RGB", 6, (270, 480)),
        (Geometry(200, 200), "RGB", 1, (960, 540)),
        (Geometry(224, 224), "RGB", 1, (1920, 1080)),
        (Geometry(224, 224, resize="letterbox"), "RGB", 1, (960, 540)),
        (Geometry(300, 30, resize="letterbox"), "RGB", 1, (240, 135)),
        (Geometry(800, 30), "RGB", 1, (1920, 1080)),
        (Geometry(300, 30), "CMYK", 1, (1920, 1080)),
        (Geometry(300, 30, window=(0.0, 255.0)), "RGB", 1, (1920, 1080)),
    ],
)
def test_how_far_a_photograph_is_reduced(
    geometry: Geometry, mode: str, orientation: int, decoded: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.new(mode, (1920, 1080)), "JPEG", exif=exif)
    assert to_geometry(content, geometry)[1].image.size == decoded
