"""Copies and views of one spot are found, other welds are not, whatever the order and however many there are."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from drawing import draw_blobs, draw_noise
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from weldnet.data import duplicates
from weldnet.data.duplicates import connect, find_alike
from weldnet.data.thumbnails import compare, compare_views, make_thumbnail
from weldnet.synthetic.drawn_set import write_synthetic

Picture = Image.Image
Thumbnails = NDArray[np.uint8]


def save_again(image: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def scale(image: Picture, factor: float) -> Picture:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)


def add_noise(image: Picture) -> Picture:
    pixels = np.asarray(image) + np.random.default_rng(0).normal(0, 3, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def crop(image: Picture) -> Picture:
    return image.crop((0, 0, image.width - image.width // 100, image.height - image.height // 100))


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "none": lambda image: image.copy(),
    "jpeg95": lambda image: save_again(image, 95),
    "jpeg50": lambda image: save_again(image, 50),
    "half": lambda image: scale(image, 0.5),
    "double": lambda image: scale(image, 2.0),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.1),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.9),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "noisy": add_noise,
    "cropped": crop,
    "grey": lambda image: image.convert("L"),
}


@pytest.fixture(scope="module")
def welds(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """72 different photographs of six drawn seams."""
    root: Path = tmp_path_factory.mktemp("welds") / "set"
    write_synthetic(root, num_images=72, num_seams=6, seed=0)
    return [Image.open(file).convert("RGB") for file in sorted(root.rglob("*.jpg"))]


def find(images: list[Picture]) -> list[tuple[int, int]]:
    near, views = find_alike(np.stack([make_thumbnail(image) for image in images]))
    assert len(views) == 0
    return [(first, second) for first, second in near.tolist()]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(welds: list[Picture], change: str) -> None:
    blobs = [Image.fromarray(draw_blobs(40, 20, seed)) for seed in range(40)]
    images = welds + blobs
    expected = [(row, row + len(images)) for row in range(len(images))]
    assert find(images + [CHANGES[change](image) for image in images]) == expected


def test_different_pictures_are_not_duplicates(welds: list[Picture]) -> None:
    dark = [Image.fromarray(draw_blobs(40, 20, seed) // 2) for seed in range(150)]
    bright = [Image.fromarray(draw_blobs(40, 20, seed) // 2 + np.uint8(63)) for seed in range(150, 300)]
    noise = [Image.fromarray(draw_noise(32, 32, seed)) for seed in range(50)]
    assert find(welds + dark + bright + noise) == []


def test_welds_that_share_lamp_and_bead_are_not_duplicates() -> None:
    profile = 60 * np.exp(-(np.linspace(-2, 2, 24) ** 2)) + np.linspace(0, 80, 24)[:, None]
    texture = np.random.default_rng(0).normal(0, 4, (50, 24, 24))
    thumbnails = (60 + profile + texture).astype(np.uint8)
    flat = thumbnails.reshape(50, -1).astype(float)
    assert np.corrcoef(flat).min() > 0.95  # the pictures alone would be merged
    assert not any(map(len, find_alike(thumbnails)))


def test_similarity_of_a_pair(welds: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = np.stack([make_thumbnail(image) for image in (welds[0], welds[1], save_again(welds[0], 50))])
    assert find_alike(thumbnails).near.tolist() == [[0, 2]]
    assert 0.95 < compare(thumbnails[:1], thumbnails[2:])[0] < 1
    assert compare(thumbnails[:1], thumbnails[:1])[0] == pytest.approx(1)
    monkeypatch.setattr(duplicates, "MIN_SIMILARITY", 0.9999)
    assert [pairs.tolist() for pairs in find_alike(thumbnails)] == [[], [[0, 2]]]


def test_plain_pictures_are_never_duplicates() -> None:
    constant = np.full((24, 24), 128, np.uint8)
    gradient = np.tile(np.arange(100, 124, dtype=np.uint8), (24, 1))
    rounding = (constant + np.random.default_rng(0).integers(0, 2, (24, 24))).astype(np.uint8)
    thumbnails = np.stack([picture for picture in (constant, gradient, rounding) for _ in range(3)])
    assert not any(map(len, find_alike(thumbnails)))
    assert compare(thumbnails, thumbnails).tolist() == [0] * 9


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_for_a_pair(count: int) -> None:
    assert [pairs.shape for pairs in find_alike(np.zeros((count, 24, 24), np.uint8))] == [(0, 2), (0, 2)]


def test_copies_in_a_crowd_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burnt-in pattern gives 600 different pictures one crowd; each has a copy in it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (3, 3), np.uint8)
    pattern = np.asarray(Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC), np.float64)
    originals = pattern + rng.normal(0, 10, (600, 24, 24))
    copies = originals + rng.normal(0, 1, originals.shape)
    monkeypatch.setattr(duplicates, "MIN_SIMILARITY", 0.97)
    found = find_alike(np.concatenate([originals, copies]).clip(0, 255).astype(np.uint8)).near
    assert {(row, row + 600) for row in range(600)} <= {(i, j) for i, j in found.tolist()}
    assert len(found) <= 10 * 1200


def test_many_equal_pictures_make_one_component(welds: list[Picture]) -> None:
    thumbnail = make_thumbnail(welds[0])
    found = find_alike(np.stack([thumbnail] * 1000)).near
    assert len(found) == 999
    assert set(connect(found, 1000)) == {0}


def turn(image: Picture, degrees: float) -> Picture:
    """Turned about the middle; the corners that come into the picture are cut off."""
    side = image.width / 25 + image.height * abs(degrees) / 115
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((round(side), round(side), round(image.width - side), round(image.height - side)))


def cut(image: Picture, *shares: float) -> Picture:
    """Without a share of the sides: left, top, right, bottom."""
    size = np.array([image.width, image.height] * 2)
    left, top, right, bottom = (size * shares).round().astype(int).tolist()
    return image.crop((left, top, image.width - right, image.height - bottom))


def relight(image: Picture) -> Picture:
    """Under a lamp from the left, weaker and of less contrast."""
    lamp = np.linspace(1.0, 0.4, image.width)[None, :, None]
    return Image.fromarray((np.asarray(image) * lamp * 0.7 + 30).round().astype(np.uint8))


VIEWS: dict[str, tuple[float, Callable[[Picture], Picture]]] = {
    "5 % less at two sides": (0.98, lambda image: cut(image, 0.05, 0.05, 0, 0)),
    "8 % less at one side": (0.98, lambda image: cut(image, 0, 0.08, 0, 0)),
    "12 % less at one side": (0.6, lambda image: cut(image, 0, 0.12, 0, 0)),
    "nearer": (0.98, lambda image: cut(image, 0.05, 0.05, 0.05, 0.05)),
    "turned by 2 degrees": (0.95, lambda image: turn(image, 2)),
    "turned back by 3 degrees": (0.75, lambda image: turn(image, -3)),
    "relit": (0.98, relight),
    "moved, turned, relit, saved again": (
        0.8,
        lambda image: save_again(relight(turn(cut(image, 0.03, 0, 0, 0.03), 1)), 60),
    ),
}
"""For each change the share that is found, at least; those of real photographs are in docs/benchmarks.md."""


@pytest.fixture(scope="module")
def spots(welds: list[Picture]) -> list[Picture]:
    """A piece of each weld as wide as it is high, as a photograph of one spot shows it."""
    return [image.crop((0, 150, image.width, 150 + image.width)).resize((240, 240)) for image in welds]


def find_alike_pictures(images: list[Picture]) -> set[tuple[int, int]]:
    return {(i, j) for pairs in find_alike(np.stack(list(map(make_thumbnail, images)))) for i, j in pairs.tolist()}


@pytest.mark.parametrize("change", VIEWS)
def test_views_of_one_spot_are_found_and_nothing_else(spots: list[Picture], change: str) -> None:
    least, alter = VIEWS[change]
    found = find_alike_pictures(spots + [alter(image) for image in spots])
    expected = {(row, row + len(spots)) for row in range(len(spots))}
    assert found <= expected
    assert len(found) >= least * len(expected)


def test_the_order_of_the_files_does_not_matter(spots: list[Picture]) -> None:
    images = spots + [VIEWS["nearer"][1](image) for image in spots]
    order = np.random.default_rng(0).permutation(len(images))
    found = find_alike_pictures([images[row] for row in order])
    assert {tuple(sorted((int(order[i]), int(order[j])))) for i, j in found} == find_alike_pictures(images)


def test_views_are_compared_alike_in_both_directions(spots: list[Picture]) -> None:
    first = np.stack([make_thumbnail(image) for image in spots])
    second = np.stack([make_thumbnail(VIEWS["relit"][1](image)) for image in spots])
    assert compare_views(first, second) == pytest.approx(compare_views(second, first), abs=1e-5)
    assert compare_views(first, first) == pytest.approx(1)


def draw_textures(count: int) -> Thumbnails:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 12, 12), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((24, 24), Image.Resampling.BICUBIC)) for each in coarse])


def test_the_search_in_blocks_equals_brute_force() -> None:
    thumbnails = draw_textures(60)
    thumbnails = np.concatenate([thumbnails, np.roll(thumbnails, 1, axis=1)])
    pairs = np.array(list(combinations(range(120), 2)))
    near = np.concatenate([compare(*thumbnails[each.T]) for each in np.array_split(pairs, 20)]) >= 0.95
    rest = pairs[~near]
    views = np.concatenate([compare_views(*thumbnails[each.T]) for each in np.array_split(rest, 20)]) >= 0.71
    found = find_alike(thumbnails)
    assert found.near.tolist() == pairs[near].tolist()
    assert found.views.tolist() == rest[views].tolist()
    assert len(found.views) >= 58


def test_lists_of_a_large_set_miss_little(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = draw_textures(600)
    thumbnails = np.concatenate([thumbnails, np.roll(thumbnails, 1, axis=1)])
    everything = find_alike(thumbnails).views
    monkeypatch.setattr(duplicates, "_MOST_AT_ONCE", 1000)
    monkeypatch.setattr(duplicates, "_LIST_SIZE", 300)
    found = set(map(tuple, find_alike(thumbnails).views.tolist()))
    assert found <= set(map(tuple, everything.tolist()))
    assert len(found) > 0.8 * len(everything)


def test_connect() -> None:
    labels = connect(np.array([[0, 3], [3, 4], [1, 5]]), 7)
    groups = [set(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)]
    assert groups == [{0, 3, 4}, {1, 5}, {2}, {6}]
    assert connect(np.zeros((0, 2), np.int64), 3).tolist() == [0, 1, 2]
