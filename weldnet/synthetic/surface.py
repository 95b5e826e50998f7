"""The sound weld: a strip of plate with a bead along its long side, as a height map with colour.

Knows nothing of defects, light or cameras.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT, WIDTH = 480, 96
"""Size of every drawn strip in pixels; one size for all classes, so that size reveals nothing."""

Field = npt.NDArray[np.floating[Any]]
Color = tuple[float, float, float]

YS = np.arange(HEIGHT, dtype=np.float32)[:, None]
XS = np.arange(WIDTH, dtype=np.float32)[None, :]

RUST: Color = (0.9, 0.55, 0.32)
OXIDE: Color = (0.8, 0.3, -0.5)
"""How oxide on the bead shifts red, green and blue, from brown to blue."""


def to_planes(color: Color) -> Field:
    """A colour (3, 1, 1), to be multiplied with (H, W)."""
    return np.array(color, dtype=np.float32)[:, None, None]


class Material(NamedTuple):
    """What a metal looks like. Colours are linear RGB; `tint` multiplies them, from the toe outwards."""

    plate: Color
    bead: Color
    gloss: float
    rust: float
    oxide: float
    tint_stops: tuple[float, ...]
    tint: tuple[Color, ...]

    def tint_table(self, strength: float) -> Field:
        """Colour factors by distance from the toe, (3, 256); the last is where the tint ends."""
        steps = np.linspace(0, 1, 256)
        factors = [np.interp(steps, self.tint_stops, channel) for channel in zip(*self.tint, strict=True)]
        return (1 + strength * (np.array(factors) - 1)).astype(np.float32)


MATERIALS = (
    Material(  # stainless steel: the rainbow of thin oxide
        plate=(0.50, 0.50, 0.49),
        bead=(0.42, 0.41, 0.39),
        gloss=0.45,
        rust=0.0,
        oxide=1.0,
        tint_stops=(0.0, 0.18, 0.38, 0.6, 0.8, 1.0),
        tint=((0.6, 0.6, 0.62), (0.45, 0.58, 0.95), (0.72, 0.5, 0.72), (0.9, 0.64, 0.34), (1, 0.9, 0.66), (1, 1, 1)),
    ),
    Material(  # carbon steel: dark scale, a blue-grey band, some rust
        plate=(0.33, 0.32, 0.31),
        bead=(0.30, 0.30, 0.30),
        gloss=0.28,
        rust=0.5,
        oxide=1.0,
        tint_stops=(0.0, 0.25, 0.5, 0.75, 1.0),
        tint=((0.55, 0.55, 0.58), (0.62, 0.66, 0.78), (0.8, 0.76, 0.76), (0.95, 0.9, 0.82), (1, 1, 1)),
    ),
    Material(  # aluminium: no oxide colours, a bright etched zone, then faint soot
        plate=(0.55, 0.56, 0.57),
        bead=(0.60, 0.60, 0.60),
        gloss=0.4,
        rust=0.0,
        oxide=0.0,
        tint_stops=(0.0, 0.35, 0.5, 0.7, 1.0),
        tint=((1.12, 1.12, 1.12), (1.1, 1.1, 1.1), (0.8, 0.79, 0.77), (0.86, 0.85, 0.83), (1, 1, 1)),
    ),
)


class Seam:
    """What stays the same along one physical seam, drawn at random: metal, welder, lamp, camera. Lengths in pixels."""

    def __init__(self, rng: np.random.Generator) -> None:
        # The order of the draws decides which seam a seed gives.
        self.material = MATERIALS[rng.choice(3, p=(0.4, 0.35, 0.25))]
        self.half_width = rng.uniform(17, 26)
        warmth, green = rng.normal(0, 0.05), rng.normal(0, 0.02)
        self.white: Color = (1 + warmth, 1 + green, 1 - warmth)
        self.texture = rng.uniform(0.04, 0.13)
        # Height and width of one grain of the plate: long and thin on brushed metal.
        cells: list[tuple[int, int]] = [(60, 1), (1, 48), (2, 2), (24, 1)]
        self.brush_cell = cells[rng.integers(len(cells))]
        self.mottle = rng.uniform(0.03, 0.14)
        self.rust = self.material.rust * rng.uniform(0, 1)
        self.tint = rng.uniform(0.5, 1.1)
        # How far the heat tint reaches from the toe.
        self.tint_reach = rng.uniform(9, 26)
        # Height of the bead.
        self.crown = self.half_width * rng.uniform(0.25, 0.45)
        # Length, bend, height and steepness of the ripples.
        self.pitch = rng.uniform(8, 15)
        self.chevron = rng.uniform(0.5, 1.5)
        self.ripple = rng.uniform(0.4, 1.0)
        self.sharpness = rng.uniform(0.2, 0.9)
        self.wander = rng.uniform(0.4, 1.8)
        # How much darker the valleys between ripples are, and the toes.
        self.scale_soot = rng.uniform(0.08, 0.2)
        self.bead_oxide = self.material.oxide * rng.uniform(0.02, 0.3)
        self.toe_shade = rng.uniform(0.25, 0.5)
        # Where the lamp stands, in radians, and the strength of a second one.
        self.azimuth = rng.uniform(0, 2 * np.pi)
        self.elevation = rng.uniform(0.6, 1.05)
        self.fill = rng.uniform(0.25, 0.6)
        self.shininess = rng.uniform(8, 40)
        self.gloss = self.material.gloss * rng.uniform(0.6, 1.5)
        self.gradient = (rng.normal(0, 0.12), rng.normal(0, 0.1))
        self.vignette = rng.uniform(0, 0.3)
        # Brightness of the plate in the photograph, 0..1; the noise is in grey levels.
        self.level = rng.uniform(0.38, 0.6)
        self.blur = rng.uniform(0.3, 0.8)
        self.noise = rng.uniform(1.5, 5.0)


@dataclass
class Surface:
    """A strip of metal before any light falls on it.

    Attributes:
        height: (H, W) above the plate, in pixels.
        albedo: (3, H, W) linear colour, 0 to about 1.
        gloss: (H, W) strength of the mirror reflection.
        openness: (H, W) share of the light that gets in: 1 in the open, 0 deep in a hole.
        center: (H,) column of the bead's centre line.
        half_width: (H,) half the bead's width, in pixels.
    """

    height: Field
    albedo: Field
    gloss: Field
    openness: Field
    center: Field
    half_width: Field

    def paint(self, cover: Field, color: Color) -> None:
        """Lays paint of a linear `color` over the surface; `cover` is (H, W) in 0..1."""
        self.albedo += cover * (to_planes(color) - self.albedo)

    def stain(self, cover: Field, color: Color) -> None:
        """Multiplies the colour of the surface by `color` where `cover`, (H, W), is 1."""
        self.albedo *= 1 - cover * (1 - to_planes(color))


def draw_noise(rng: np.random.Generator, cell_height: int, cell_width: int, width: int = WIDTH) -> Field:
    """Smooth noise of about unit variance, (H, width), whose grains are one cell large."""
    rows = HEIGHT if cell_height == 1 else HEIGHT // cell_height + 2
    cols = width if cell_width == 1 else width // cell_width + 2
    grid = Image.fromarray(rng.standard_normal((rows, cols), dtype=np.float32))
    return np.array(grid.resize((width, HEIGHT), Image.Resampling.BICUBIC))


def draw_noise_along(rng: np.random.Generator, cell: int) -> Field:
    """Smooth noise along the seam, (H,)."""
    return draw_noise(rng, cell, 1, width=1)[:, 0]


def draw_surface(seam: Seam, rng: np.random.Generator) -> Surface:
    """Draws one stretch of the seam, sound, with its own ripples, texture and heat tint."""
    lean = rng.normal(0, 1.2) * np.linspace(-1, 1, HEIGHT, dtype=np.float32)
    center = WIDTH / 2 + rng.normal(0, 2.0) + lean + seam.wander * draw_noise_along(rng, 80)
    half_width = seam.half_width * (rng.uniform(0.94, 1.06) + 0.03 * draw_noise_along(rng, 24))
    across = (XS - center[:, None]) / half_width[:, None]
    beyond = (np.abs(across) - 1) * seam.half_width
    on_bead = np.clip(0.5 - beyond, 0, 1)
    body = np.clip(1 - across**2, 0, None)
    scales = _draw_scales(seam, across, rng) * np.sqrt(body)
    grain = draw_noise(rng, *seam.brush_cell)
    grain = seam.texture * grain * (1 - 0.8 * on_bead)
    return Surface(
        height=seam.crown * body + seam.ripple * scales + 0.16 * draw_noise(rng, 3, 2) + grain,
        albedo=_draw_albedo(seam, beyond, on_bead, rng) * (1 + seam.scale_soot * scales + grain),
        gloss=seam.gloss * (0.25 + 0.75 * on_bead),
        openness=1 - seam.toe_shade * np.clip(1 - np.abs(beyond) / 4, 0, 1),
        center=center,
        half_width=half_width,
    )


def _draw_scales(seam: Seam, across: Field, rng: np.random.Generator) -> Field:
    """Relief of the overlapping scales, each left by one move of the weld pool; about -1 to 1."""
    pitch = seam.pitch * rng.uniform(0.94, 1.06) * (1 + 0.16 * draw_noise_along(rng, 25))
    turns = np.cumsum(2 * np.pi / np.clip(pitch, 5, None), dtype=np.float32) + rng.uniform(0, 2 * np.pi)
    phase = turns[:, None] + seam.chevron * 2 * np.pi * across**2 + 0.45 * draw_noise(rng, 10, 8)
    strength = np.clip(1 + 0.3 * draw_noise_along(rng, 16), 0.3, None)
    scales: Field = strength[:, None] * np.sin(phase + seam.sharpness * np.sin(phase))
    return scales


def _draw_albedo(seam: Seam, beyond: Field, on_bead: Field, rng: np.random.Generator) -> Field:
    """Colour of plate and bead with mill scale, rust and heat tint, (3, H, W)."""
    mottle = 1 + seam.mottle * (0.6 * draw_noise(rng, 32, 24) + 0.4 * draw_noise(rng, 7, 7))
    rust = seam.rust * np.clip(draw_noise(rng, 14, 10) - 0.3, 0, 1)
    reach = seam.tint_reach * (1 + 0.15 * draw_noise_along(rng, 40))[:, None]
    distance = (255 * np.clip(beyond / reach, 0, 1)).astype(np.uint8)
    oxide = seam.bead_oxide * np.clip(draw_noise(rng, 26, 9), -1, 1)
    tone = seam.material.tint_table(seam.tint)[:, distance]
    plate = to_planes(seam.material.plate) * tone * (1 - rust * (1 - to_planes(RUST)))
    bead = to_planes(seam.material.bead) * (1 + to_planes(OXIDE) * oxide)
    albedo: Field = mottle * (plate + on_bead * (bead - plate))
    return albedo
