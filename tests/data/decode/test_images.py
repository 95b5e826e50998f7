"""The decoder against Pillow, NumPy and torchvision, and against files that are no images."""

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import read_image
from drawing import Pixels, draw_blobs, draw_noise, save_image
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Resize

from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.decode.pictures import UnreadableImage, Window
from weldnet.data.decode.signatures import ENDINGS
from weldnet.errors import InputError

MODES = {
    "jpg": ["L", "RGB", "CMYK", "YCbCr"],
    "JPEG": ["RGB"],
    "png": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "PNG": ["RGB"],
    "bmp": ["1", "L", "P", "RGB"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"],
    "TIFF": ["RGB"],
    "webp": ["L", "RGB", "RGBA"],
    "WebP": ["RGB"],
}
LOSSLESS = {"png", "bmp", "tif"}


def lay_over_black(rgba: Pixels) -> NDArray[np.float64]:
    composed: NDArray[np.float64] = rgba[..., :3] * (rgba[..., 3:] / 255.0)
    return composed


@pytest.mark.parametrize(("ending", "mode"), [(ending, mode) for ending in MODES for mode in MODES[ending]])
def test_every_eight_bit_mode(tmp_path: Path, ending: str, mode: str) -> None:
    assert f".{ending.lower()}" in ENDINGS
    source = Image.fromarray(draw_blobs(24, 10))
    if mode in ("LA", "RGBA"):
        source.putalpha(Image.fromarray(draw_blobs(24, 10, seed=1)[..., 0]))
    image = source.convert(mode)
    image.save(tmp_path / f"a.{ending}", quality=100)
    pixels = read_image(tmp_path / f"a.{ending}", height=24, width=10)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 24, 10)
    assert pixels.flags.c_contiguous
    expected = lay_over_black(np.asarray(image.convert("RGBA"))).transpose(2, 0, 1)
    # Half a level for rounding; the lossy formats lose more.
    assert np.abs(pixels - expected).max() <= (1 if ending in LOSSLESS else 40)
    if mode in ("1", "L", "LA") and ending != "webp":  # which stores colour only
        assert (pixels == pixels[:1]).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_colour_is_black(tmp_path: Path, mode: str) -> None:
    grey = np.full((4, 4), 204, np.uint8)
    grey[:, 2:] = 102
    image = Image.fromarray(grey).convert("RGB").convert(mode)
    transparent = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=transparent)
    pixels = read_image(tmp_path / "a.png", height=4, width=4)
    assert (pixels[:, :, :2] == 0).all()
    assert (pixels[:, :, 2:] == 102).all()


def test_two_pictures_in_one_jpeg_are_read_as_the_first(tmp_path: Path) -> None:
    """As many cameras write them (MPO)."""
    first, second = (Image.fromarray(draw_blobs(24, 10, seed)) for seed in (0, 1))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second], quality=100)
    first.save(tmp_path / "b.jpg", quality=100)
    shown, alone = (read_image(tmp_path / name, height=24, width=10) for name in ("a.jpg", "b.jpg"))
    assert (shown == alone).all()


TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    pixels = draw_noise(12, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = TURNED[orientation](pixels)
    height, width = upright.shape[:2]
    assert (read_image(tmp_path / "a.png", height=height, width=width) == upright.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("source", [(480, 96), (30, 300), (7, 5), (1, 1)])
@pytest.mark.parametrize("target", [(300, 30), (16, 64)])
def test_stretch_is_torchvisions_resize(tmp_path: Path, source: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = draw_noise(*source)
    file = save_image(tmp_path / "a.png", pixels)
    expected = np.asarray(Resize(target)(Image.fromarray(pixels)))
    assert (read_image(file, height=target[0], width=target[1]) == expected.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("source", "target", "content"),
    [
        ((50, 100), (60, 60), (30, 60)),
        ((100, 50), (60, 60), (60, 30)),
        ((40, 40), (300, 30), (30, 30)),
        ((480, 96), (300, 30), (150, 30)),
        ((600, 30), (300, 30), (300, 15)),
        ((30, 6000), (300, 30), (1, 30)),
        ((6000, 1), (300, 30), (300, 1)),
    ],
)
def test_letterbox_keeps_the_aspect(
    tmp_path: Path, source: tuple[int, int], target: tuple[int, int], content: tuple[int, int]
) -> None:
    file = save_image(tmp_path / "a.png", np.full((*source, 3), 255, np.uint8))
    pixels = read_image(file, height=target[0], width=target[1], resize="letterbox")
    assert pixels.shape == (3, *target)
    assert set(np.unique(pixels)) <= {0, 255}
    for rows_or_cols, size in ((np.flatnonzero(pixels.any((0, 2))), 0), (np.flatnonzero(pixels.any((0, 1))), 1)):
        assert len(rows_or_cols) == content[size]
        before, after = rows_or_cols[0], target[size] - 1 - rows_or_cols[-1]
        assert abs(int(before) - int(after)) <= 1, "the content is in the middle"


def test_long_side_becomes_vertical(tmp_path: Path) -> None:
    wide = draw_noise(10, 40)
    lying, standing = save_image(tmp_path / "lying.png", wide), save_image(tmp_path / "standing.png", np.rot90(wide))
    for resize in ("stretch", "letterbox"):
        for file in (lying, standing):
            turned = read_image(file, height=30, width=8, resize=resize, orient="long_side_vertical")
            assert (turned == read_image(standing, height=30, width=8, resize=resize)).all()


@pytest.mark.parametrize("window", ["full", "percentile", (1000.0, 5095.0)])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_radiograph_of_16_bits_is_never_white(tmp_path: Path, name: str, window: Window) -> None:
    """Each stored value is over 255; a plain conversion to 8 bits would clip them all."""
    stored = (1000 + 4095 * np.linspace(0, 1, 300 * 30)).astype(np.uint16).reshape(300, 30)
    Image.fromarray(stored).save(tmp_path / name)
    pixels = read_image(tmp_path / name, height=300, width=30, window=window)
    own = np.percentile(stored, (0.5, 99.5))
    low, high = window if isinstance(window, tuple) else (0, 65535) if window == "full" else (own[0], own[1])
    expected = np.clip((stored.astype(float) - low) / (high - low) * 255, 0, 255)
    assert np.abs(pixels - expected).max() <= 0.6
    assert pixels.mean() < 200


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_need_a_window(tmp_path: Path, dtype: type[np.generic]) -> None:
    stored = np.arange(64).reshape(8, 8) * 1000
    Image.fromarray(stored.astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match=r"train with data.window=\[low,high\], in stored values, or data"):
        read_image(tmp_path / "a.tif", height=8, width=8)
    pixels = read_image(tmp_path / "a.tif", height=8, width=8, window=(0, 63000))
    assert (pixels == np.rint(stored / 63000 * 255)).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_window_of_8_bits(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(draw_noise(24, 10)).convert(mode)
    image.save(tmp_path / "a.png")
    stored = np.atleast_3d(np.asarray(image)).astype(float).transpose(2, 0, 1)
    expected = np.rint(np.clip((stored - 50) / 150 * 255, 0, 255))
    assert (read_image(tmp_path / "a.png", height=24, width=10, window=(50, 200)) == expected).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"seam,label\n1,crack\n", "not a JPEG, PNG, BMP, TIFF, WebP or DICOM image"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "."),
        (b"GIF89a" + bytes(50), "not a JPEG, PNG, BMP, TIFF, WebP or DICOM image"),
        (None, "no such file"),
    ],
)
def test_no_image_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "a.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(file, height=8, width=8)
    assert str(tmp_path) not in str(caught.value), "the path is the caller's to name"


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="a folder"):
        read_image(tmp_path, height=8, width=8)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_photograph_is_standardised_by_its_own_pixels(tmp_path: Path, mode: str, resize: str) -> None:
    Image.fromarray(draw_blobs(40, 10) // 2).convert(mode).save(tmp_path / "a.png")
    size: dict[str, Any] = {"height": 60, "width": 30, "resize": resize}
    plain, pixels = (read_image(tmp_path / "a.png", **size, normalize=name) for name in ("imagenet", "per_image"))
    own = slice(7, 22) if resize == "letterbox" else slice(None)
    inner = plain[..., own].astype(float)
    expected = np.full(plain.shape, 128.0)
    expected[..., own] = (128 + 40 * (inner - inner.mean()) / inner.std()).round().clip(0, 255)
    assert (pixels == expected).all()
    # Each rounded to a grey level, and hardly any clipped.
    assert pixels[..., own].mean() == pytest.approx(128, abs=0.5)
    assert pixels[..., own].std() == pytest.approx(40, abs=0.5)


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 0), (0.7, 100), (1, -25), (1.2, -20)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_standardised_photograph_does_not_depend_on_its_light(
    tmp_path: Path, resize: str, gain: float, offset: float
) -> None:
    bright = 25 + draw_blobs(60, 20).astype(float) * 0.75
    relit = gain * bright + offset
    assert 0 <= relit.min() < relit.max() <= 255, "nothing is clipped"
    for name, levels in (("bright.png", bright), ("relit.png", relit)):
        save_image(tmp_path / name, levels.round().astype(np.uint8))
    size: dict[str, Any] = {"height": 50, "width": 30, "resize": resize, "normalize": "per_image"}
    strips = [read_image(tmp_path / name, **size).astype(int) for name in ("bright.png", "relit.png")]
    # The files are rounded to a level each, and a level of the darkest is more than one of the result.
    assert np.abs(strips[0] - strips[1]).max() <= 2


@pytest.mark.parametrize("normalize", ["imagenet", "per_image"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("orient", ["as_is", "long_side_vertical"])
def test_the_reader_of_the_deployment_guide(tmp_path: Path, normalize: str, resize: str, orient: str) -> None:
    guide = Path(__file__).parents[3] / "docs" / "deployment.md"
    (program,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    for number, (height, width, mode) in enumerate([(37, 90, "RGB"), (90, 37, "L"), (5, 200, "RGB"), (60, 30, "1")]):
        file = tmp_path / f"{number}.png"
        Image.fromarray(draw_blobs(height, width, number)).convert(mode).save(file)
        geometry = Geometry(61, 32, resize, orient, normalize=normalize)
        image, _ = to_geometry(file.read_bytes(), geometry)
        assert np.array_equal(names["read_image"](file, asdict(geometry)), image[None])


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_photograph_of_one_colour_is_standardised_to_its_mean(tmp_path: Path, level: int) -> None:
    file = save_image(tmp_path / "a.png", np.full((20, 10, 3), level, np.uint8))
    assert (read_image(file, height=30, width=30, resize="letterbox", normalize="per_image") == 128).all()


def test_rounding_is_not_taken_for_a_picture(tmp_path: Path) -> None:
    """Two neighbouring levels deviate by half of one: they are not spread over the whole range."""
    levels = np.full((8, 8, 3), 90, np.uint8)
    levels[::2] += 1
    pixels = read_image(save_image(tmp_path / "a.png", levels), height=8, width=8, normalize="per_image")
    assert set(np.unique(pixels)) == {108, 148}


@pytest.mark.parametrize(
    "geometry", [{"resize": "crop"}, {"orient": "up"}, {"window": (2, 1)}, {"normalize": "grey"}, {"height": 0}]
)
def test_geometry_is_checked(tmp_path: Path, geometry: dict[str, Any]) -> None:
    file = save_image(tmp_path / "a.png", draw_noise(4, 4))
    with pytest.raises(InputError, match=f"data.*{next(iter(geometry))}"):
        read_image(file, **{"height": 8, "width": 8, **geometry})


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif", "webp"])
def test_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, ending: str) -> None:
    whole = save_image(tmp_path / f"whole.{ending}", draw_noise(40, 30)).read_bytes()
    cut = tmp_path / f"cut.{ending}"
    for length in {*range(min(len(whole), 200)), *range(200, len(whole) * 9 // 10, 37)}:
        cut.write_bytes(whole[:length])
        with pytest.raises(UnreadableImage):
            read_image(cut, height=8, width=8)
