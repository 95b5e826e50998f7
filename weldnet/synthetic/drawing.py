"""One photograph of a weld: surface, defect, light and camera put together."""

import math
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy.ndimage import correlate1d

from weldnet.synthetic.defects import DEFECTS, draw_distractors, draw_severity
from weldnet.synthetic.surface import HEIGHT, WIDTH, XS, YS, Field, Seam, Surface, draw_surface

# Shading looks one pixel to either side, and the camera's blur reaches two more.
BOX_MARGIN_PX = 3

CURVE_STEPS = 8192
"""Steps of the response curve for each unit of light; 1 is what the sensor's range is meant for."""


_VISIBLE = {"height": 0.01, "openness": 0.004, "gloss": 0.004, "albedo": 0.002}
"""The differences from which on a defect shows in a field of `Surface`."""


def _to_bytes(values: Field) -> npt.NDArray[np.uint8]:
    clipped: Field = np.clip(values + 0.5, 0, 255)
    return clipped.astype(np.uint8)


def _compute_curve() -> npt.NDArray[np.uint8]:
    """The camera's response, gamma 2.2 and a shoulder that rolls highlights off, to 8 bits; covers light up to 4."""
    tones = np.linspace(0, 4, 4 * CURVE_STEPS) ** (1 / 2.2)
    return _to_bytes(255 * tones / (1 + 0.6 * np.clip(tones - 0.75, 0, None)))


CURVE = _compute_curve()


class Box(NamedTuple):
    """The pixels a defect changes: left and top belong to the box, right and bottom no longer do."""

    left: int
    top: int
    right: int
    bottom: int


class WeldImage(NamedTuple):
    """One drawn photograph: `pixels` is uint8 (H, W, 3) RGB, `box` encloses the defect, None without one."""

    pixels: npt.NDArray[np.uint8]
    box: Box | None


def draw_weld(seam: Seam, label: str, entropy: list[int]) -> WeldImage:
    """Draws one photograph of `seam`, of `no_defect` or a key of `DEFECTS`, the same for the same arguments.

    Surface, defect and camera have random streams of their own: with a different label all but the defect stays the
    same to the pixel.
    """
    surface_rng, defect_rng, camera_rng = np.random.default_rng(entropy).spawn(3)
    surface = draw_surface(seam, surface_rng)
    box = _draw_defect(surface, label, defect_rng)
    draw_distractors(surface, surface_rng)
    return WeldImage(_photograph(_shade(surface, seam, camera_rng), seam, camera_rng), box)


def _draw_defect(surface: Surface, label: str, rng: np.random.Generator) -> Box | None:
    if label == "no_defect":
        return None
    sound, changed = deepcopy(surface), np.zeros((HEIGHT, WIDTH), np.bool_)
    DEFECTS[label](surface, draw_severity(rng), rng)
    for name, tolerance in _VISIBLE.items():
        differs = np.abs(getattr(surface, name) - getattr(sound, name)) > tolerance
        changed |= differs.reshape(-1, HEIGHT, WIDTH).any(axis=0)
    found = Image.fromarray(changed).getbbox()
    assert found
    left, top, right, bottom = found
    least = max(left - BOX_MARGIN_PX, 0), max(top - BOX_MARGIN_PX, 0)
    return Box(*least, min(right + BOX_MARGIN_PX, WIDTH), min(bottom + BOX_MARGIN_PX, HEIGHT))


def _shade(surface: Surface, seam: Seam, rng: np.random.Generator) -> Field:
    """Linear light (3, H, W) that the surface sends to a camera straight above it.

    Lambert plus Blinn-Phong from one lamp, with a weaker lamp opposite and light from all around.
    """
    normal = _compute_normals(surface.height)
    azimuth = seam.azimuth + rng.normal(0, 0.12)
    lamp, opposite = _point(azimuth, seam.elevation), _point(azimuth + 2.4, 0.9)
    diffuse = 0.16 + _dot(normal, lamp) + seam.fill * _dot(normal, opposite)
    mirror = _dot(normal, _halfway(lamp)) ** seam.shininess + 0.5 * _dot(normal, _halfway(opposite)) ** 12
    light: Field = surface.albedo * diffuse + 1.1 * surface.gloss * mirror
    light *= surface.openness * _draw_falloff(seam, rng)
    return light


def _compute_normals(height: Field) -> Field:
    """Unit normals (3, H, W), in x, y, z order."""
    slope_y, slope_x = (correlate1d(height, (-0.5, 0, 0.5), axis, mode="nearest") for axis in (0, 1))
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    return np.stack((-slope_x / length, -slope_y / length, 1 / length))


def _point(azimuth: float, elevation: float) -> Field:
    """Unit vector (3,) towards a lamp; angles in radians."""
    flat = np.cos(elevation)
    return np.array((flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)), dtype=np.float32)


def _halfway(lamp: Field) -> Field:
    """Unit vector (3,) halfway between the lamp and the camera above."""
    total = lamp + np.array((0, 0, 1), dtype=np.float32)
    return total / np.float32(np.linalg.norm(total))


def _dot(normal: Field, direction: Field) -> Field:
    x, y, z = (float(value) for value in direction)
    cosine: Field = np.clip(normal[0] * x + normal[1] * y + normal[2] * z, 0, 1)
    return cosine


def _draw_falloff(seam: Seam, rng: np.random.Generator) -> Field:
    """Uneven light over the strip, (H, W): a slope from the lamp and a vignette from the lens."""
    down, right = YS / HEIGHT - 0.5, XS / WIDTH - 0.5
    slope = 1 + (seam.gradient[0] + rng.normal(0, 0.05)) * down + (seam.gradient[1] + rng.normal(0, 0.04)) * right
    return slope * (1 - seam.vignette * (2.4 * down**2 + 0.8 * right**2))


def _photograph(light: Field, seam: Seam, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """What the camera makes of the light: exposure, white balance, gamma, blur and noise; uint8 (H, W, 3)."""
    plate = sum(seam.material.plate) / 3 * (0.16 + math.sin(seam.elevation) + 0.78 * seam.fill)
    gain = seam.level**2.2 / plate * math.exp(rng.normal(0, 0.07))
    gains = np.array(seam.white, dtype=np.float32)[:, None, None] * np.float32(gain * CURVE_STEPS)
    tones = CURVE[np.minimum(light * gains, CURVE.size - 1).astype(np.uint16)]
    image = Image.fromarray(np.ascontiguousarray(tones.transpose(1, 2, 0)))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(seam.blur)))
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    return _to_bytes(blurred + np.float32(seam.noise) * grain)
