"""Weld defects, and the marks that are none: each function changes a Surface in place.

Shapes follow what a visual inspector looks for: ISO 6520-1 names them, ISO 5817 limits them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from weldnet.synthetic.surface import HEIGHT, WIDTH, XS, YS, Field, Surface, draw_noise, draw_noise_along


class Severity(NamedTuple):
    """How plain a defect is to see: relative `size`, and `contrast` in 0..1."""

    size: float
    contrast: float


def draw_severity(rng: np.random.Generator) -> Severity:
    """Draws a severity; about 15 in 100 are small and faint, as they are on a shop floor."""
    if rng.random() < 0.15:
        return Severity(rng.uniform(0.65, 0.85), rng.uniform(0.55, 0.75))
    return Severity(rng.uniform(0.95, 1.35), rng.uniform(0.85, 1.0))


def draw_crack(surface: Surface, severity: Severity, rng: np.random.Generator) -> None:
    """A thin, jagged, dark line: along the bead (ISO 6520-1 no. 101) or across it (no. 102)."""
    middle = int(rng.integers(50, HEIGHT - 50))
    center, half_width = surface.center[middle], surface.half_width[middle]
    if rng.random() < 0.55:
        reach = min(rng.uniform(45, 110) * severity.size, middle - 4, HEIGHT - 4 - middle)
        start = surface.center + rng.uniform(-0.45, 0.45) * half_width
        cover = _draw_jagged_line(YS, XS, middle, reach, start[:, None], severity, rng)
    else:
        reach = half_width * rng.uniform(0.8, 1.1) * min(severity.size, 1.1)
        slope = rng.normal(0, 0.25) * (XS - center)
        cover = _draw_jagged_line(XS, YS, center, reach, middle + slope, severity, rng)
    surface.height -= 1.2 * cover
    surface.openness *= 1 - (0.25 + 0.73 * severity.contrast) * cover


def _draw_jagged_line(
    along: Field, across: Field, middle: float, reach: float, path: Field, severity: Severity, rng: np.random.Generator
) -> Field:
    """Cover (H, W) of a line that follows `path` on the `across` axis, with kinks, thinning out at both ends."""
    knots = np.arange(middle - reach - 8, middle + reach + 16, rng.uniform(5, 9))
    kinks = rng.uniform(1.2, 2.6) * rng.standard_normal(knots.size) + np.cumsum(0.9 * rng.standard_normal(knots.size))
    line = path + np.interp(along, knots, kinks - kinks.mean())
    taper = np.clip(1 - (np.abs(along - middle) / reach) ** 3, 0, 1)
    width = rng.uniform(2.8, 4.2) * severity.size * taper
    cover: Field = np.clip(width / 2 + 0.5 - np.abs(across - line), 0, 1) * (taper > 0)
    return cover.astype(np.float32)


def draw_surface_pore(surface: Surface, severity: Severity, rng: np.random.Generator) -> None:
    """One gas hole, or a nest of them: round, dark, with a bright melted rim (no. 2017)."""
    middle, spread = rng.uniform(40, HEIGHT - 40), rng.uniform(12, 34)
    count = int(rng.choice([1, 2, 3, 4, 5, 6, 7], p=(0.14, 0.16, 0.2, 0.18, 0.14, 0.1, 0.08)))
    largest = rng.uniform(5.6, 8.2) * severity.size
    for index in range(count):
        y = np.clip(middle + (index > 0) * rng.normal(0, spread), 14, HEIGHT - 15)
        x = surface.center[int(y)] + rng.uniform(-0.62, 0.62) * surface.half_width[int(y)]
        _draw_pore(surface, y, x, largest * (rng.uniform(0.55, 1) if index else 1), severity.contrast, rng)


def _draw_pore(surface: Surface, y: float, x: float, radius: float, contrast: float, rng: np.random.Generator) -> None:
    spot, dy, dx = _find_spot(y, x, 2 * radius)
    ratio = rng.uniform(0.85, 1.2)
    q = np.sqrt((dy / ratio) ** 2 + (dx * ratio) ** 2) / radius
    hole = np.clip((1 - q) * radius * 0.7 + 0.5, 0, 1)
    rim = np.clip(1 - np.abs(q - 1.25) / 0.3, 0, 1)
    surface.height[spot] += contrast * (1.2 * rim - 1.5 * hole)
    surface.openness[spot] *= 1 - (0.25 + 0.74 * contrast) * hole
    surface.albedo[:, *spot] *= 1 + 0.55 * contrast * rim


def draw_undercut(surface: Surface, severity: Severity, rng: np.random.Generator) -> None:
    """A groove melted into the plate along the toe of the bead and left unfilled (no. 501, here 5011)."""
    sides = (-1, 1) if rng.random() < 0.3 else (int(rng.choice([-1, 1])),)
    for side in sides:
        reach = rng.uniform(55, 130) * severity.size
        middle = rng.uniform(0.6 * reach, HEIGHT - 0.6 * reach)
        taper = np.clip(1 - (np.abs(YS[:, 0] - middle) / reach) ** 4, 0, 1)
        depth = taper * np.clip(0.85 + 0.25 * draw_noise_along(rng, 14), 0.25, 1)
        width = rng.uniform(3.8, 5.4) * severity.size * (0.4 + 0.6 * depth)
        toe = surface.center + side * (surface.half_width - 0.5 + 0.8 * draw_noise_along(rng, 10))
        groove = np.clip(1 - ((XS - toe[:, None]) / width[:, None]) ** 2, 0, 1) * depth[:, None]
        surface.height -= 3.0 * severity.contrast * groove
        surface.openness *= 1 - (0.15 + 0.7 * severity.contrast) * np.clip(1.3 * groove, 0, 1)


def draw_spatter(surface: Surface, severity: Severity, rng: np.random.Generator) -> None:
    """Beads of metal thrown out of the pool and stuck, most of them on the plate (no. 602)."""
    middle, spread = rng.uniform(60, HEIGHT - 60), rng.uniform(50, 130)
    largest = rng.uniform(4.2, 6.2) * severity.size
    dark = rng.uniform(0.35, 0.9)
    for _ in range(int(rng.integers(14, 28) * severity.size)):
        y = np.clip(rng.normal(middle, spread), 8, HEIGHT - 9)
        x = _draw_landing(surface.center[int(y)], surface.half_width[int(y)], rng)
        _draw_ball(surface, y, x, largest * rng.uniform(0.4, 1), dark, 0.25 + 0.75 * severity.contrast)


def _draw_landing(center: float, half_width: float, rng: np.random.Generator) -> float:
    """Column where a ball sticks: one in five on the bead, the others on the plate to either side."""
    if rng.random() < 0.2:
        return center + rng.uniform(-0.7, 0.7) * half_width
    if rng.random() < 0.5:
        return rng.uniform(4, center - half_width - 2)
    return rng.uniform(center + half_width + 2, WIDTH - 4)


def _draw_ball(surface: Surface, y: float, x: float, radius: float, dark: float, contrast: float) -> None:
    spot, dy, dx = _find_spot(y, x, 1.6 * radius + 1)
    q = np.sqrt(dy**2 + dx**2) / radius
    inside = np.clip((1 - q) * radius + 0.5, 0, 1)
    foot = np.clip(1 - np.abs(q - 1.12) / 0.4, 0, 1)
    surface.height[spot] += 0.9 * contrast * radius * np.sqrt(np.clip(1 - q**2, 0, 1))
    surface.albedo[:, *spot] *= 1 + contrast * inside * (dark - 1)
    surface.gloss[spot] += contrast * inside * (1.3 - surface.gloss[spot])
    surface.openness[spot] *= 1 - 0.75 * contrast * foot


def draw_burn_through(surface: Surface, severity: Severity, rng: np.random.Generator) -> None:
    """The pool has fallen through: a ragged hole, a bright melted rim, burnt oxide around it (no. 510)."""
    radius_y, radius_x = rng.uniform(14, 30) * severity.size, rng.uniform(10, 17) * severity.size
    y = rng.uniform(1.8 * radius_y, HEIGHT - 1.8 * radius_y)
    x = surface.center[int(y)] + rng.normal(0, 0.12) * surface.half_width[int(y)]
    dy, dx = (YS - y) / radius_y, (XS - x) / radius_x
    angle = np.arctan2(dy, dx)
    ragged = 1 + sum(rng.normal(0, 0.28 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 7))
    q = np.hypot(dy, dx) / np.clip(ragged, 0.55, 1.6)
    hole = np.clip((1 - q) * 7 + 0.5, 0, 1)
    wall = np.clip(0.75 + 0.8 * (1 - q), 0, 0.98) + 0.06 * draw_noise(rng, 8, 6)
    rim = np.clip(1 - np.abs(q - 1.16) / 0.18, 0, 1) * np.clip(0.75 + 0.4 * draw_noise(rng, 12, 9), 0.1, 1.2)
    sag = np.clip((1.7 - q) / 0.7, 0, 1)
    surface.stain(severity.contrast * 0.7 * sag * (1 - rim), (0.62, 0.6, 0.66))
    surface.height *= 1 - 0.9 * severity.contrast * sag
    surface.height += severity.contrast * (2.2 * rim - 2.5 * hole)
    surface.albedo *= 1 + 0.55 * severity.contrast * rim
    surface.gloss *= 1 + 0.8 * rim
    surface.openness *= 1 - (0.4 + 0.6 * severity.contrast) * hole * np.clip(wall, 0, 0.98)


def _find_spot(y: float, x: float, reach: float) -> tuple[tuple[slice, slice], Field, Field]:
    """The pixels within `reach` of a point and how far they lie below and right of it: small things need no more."""
    rows, columns = (slice(max(int(at - reach), 0), int(at + reach) + 2) for at in (y, x))
    return (rows, columns), YS[rows] - y, XS[:, columns] - x


DEFECTS: dict[str, Callable[[Surface, Severity, np.random.Generator], None]] = {
    "crack": draw_crack,
    "surface_pore": draw_surface_pore,
    "undercut": draw_undercut,
    "spatter": draw_spatter,
    "burn_through": draw_burn_through,
}


def draw_distractors(surface: Surface, rng: np.random.Generator) -> None:
    """Marks that are no defects, as likely in every class: scratches, chalk, stains, shadows, specks."""
    for _ in range(rng.choice([0, 1, 2, 3], p=(0.5, 0.25, 0.15, 0.1))):
        _draw_scratch(surface, rng)
    for _ in range(int(rng.integers(0, 7))):
        _draw_speck(surface, rng)
    for draw, chance in ((_draw_chalk, 0.2), (_draw_stain, 0.3), (_draw_shadow, 0.25)):
        if rng.random() < chance:
            draw(surface, rng)


def _draw_scratch(surface: Surface, rng: np.random.Generator) -> None:
    y, x, angle = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(0, np.pi)
    along = (YS - y) * np.sin(angle) + (XS - x) * np.cos(angle)
    off = (YS - y) * np.cos(angle) - (XS - x) * np.sin(angle)
    line = np.clip(1.1 - np.abs(off), 0, 1) * np.clip(rng.uniform(10, 50) - np.abs(along), 0, 1)
    tone = 1 + rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)
    surface.albedo *= 1 + line * (tone - 1)


def _draw_speck(surface: Surface, rng: np.random.Generator) -> None:
    y, x, radius = rng.uniform(3, HEIGHT - 4), rng.uniform(3, WIDTH - 4), rng.uniform(0.8, 1.9)
    spot, dy, dx = _find_spot(y, x, radius + 1)
    surface.albedo[:, *spot] *= 1 - rng.uniform(0.2, 0.45) * np.clip(radius + 0.5 - np.hypot(dy, dx), 0, 1)


def _draw_chalk(surface: Surface, rng: np.random.Generator) -> None:
    side, y, slope = rng.choice([-1, 1]), rng.uniform(0, HEIGHT), rng.normal(0, 0.5)
    x = surface.center + side * (surface.half_width + rng.uniform(6, 14)) + 0.1 * slope * (YS[:, 0] - y)
    stroke = np.clip(rng.uniform(1.5, 3) - np.abs(XS - x[:, None]), 0, 1) * (np.abs(YS - y) < rng.uniform(15, 60))
    grain = np.clip(0.6 + 0.5 * draw_noise(rng, 2, 2), 0, 1)
    surface.paint(0.6 * stroke * grain, (0.85, 0.85, 0.82) if rng.random() < 0.6 else (0.85, 0.75, 0.25))


def _draw_stain(surface: Surface, rng: np.random.Generator) -> None:
    y, x = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
    q = np.hypot((YS - y) / rng.uniform(12, 45), (XS - x) / rng.uniform(8, 28)) + 0.2 * draw_noise(rng, 12, 10)
    tone = rng.uniform(0.66, 0.88)
    surface.stain(np.clip(2.2 - 2 * q, 0, 1), (tone, tone * rng.uniform(0.9, 1), tone * rng.uniform(0.8, 1)))


def _draw_shadow(surface: Surface, rng: np.random.Generator) -> None:
    y, slope, soft = rng.uniform(0, HEIGHT), rng.normal(0, 1.0), rng.uniform(8, 40)
    edge = np.clip(0.5 + rng.choice([-1, 1]) * (YS - y - slope * (XS - WIDTH / 2)) / soft, 0, 1)
    surface.openness *= 1 - rng.uniform(0.1, 0.28) * edge
