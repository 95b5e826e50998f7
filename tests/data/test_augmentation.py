"""Augmentation changes each picture by its own draw, repeatably, and never loses the weld."""

import pytest
import torch
from torch import Tensor

from weldnet.data.augmentation import PRESETS, BatchAugmentation, Strengths
from weldnet.errors import InputError


def random_images(batch: int = 16, height: int = 40, width: int = 12) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=seeded(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: Tensor, seed: int = 0, preset: str = "weld", **only: float) -> Tensor:
    """Augments under a preset or, where `only` names strengths, under those alone."""
    augmentation = BatchAugmentation(preset)
    if only:
        augmentation.strengths = Strengths(**only)
    result: Tensor = augmentation(images, seeded(seed))
    return result


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "none"])
def test_every_sample_has_its_own_draw(preset: str) -> None:
    images = random_images(1).repeat(16, 1, 1, 1)
    before = images.clone()
    result = augment(images, preset=preset)
    assert torch.equal(images, before), "the batch itself is left alone"
    assert (result.dtype, result.shape) == (torch.float32, images.shape)
    assert len({tuple(row.tolist()) for row in result.flatten(1)}) == 16
    assert torch.equal(augment(images, preset=preset), result)
    assert not torch.equal(augment(images, seed=1, preset=preset), result)
    assert result.min() >= 0
    assert result.max() <= 255


def test_none_is_the_input() -> None:
    images = random_images()
    assert augment(images, preset="none") is images


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match=r"data\.augmentation=wled: .*did you mean 'weld'"):
        BatchAugmentation("wled")


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_flips_are_exact_and_as_frequent_as_said(shift: float) -> None:
    """By both ways that flips take: alone, and as part of a move."""
    images = random_images(1).repeat(400, 1, 1, 1)
    result = augment(images, flip=0.5, shift=shift)
    variants = [images[0].float().flip(axes) for axes in ([], [1], [2], [1, 2])]
    counts = [sum(torch.allclose(row, variant, atol=0.01) for row in result) for variant in variants]
    assert sum(counts) == 400
    # Four standard deviations at a share of 1/4.
    assert counts == pytest.approx([100] * 4, abs=35)


def test_light_keeps_the_order_of_brightness() -> None:
    """Up to a flip, each picture is an increasing linear function of what it was, within 10 % and 10 %."""
    images = random_images().clamp(40, 180)
    for row, result in zip(images.float().flatten(1), augment(images, preset="light").flatten(1), strict=True):
        x, y = row.sort().values, result.sort().values
        slope = (y[-1] - y[0]) / (x[-1] - x[0])
        assert torch.allclose(y, y[0] + slope * (x - x[0]), atol=0.01)
        assert 0.9 * 0.9 <= slope <= 1.1 * 1.1
        assert 0.9 <= y.mean() / x.mean() <= 1.1


@pytest.mark.parametrize("size", [(300, 30), (224, 224), (96, 480)])
def test_weld_stays_in_the_picture(size: tuple[int, int]) -> None:
    """A bright bar, from end to end along the middle third, is moved, but never cropped away."""
    height, width = size
    images = torch.zeros(64, 3, height, width, dtype=torch.uint8)
    images[..., width // 3 : width - width // 3] = 200
    moved = PRESETS["weld"]
    result = augment(images, flip=0.5, rotate_deg=moved.rotate_deg, shift=moved.shift, scale=moved.scale)
    mass = result.sum((1, 2, 3)) / images.float().sum((1, 2, 3))
    assert mass.min() >= 0.8
    assert mass.max() <= 1.25
    bright = (augment(images) > 100).float().mean((1, 2, 3)) / (images > 100).float().mean((1, 2, 3))
    assert bright.min() >= 0.8


@pytest.mark.parametrize("size", [(300, 30), (64, 64)])
def test_rotation_is_rigid_in_pixels(size: tuple[int, int]) -> None:
    """A small disc's centre turns about the picture's by the same angle, and by as many pixels, on any aspect."""
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = (rows - height * 0.75) ** 2 + (columns - (width - 1) / 2) ** 2 <= 9
    images = (disc * 200).to(torch.uint8).expand(64, 3, height, width)
    result = augment(images, rotate_deg=3.0)[:, 0]
    mass = result.sum((1, 2))
    row = (result * rows).sum((1, 2)) / mass - (height - 1) / 2
    column = (result * columns).sum((1, 2)) / mass - (width - 1) / 2
    radius = (disc * rows).sum() / disc.sum() - (height - 1) / 2
    assert torch.allclose((row**2 + column**2).sqrt(), radius.expand(64), atol=0.3)
    angle = torch.rad2deg(torch.atan2(column, row)).abs()
    assert 2.4 <= angle.max() <= 3.2


def test_grey_blur_and_noise_do_what_they_say() -> None:
    images = random_images()
    grey = augment(images, grey=1.0)
    assert torch.allclose(grey, images.float().mean(1, keepdim=True).expand_as(grey), atol=0.01)
    flat = torch.full((64, 3, 40, 12), 128, dtype=torch.uint8)
    assert torch.allclose(augment(flat, blur=1.0), flat.float(), atol=0.01)
    assert augment(images, blur=1.0).std() < 0.6 * images.float().std()
    deviation = (augment(flat, noise=6.0) - 128).flatten(1).std(1)
    assert deviation.max() <= 6.3
    assert deviation.mean() == pytest.approx(3, abs=0.8)
