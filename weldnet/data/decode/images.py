"""The only decoder: a file becomes an array here and nowhere else; and how far that changes its shape."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.pictures import MAX_PIXELS, Picture, UnreadableImage, check_window
from weldnet.data.settings import Framing, ImageSize
from weldnet.errors import InputError, check_choice

DECODER_VERSION = 3
"""Part of every cache key: raise it when the same file would decode to other pixels."""

STANDARD_MEAN, STANDARD_DEVIATION = 128, 40
"""Of the grey levels of a standardised photograph."""

MOST_SQUEEZED = 3
"""One side of a photograph may be shrunk so many times as much as the other one before it counts as squeezed."""

_STEP = 8


@dataclass
class Geometry(Framing, ImageSize):
    """How a file becomes the network's input: size in pixels, resize, orientation, window, normalisation."""

    def __post_init__(self) -> None:
        for name, size in (("height", self.height), ("width", self.width)):
            if not 1 <= size <= 4096:
                raise InputError(f"data.image_size.{name}={size}: allowed are 1 to 4096 pixels")
        check_choice("data.resize", self.resize, ("stretch", "letterbox"))
        check_choice("data.orient", self.orient, ("as_is", "long_side_vertical"))
        check_choice("data.normalize", self.normalize, ("imagenet", "per_image"))
        self.window = check_window(self.window)

    @property
    def statistics(self) -> dict[str, Any]:
        """What `WeldClassifier` takes as `mean` and `std`; empty where it takes the backbone's own."""
        if self.normalize == "imagenet":
            return {}
        return {"mean": (STANDARD_MEAN / 255,) * 3, "std": (STANDARD_DEVIATION / 255,) * 3}


def to_geometry(
    content: bytes, geometry: Geometry, *, even_damaged: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], Picture]:
    """Decodes a file's bytes to the network's geometry.

    EXIF orientation is applied first, then `orient`, then the resize (bilinear with antialiasing, as torchvision's
    `Resize` does on a PIL image), then `standardise` where the geometry asks for it. Grey becomes three equal channels;
    transparent pixels are laid over black. A large JPEG is decoded at a half, a quarter or an eighth of its size where
    that stays well above the size asked for.

    Args:
        even_damaged: decode as much of a damaged file as possible; the picture's `damage` reports it.
        max_pixels: that the file's header may claim.

    Returns:
        uint8 (3, height, width), RGB, 0 to 255; and the picture it was made of. UnreadableImage is raised where the
        bytes are no image that can be read and shown under the window, or damaged.
    """
    least = partial(_find_least, geometry)
    picture = open_picture(content, window=geometry.window, least=least, max_pixels=max_pixels)
    if picture.damage and not even_damaged:
        raise UnreadableImage(f"damaged: {picture.damage}")
    image = picture.image
    if _is_turned(image.size, geometry):
        image = image.transpose(Image.Transpose.ROTATE_90)
    size = _fit(image.size, geometry)
    # A picture decoded at a fraction is an approximation already; a first step by averages costs a third less.
    reduced = sorted(image.size) != sorted(picture.size)
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0 if reduced else None)
    if geometry.normalize == "per_image":
        image = standardise(image)
    if size != (geometry.width, geometry.height):
        frame = (geometry.width, geometry.height)
        strip, image = image, Image.new(image.mode, frame, (_border(geometry),) * len(image.getbands()))
        image.paste(strip, ((geometry.width - size[0]) // 2, (geometry.height - size[1]) // 2))
    pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, geometry.height, geometry.width))), picture


def crop_border(image: Image.Image, geometry: Geometry) -> Image.Image:
    """An image in the network's geometry without the border of a letterbox, and without what looks like it."""
    if geometry.resize != "letterbox":
        return image
    border = Image.new(image.mode, image.size, (_border(geometry),) * 3)
    return image.crop(ImageChops.difference(image, border).getbbox())


def _border(geometry: Geometry) -> int:
    return STANDARD_MEAN if geometry.normalize == "per_image" else 0


def standardise(image: Image.Image) -> Image.Image:
    """Brings the mean and the standard deviation of the pixels of all channels together to fixed grey levels.

    So the gain and the offset of lamp and camera are gone; what colour says of the weld stays. Each level x becomes
    128 + 40 (x - mean) / max(deviation, 1), rounded to the nearest level, halves to even ones, and clipped to 0..255.
    Mode "L" gives what three equal channels of "RGB" would.
    """
    levels, num_channels = np.arange(256), len(image.getbands())
    counts = np.reshape(image.histogram(), (num_channels, 256)).sum(axis=0)
    mean = np.average(levels, weights=counts)
    deviation = np.average((levels - mean) ** 2, weights=counts) ** 0.5
    # Below one level there is nothing but rounding.
    changed = STANDARD_MEAN + STANDARD_DEVIATION * (levels - mean) / max(deviation, 1)
    return image.point(np.rint(changed).clip(0, 255).astype(int).tolist() * num_channels)


def show_photograph(
    content: bytes, image: NDArray[np.uint8], geometry: Geometry, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """What people are shown of the file from which `to_geometry` made `image`: the same, but not standardised."""
    if geometry.normalize == "imagenet":
        return image
    plain = replace(geometry, normalize="imagenet")
    return to_geometry(content, plain, even_damaged=True, max_pixels=max_pixels)[0]


def _find_least(geometry: Geometry, size: tuple[int, int]) -> tuple[int, int]:
    """The size to which a picture of `size` is shrunk, as it lies."""
    if _is_turned(size, geometry):
        return _fit(size[::-1], geometry)[::-1]
    return _fit(size, geometry)


def _is_turned(size: tuple[int, int], geometry: Geometry) -> bool:
    return geometry.orient == "long_side_vertical" and size[0] > size[1]


def _fit(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """Width and height to which a picture of `size` is resized; the frame may be larger."""
    if geometry.resize == "stretch":
        return geometry.width, geometry.height
    scale = min(geometry.width / size[0], geometry.height / size[1])
    # A very long strip keeps at least one pixel across.
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass(frozen=True)
class Shapes:
    """What a geometry does to N photographs.

    Attributes:
        enlarged: the share with fewer pixels than the input in width or height.
        squeezed: the share with one side shrunk more than `MOST_SQUEEZED` times as much as the other one.
        across: the share whose long side lies along the short side of the input.
        settings: what to type against it, as `key=value`; empty unless most photographs are squeezed or lie across.
    """

    geometry: Geometry
    enlarged: float
    squeezed: float
    across: float
    settings: tuple[str, ...]

    def describe(self) -> str:
        """One sentence: the shares, and what to type."""
        shares = (
            (self.enlarged, "are enlarged"),
            (self.squeezed, f"are squeezed by more than {MOST_SQUEEZED} to 1"),
            (self.across, "lie across the strip"),
        )
        first, second, third = (f"{share:.0%} {what}" for share, what in shares)
        size = f"{self.geometry.height} x {self.geometry.width} pixels"
        sentence = f"Of the photographs, brought to {size}, {first}, {second} and {third}"
        if not self.settings:
            return sentence
        instead = ", or data.resize=letterbox, which keeps the aspect" if self.squeezed > 0.5 else ""
        return f"{sentence}; type {' '.join(self.settings)}{instead}"


def measure_shapes(sizes: NDArray[np.int64], geometry: Geometry) -> Shapes:
    """Compares sizes (N, 2), width and height in pixels of upright photographs, N > 0, with the network's input."""
    wanted = np.array([geometry.width, geometry.height])
    lying = sizes.astype(np.float64)
    if geometry.orient == "long_side_vertical":
        lying = np.sort(lying, axis=1)
    scale = wanted / lying
    if geometry.resize == "letterbox":
        scale = np.broadcast_to(scale.min(axis=1, keepdims=True), scale.shape)
    is_squeezed = scale.max(axis=1) > MOST_SQUEEZED * scale.min(axis=1)
    is_across = np.sign(lying[:, 0] - lying[:, 1]) * np.sign(geometry.width - geometry.height) < 0
    squeezed, across = float(is_squeezed.mean()), float(is_across.mean())
    settings = []
    if across > 0.5 and geometry.height > geometry.width:
        settings.append("data.orient=long_side_vertical")
        lying = np.sort(lying, axis=1)
    if squeezed > 0.5:
        # As many pixels as now, in the shape of most photographs.
        aspect = float(np.exp(np.median(np.log(lying[:, 1] / lying[:, 0]))))
        sides = (math.sqrt(geometry.height * geometry.width * by) for by in (aspect, 1 / aspect))
        height, width = (min(4096, max(_STEP, _STEP * round(side / _STEP))) for side in sides)
        settings += [f"data.image_size.height={height}", f"data.image_size.width={width}"]
    return Shapes(geometry, float((scale > 1).any(axis=1).mean()), squeezed, across, tuple(settings))
