"""Whether bad photographs are found, each relative to its own set and class, and no others."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drawing import draw_noise, make_table, save_image
from PIL import Image, ImageFilter

from weldnet.audit.facts import measure_sharpness, read_facts
from weldnet.audit.photographs import FEWEST_PHOTOGRAPHS, check_photographs

SIDE = 64


def draw(seed: int) -> Image.Image:
    """A surface with some grain."""
    surface = Image.fromarray(draw_noise(9, 9, seed)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(surface) * 0.7 + draw_noise(SIDE, SIDE, seed + 1000) * 0.15).astype(np.uint8))


def spoil(image: Image.Image, fault: str) -> Image.Image:
    match fault:
        case "dark":
            return image.point(lambda level: level * 0.06)
        case "bright":
            return image.point(lambda level: 255 - (255 - level) * 0.06)
        case "blurred":
            return image.filter(ImageFilter.GaussianBlur(8))
        case "tiny":
            return image.resize((12, 12))
        case _:
            return Image.fromarray(draw_noise(SIDE, SIDE, 77))


def find(folder: Path, pictures: list[tuple[str, Image.Image]]) -> list[tuple[str, int]]:
    """Kind and number of each picture that is found; a picture is a label and an image."""
    rows = []
    for number, (label, image) in enumerate(pictures):
        rows.append((str(save_image(folder / f"{number}.png", np.asarray(image))), label, None, None))
    table = make_table(rows)
    images = table.hstack(read_facts(table["path"], "full")[0])
    return [(found.kind, int(Path(found.paths[0]).stem)) for found in check_photographs(images, "full")]


@pytest.mark.parametrize("fault", ["dark", "bright", "blurred", "tiny", "noise"])
def test_a_bad_photograph_is_found(tmp_path: Path, fault: str) -> None:
    pictures = [("ab"[seed % 2], draw(seed)) for seed in range(30)]
    assert find(tmp_path, pictures) == []
    pictures[4] = ("a", spoil(pictures[4][1], fault))
    assert find(tmp_path, pictures) == [(fault, 4)]


@pytest.mark.parametrize("fault", ["dark", "bright", "blurred", "tiny"])
def test_what_a_whole_class_shows_is_no_fault(tmp_path: Path, fault: str) -> None:
    pictures = [("smooth", spoil(draw(seed), fault)) if seed < 8 else ("rough", draw(seed)) for seed in range(30)]
    assert find(tmp_path, pictures) == []


def test_a_set_too_small_or_noise_throughout_has_no_usual_value(tmp_path: Path) -> None:
    few = [("a", draw(seed)) for seed in range(FEWEST_PHOTOGRAPHS - 2)] + [("a", spoil(draw(99), "dark"))]
    assert find(tmp_path, few) == []
    assert find(tmp_path, [("a", Image.fromarray(draw_noise(SIDE, SIDE, seed))) for seed in range(30)]) == []


def test_sharpness_depends_on_neither_brightness_nor_contrast() -> None:
    picture = draw(0).convert("L")
    pixels = np.asarray(picture, float)
    padded = np.pad(pixels, 1, mode="edge")
    mean = sum(padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9
    expected = np.square(pixels - mean).mean() / pixels.var()
    assert measure_sharpness(picture) == pytest.approx(expected, rel=0.05)
    assert measure_sharpness(picture.point(lambda level: level / 2 + 99)) == pytest.approx(expected, rel=0.05)
    noise = Image.fromarray(draw_noise(900, 900, 5)).convert("L")
    assert measure_sharpness(noise) == pytest.approx(8 / 9, rel=0.03)


def test_files_that_cannot_be_read_are_left_to_others(tmp_path: Path) -> None:
    table = make_table([(str(tmp_path / f"{i}.png"), "a", None, None) for i in range(30)])
    images = table.hstack(read_facts(table["path"], "full")[0])
    assert images["reason"].null_count() == 0
    assert check_photographs(images, "full") == []
    assert check_photographs(pl.DataFrame(schema=images.schema), "full") == []
