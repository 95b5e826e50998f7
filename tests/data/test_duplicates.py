"""Copies are found, other welds are not, and no crowd of hashes makes the search quadratic."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from drawing import draw_blobs, draw_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from weldnet.data import duplicates
from weldnet.data.duplicates import compare, connect, find_duplicates, iterate_near_pairs, make_thumbnail
from weldnet.synthetic.drawn_set import write_synthetic

Picture = Image.Image
Hashes = NDArray[np.uint64]


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
    pairs = find_duplicates(np.stack([make_thumbnail(image) for image in images]))
    return [(first, second) for first, second in pairs.tolist()]


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
    assert len(find_duplicates(thumbnails)) == 0


def test_similarity_of_a_pair(welds: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = np.stack([make_thumbnail(image) for image in (welds[0], welds[1], save_again(welds[0], 50))])
    assert find_duplicates(thumbnails).tolist() == [[0, 2]]
    assert 0.95 < compare(thumbnails[:1], thumbnails[2:])[0] < 1
    assert compare(thumbnails[:1], thumbnails[:1])[0] == pytest.approx(1)
    monkeypatch.setattr(duplicates, "MIN_SIMILARITY", 0.9999)
    assert len(find_duplicates(thumbnails)) == 0


def test_plain_pictures_are_never_duplicates() -> None:
    constant = np.full((24, 24), 128, np.uint8)
    gradient = np.tile(np.arange(100, 124, dtype=np.uint8), (24, 1))
    rounding = (constant + np.random.default_rng(0).integers(0, 2, (24, 24))).astype(np.uint8)
    thumbnails = np.stack([picture for picture in (constant, gradient, rounding) for _ in range(3)])
    assert len(find_duplicates(thumbnails)) == 0
    assert compare(thumbnails, thumbnails).tolist() == [0] * 9


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_for_a_pair(count: int) -> None:
    assert find_duplicates(np.zeros((count, 24, 24), np.uint8)).shape == (0, 2)


def plant(seed: int, count: int, bits: int) -> Hashes:
    """3 * `count` hashes: chance, the same up to `bits` bits, and the first one up to `bits` bits."""
    rng = np.random.default_rng(seed)
    chance = rng.integers(0, 2**64, count, np.uint64)
    hashes = np.concatenate([chance, chance, np.repeat(chance[:1], count)])
    for _ in range(bits):
        hashes[count:] ^= np.uint64(1) << rng.integers(0, 64, 2 * count).astype(np.uint64)
    return hashes


def search_all(hashes: Hashes, max_distance: int) -> set[tuple[int, int]]:
    numbers = [int(number) for number in hashes]
    return {
        (i, j) for i, j in combinations(range(len(numbers)), 2) if (numbers[i] ^ numbers[j]).bit_count() <= max_distance
    }


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(0, 8), st.integers(0, 7), st.sampled_from([1, 4, 256]))
def test_search_equals_brute_force(seed: int, count: int, bits: int, max_distance: int, bucket: int) -> None:
    hashes = plant(seed, count, bits)
    crowds = np.arange(len(hashes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_MAX_BUCKET", bucket)
        found = [(i, j) for pairs in iterate_near_pairs(hashes, crowds, max_distance) for i, j in pairs.tolist()]
    together = {(i, j) for i, j in combinations(range(len(hashes)), 2) if crowds[i] == crowds[j]}
    expected = search_all(hashes, max_distance)
    assert len(found) == len(set(found))
    assert set(found) <= expected <= set(found) | together
    if bucket == 256:
        assert not together


def test_crowds_of_hashes_make_few_pairs() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 12_000, np.uint64)
    hashes[:4000] = hashes[0]
    flips = np.uint64(1) << rng.integers(0, 64, (2, 4000)).astype(np.uint64)
    hashes[4000:8000] = hashes[4000] ^ flips[0] ^ flips[1]
    crowds = np.arange(len(hashes))
    num_pairs = sum(map(len, iterate_near_pairs(hashes, crowds)))
    assert len(set(crowds[:4000])) == len(set(crowds[4000:8000])) == 1
    assert crowds[0] != crowds[4000]
    assert num_pairs < 20 * len(hashes)  # of 16 million


def test_copies_in_a_crowd_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burnt-in pattern gives 600 different pictures one crowd; each has a copy in it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (3, 3), np.uint8)
    pattern = np.asarray(Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC), np.float64)
    originals = pattern + rng.normal(0, 10, (600, 24, 24))
    copies = originals + rng.normal(0, 1, originals.shape)
    monkeypatch.setattr(duplicates, "MIN_SIMILARITY", 0.97)
    found = find_duplicates(np.concatenate([originals, copies]).clip(0, 255).astype(np.uint8))
    assert {(row, row + 600) for row in range(600)} <= {(i, j) for i, j in found.tolist()}
    assert len(found) < 8 * 1200


def test_many_equal_pictures_make_one_component(welds: list[Picture]) -> None:
    thumbnail = make_thumbnail(welds[0])
    found = find_duplicates(np.stack([thumbnail] * 1000))
    assert len(found) == 999
    assert set(connect(found, 1000)) == {0}


def test_connect() -> None:
    labels = connect(np.array([[0, 3], [3, 4], [1, 5]]), 7)
    groups = [set(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)]
    assert groups == [{0, 3, 4}, {1, 5}, {2}, {6}]
    assert connect(np.zeros((0, 2), np.int64), 3).tolist() == [0, 1, 2]
