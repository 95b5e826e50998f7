"""Mixup and CutMix against plain loops, and their draws against the distributions they name."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from weldnet.data.mixing import check_alphas, draw_boxes, draw_symmetric_beta, mix
from weldnet.errors import InputError

NUM_CLASSES = 64
SIZES = [(300, 30), (32, 32)]
ALPHAS = [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mix_own(images: Tensor, seed: int = 0, mixup: float = 0.0, cutmix: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mixes a batch in which every image is a class of its own, so that its soft label identifies its partner."""
    return mix(images, torch.arange(len(images)), seeded(seed), NUM_CLASSES, mixup, cutmix)


def random_images(batch: int = NUM_CLASSES, size: tuple[int, int] = SIZES[0]) -> Tensor:
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=seeded(1))


def partner_of(index: int, target: Tensor) -> int:
    others = [other for other in target.nonzero().flatten().tolist() if other != index]
    assert len(others) <= 1
    return int(others[0]) if others else index


@pytest.mark.parametrize("size", SIZES)
def test_mixup_weighs_pixels_as_it_weighs_labels(size: tuple[int, int]) -> None:
    images = random_images(size=size)
    mixed, targets = mix_own(images, mixup=1.0)
    for i, (image, target) in enumerate(zip(mixed, targets, strict=True)):
        own, partner = target[i], partner_of(i, target)
        assert torch.allclose(image, own * images[i] + (1 - own) * images[partner], atol=1e-3)
    assert len(set(targets.diag().tolist())) > NUM_CLASSES / 2, "every sample has its own share"


@pytest.mark.parametrize("size", SIZES)
def test_cutmix_labels_by_the_pixels(size: tuple[int, int]) -> None:
    """A box of the partner, of the picture's aspect, and a label that is its exact share of the pixels."""
    height, width = size
    # The pixels tell the image they come from.
    images = torch.arange(NUM_CLASSES, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, height, width)
    mixed, targets = mix_own(images, cutmix=1.0)
    for i, (image, target) in enumerate(zip(mixed[:, 0], targets, strict=True)):
        partner = partner_of(i, target)
        box = image != i
        assert torch.equal(image[box], torch.full_like(image[box], partner))
        assert target[i] == pytest.approx(1 - float(box.double().mean()), abs=1e-7)
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows.unsqueeze(1) & columns)
        for line in (rows, columns):
            assert (line.int().diff() == 1).sum() <= 1, "in one piece"


def test_labels_and_partners() -> None:
    images = random_images()
    for mixup, cutmix in ALPHAS:
        mixed, targets = mix_own(images, mixup=mixup, cutmix=cutmix)
        assert (mixed.dtype, mixed.shape) == (torch.float32, images.shape)
        assert (targets.dtype, targets.shape) == (torch.float32, (NUM_CLASSES, NUM_CLASSES))
        assert torch.allclose(targets.sum(1), torch.ones(NUM_CLASSES))
        assert targets.min() >= 0
        partners = [partner_of(i, target) for i, target in enumerate(targets)]
        others = [partner for i, partner in enumerate(partners) if partner != i]
        assert len(set(others)) == len(others), "nobody is partner twice"
        assert min(mixed.min(), 255 - mixed.max()) >= 0


def test_both_on_halves_the_batch() -> None:
    """Flat images: cut ones hold two values, mixed ones a single value between."""
    images = (torch.arange(400) % 2 * 200).view(-1, 1, 1, 1).expand(-1, 3, 30, 10).to(torch.uint8)
    mixed, _ = mix(images, torch.arange(400) % 2, seeded(0), 2, 1.0, 1.0)
    blended = ((mixed > 0.01) & (mixed < 199.99)).flatten(1).any(1)
    # Half are mixup's, of which half have a partner of the other value; four standard deviations.
    assert int(blended.sum()) == pytest.approx(100, abs=36)


def test_a_batch_of_one_is_its_own_partner() -> None:
    images = random_images(1)
    mixed, targets = mix_own(images, mixup=1.0, cutmix=1.0)
    assert torch.allclose(mixed, images.float())
    assert torch.allclose(targets, torch.eye(NUM_CLASSES)[:1])


def test_a_function_of_the_generators_state() -> None:
    images = random_images()
    before = images.clone()
    for mixup, cutmix in ALPHAS:
        first = mix_own(images, mixup=mixup, cutmix=cutmix)
        torch.manual_seed(0)
        assert all(map(torch.equal, first, mix_own(images, mixup=mixup, cutmix=cutmix)))
        assert not any(map(torch.equal, first, mix_own(images, seed=1, mixup=mixup, cutmix=cutmix)))
        assert all(map(torch.equal, first, mix_own(images.float(), mixup=mixup, cutmix=cutmix)))
    assert torch.equal(images, before), "the batch itself is left alone"


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0, 10.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    shares = draw_symmetric_beta(torch.full((20_000,), alpha), seeded(0))
    assert shares.isfinite().all()
    # float32 has no share between 1 - 6e-8 and 1, so a small alpha's tail lies on 1 itself.
    inner = shares.clamp(1e-6, 1 - 1e-6).double()
    expected = stats.beta(alpha, alpha)
    points = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    gap = max(abs(float((inner <= point).double().mean()) - expected.cdf(float(point))) for point in points)
    # The one per mille limit of Kolmogorov and Smirnov.
    assert gap < 1.95 / 20_000**0.5


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (2, 500)])
def test_boxes(size: tuple[int, int]) -> None:
    areas = torch.tensor([0.0, 1e-6, 0.25, 1.0]).repeat_interleave(300)
    boxes = draw_boxes(areas, *size, seeded(0)).view(4, 300, *size)
    pixels = boxes.sum((2, 3))
    assert not pixels[0].any()
    assert (pixels[1] == 1).all()
    assert pixels.max() <= size[0] * size[1]
    assert (pixels[2:] >= 1).all()
    quarter = boxes[2]
    assert quarter.any(2).sum(1).max() == -(-size[0] // 2)
    assert quarter.any(1).sum(1).max() == -(-size[1] // 2)
    assert (quarter.any(0) if min(size) > 1 else quarter.any()).all(), "no place is spared"


@pytest.mark.parametrize("value", [-0.1, 10.5, float("nan")])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_alphas_are_checked(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^data\.{name}={value}: allowed are 0 to 10$"):
        check_alphas(**{"mixup": 0.0, "cutmix": 0.0, name: value})
