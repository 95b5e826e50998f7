"""Augmentation changes each picture by its own draw, repeatably, and never loses the weld."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from weldnet.data.augmentation import PRESETS, BatchAugmentation, EachImage, Strengths
from weldnet.errors import InputError


def random_images(batch: int = 16, height: int = 40, width: int = 12) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=seeded(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: Tensor, seed: int = 0, preset: str = "weld", **only: float) -> Tensor:
    """Augments under a preset or, where `only` names strengths, under those alone."""
    augmentation = BatchAugmentation(Strengths(**only) if only else preset)
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


def test_a_transform_draws_for_each_image_from_the_generator_alone() -> None:
    images = random_images(1).repeat(16, 1, 1, 1)
    augmentation = EachImage(v2.RandomAffine(degrees=20, translate=(0.2, 0.2)))
    before = torch.get_rng_state()
    first = augmentation(images, seeded(0))
    assert torch.equal(torch.get_rng_state(), before), "torch's global generator is as it was"
    torch.rand(1)
    assert torch.equal(augmentation(images, seeded(0)), first)
    assert not torch.equal(augmentation(images, seeded(1)), first)
    assert (first.dtype, first.shape) == (torch.uint8, images.shape)
    assert len({tuple(row.tolist()) for row in first.flatten(1)}) == 16


@pytest.mark.parametrize("transform", [v2.ToDtype(torch.float32), v2.Resize((8, 8)), v2.Grayscale()])
def test_a_transform_keeps_type_and_shape(transform: v2.Transform) -> None:
    with pytest.raises(InputError, match=rf"{type(transform).__name__} gives .*allowed is torch\.uint8 \(3, 40, 12\)"):
        EachImage(transform)(random_images(2), seeded(0))


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_flips_are_exact_and_as_frequent_as_documented(shift: float) -> None:
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


def moved(images: Tensor) -> Tensor:
    """The geometry of `weld` alone."""
    weld = PRESETS["weld"]
    return augment(images, flip=weld.flip, rotate_deg=weld.rotate_deg, shift=weld.shift, scale=weld.scale)


def bar(batch: int, size: tuple[int, int], share: float) -> Tensor:
    """Upright bright bars from end to end, as wide as a share of the picture, in its middle."""
    height, width = size
    images = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    edge = round(width * (1 - share) / 2)
    images[..., edge : width - edge] = 200
    return images


@pytest.mark.parametrize("size", [(300, 30), (224, 224), (96, 480)])
def test_weld_stays_in_the_picture(size: tuple[int, int]) -> None:
    """No row of any picture loses the weld's centre line; nor the weld, where it fills half of the width."""
    batch = 400 if size == (300, 30) else 40
    line = moved(bar(batch, size, 0.1))[:, 0]
    assert (line.amax(2) > 100).all()
    weld = bar(batch, size, 0.5)
    kept = moved(weld).sum((1, 3)) / weld.sum((1, 3))
    # The change of size alone, 10 % either way, makes it 0.91 to 1.11.
    assert kept.min() >= 0.88
    assert kept.max() <= 1.15


@pytest.mark.parametrize("end", [0.1, 0.9])
def test_weld_keeps_its_ends(end: float) -> None:
    """A mark on the centre line, a tenth of the length from either end, is in every picture, and just once."""
    images = torch.zeros(200, 3, 300, 30, dtype=torch.uint8)
    row = round(300 * end)
    images[..., row - 2 : row + 2, 13:17] = 200
    mass = moved(images)[:, 0].sum((1, 2)) / (16 * 200)
    assert mass.min() >= 0.8
    # A mirrored copy at the border, where the picture shrinks, is all that may come in.
    assert mass.max() <= 2.5


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
    noisy = augment(flat, noise=6.0) - 128
    assert torch.equal(noisy, noisy[:, :1].expand_as(noisy)), "grey stays grey"
    # Four standard deviations of the estimate from 480 pixels.
    assert noisy.flatten(1).std(1).max() <= 6 * (1 + 4 / (2 * 480) ** 0.5)
    assert noisy.flatten(1).std(1).mean() == pytest.approx(3, abs=0.8)


@pytest.mark.parametrize("size", [(300, 30), (64, 64), (1, 1)])
def test_convolutions_change_texture_and_colour_of_some(size: tuple[int, int]) -> None:
    images = torch.randint(100, 156, (200, 3, *size), dtype=torch.uint8, generator=seeded(0))
    result = augment(images, convolution=0.3)
    changed = (result - images).abs().flatten(1).amax(1) > 0.01
    assert result.isfinite().all()
    # Four standard deviations of the binomial of 200 and 0.3.
    assert changed.sum() == pytest.approx(60, abs=26)
    flat = torch.full((8, 3, *size), 90, dtype=torch.uint8)
    assert torch.allclose(augment(flat, convolution=1.0), flat.float(), atol=0.01)


def test_a_convolution_keeps_shapes_where_they_are() -> None:
    images = torch.full((32, 3, 40, 12), 100, dtype=torch.uint8)
    images[:, :, 20:] = 150
    result = augment(images, convolution=1.0)
    rows = torch.cat([result[:, :, :19], result[:, :, 21:]], 2)
    for half in (rows[:, :, :19], rows[:, :, 19:]):
        assert torch.allclose(half, half[:, :, :1, :1].expand_as(half), atol=0.01), "only the edge sees both sides"


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"blur": -0.1}, {"noise": 256}, {"grey": float("nan")}])
def test_strengths_are_in_range(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=rf"data\.augmentation\.{name}=.*: allowed are 0 to "):
        Strengths(**wrong)


@pytest.mark.parametrize("size", [(300, 30), (64, 64), (1, 1)])
def test_reflections_add_light_to_some(size: tuple[int, int]) -> None:
    images = random_images(200, *size)
    result = augment(images, reflection=0.15)
    lit = (result != images).flatten(1).any(1)
    assert result.isfinite().all()
    assert (result >= images.float() - 1e-4).all()
    assert result.max() <= 255
    # Four standard deviations of the binomial of 200 and 0.15; a spot of one pixel may miss it.
    assert 10 <= lit.sum() <= 50
    assert augment(images, reflection=0.0) is images


def test_reflections_are_spots_on_bright_metal() -> None:
    """Each lights a small part of plain metal, and of every place some; what is black stays black."""
    metal = torch.full((200, 3, 300, 30), 110, dtype=torch.uint8)
    added = augment(metal, reflection=1.0).mean(1) - 110
    assert ((added > 60).float().mean((1, 2)) < 0.5).all()
    assert (added.amax((1, 2)) > 40).float().mean() > 0.9
    assert (added.mean(0) > 2).all()
    assert not augment(metal * 0, reflection=1.0).any()
