"""Views and faults that are planted among real photographs, and how many of them the audit finds."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from weldnet.audit.facts import read_facts
from weldnet.audit.photographs import check_files, check_photographs
from weldnet.console import watch
from weldnet.data.duplicates import find_alike
from weldnet.data.thumbnails import make_thumbnail

NUM_CROPS, NUM_PLANTED, DRAWS = 400, 10, range(3)


def crop(left: float, top: float, right: float, bottom: float) -> Callable[[Image.Image], Image.Image]:
    """What is between these shares of width and height."""
    return lambda image: image.crop(
        (
            round(left * image.width),
            round(top * image.height),
            round(right * image.width),
            round(bottom * image.height),
        )
    )


def turn(degrees: float) -> Callable[[Image.Image], Image.Image]:
    """Turned about its centre; what it then lacks repeats its border."""

    def turned(image: Image.Image) -> Image.Image:
        margin = 1 + max(image.size) // 8
        wide = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
        wide = wide.rotate(degrees, Image.Resampling.BICUBIC)
        return wide.crop((margin, margin, margin + image.width, margin + image.height))

    return turned


def relight(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(ImageEnhance.Contrast(image).enhance(0.7)).enhance(1.2)


def save_again(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return Image.open(stream)


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "5 % cropped at two sides": crop(0.05, 0.05, 1, 1),
    "8 % cropped at one side": crop(0.08, 0, 1, 1),
    "seen 10 % larger": crop(0.05, 0.05, 0.95, 0.95),
    "relit": relight,
    "12 % cropped at one side": crop(0.12, 0, 1, 1),
    "turned by 2 degrees": turn(2),
    "turned by 3 degrees": turn(3),
    "turned by 5 degrees": turn(5),
    "moved, turned by 1 degree, relit, saved": lambda image: save_again(
        relight(crop(0.05, 0.03, 1, 1)(turn(1)(image)))
    ),
    "15 % cropped at two sides": crop(0.15, 0.15, 1, 1),
    "25 % cropped at one side": crop(0.25, 0, 1, 1),
    "mirrored": ImageOps.mirror,
    "turned by a quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


def draw_noise(image: Image.Image) -> Image.Image:
    rng = np.random.default_rng(image.width * image.height)
    return Image.fromarray(rng.integers(0, 256, (image.height, image.width, 3), np.uint8))


FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark": lambda image: image.point(lambda level: level * 0.06),
    "bright": lambda image: image.point(lambda level: 255 - (255 - level) * 0.06),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(8)),
    "tiny": lambda image: image.resize((12, 12)),
    "noise": draw_noise,
}


def measure_views(paths: pl.Series) -> dict[str, float]:
    """The share of 400 photographs of which a view made by each of `VIEWS` is found."""
    images = [Image.open(path).convert("RGB") for path in paths.sample(NUM_CROPS, seed=0)]
    shares = {}
    for name, change in watch(VIEWS.items(), len(VIEWS), "looking for views", "kinds of views"):
        near, views = find_alike(np.stack([make_thumbnail(each) for each in [*images, *map(change, images)]]))
        found = np.concatenate([near, views])
        shares[name] = float((found[:, 1] - found[:, 0] == NUM_CROPS).sum() / NUM_CROPS)
    return shares


def measure_faults(photographs: pl.DataFrame, folder: Path) -> dict[str, dict[str, int]]:
    """Of 10 faults of each kind among 400 crops, in three draws, those found, and crops found without one."""
    figures = {}
    for ending, quality in (("png", 0), ("jpg", 92), ("jpg", 75)):
        found = dict.fromkeys([*FAULTS, "no fault"], 0)
        for seed in DRAWS:
            samples = photographs.sample(NUM_CROPS, seed=seed, shuffle=True)
            paths, planted = samples["path"].to_list(), {}
            for row, kind in enumerate(list(FAULTS) * NUM_PLANTED):
                file = folder / f"{seed}_{row}.{ending}"
                FAULTS[kind](Image.open(paths[row]).convert("RGB")).save(file, quality=quality)
                paths[row], planted[str(file)] = str(file), kind
            samples = samples.with_columns(path=pl.Series(paths))
            images = samples.hstack(read_facts(samples["path"], "full")[0])
            for each in [*check_photographs(images, "full"), *check_files(images, "full")]:
                kind = planted.get(each.paths[0], "no fault")
                found[kind] += kind == "no fault" or each.kind in (kind, "constant")
        figures[f"{ending} {quality or ''}".strip()] = found
    return figures
