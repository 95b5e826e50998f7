"""Mixup and CutMix: each image of a training batch mixed with another, and their labels with them."""

import math

import torch
from torch import Tensor

from weldnet.errors import InputError

LARGEST_ALPHA = 10.0
"""Past this every sample is about half and half."""


def check_alphas(mixup: float, cutmix: float) -> None:
    """Refuses what is not from 0 (off) to 10."""
    for name, value in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= value <= LARGEST_ALPHA:
            raise InputError(f"data.{name}={value}: allowed are 0 to {LARGEST_ALPHA:g}")


def mix(
    images: Tensor, labels: Tensor, generator: torch.Generator, num_classes: int, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Mixes a batch with a permutation of itself; the same generator state gives the same result.

    Each image keeps a share of its own, drawn from Beta(alpha, alpha), and takes the rest from its partner: by mixup
    as a weighted mean of the two, by CutMix as a box cut out of the partner where it lies. With both on, each image
    takes one of the two, half and half. The alphas are `mixup` and `cutmix`, of which one is on; 0.2 and 1 are usual.
    References: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412; Yun et al.,
    CutMix: Regularization Strategy to Train Strong Classifiers, ICCV 2019, arXiv:1905.04899.

    Returns:
        From uint8 or float32 (B, 3, H, W) and int64 (B,), on the generator's device, to images float32 (B, 3, H, W)
        and labels float32 (B, C): the share of each class, of sum 1.
    """
    images = images.float()
    # torch's `one_hot` and `where` with numbers wait for the device.
    targets = (labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)).float()
    n, height, width = len(images), images.shape[2], images.shape[3]
    partners = torch.rand(n, generator=generator, device=images.device).argsort()
    # The share of CutMix among the samples: 0, 1 or, with both on, a half.
    cuts = torch.rand(n, generator=generator, device=images.device) < (cutmix > 0) / (1 + (mixup > 0))
    share = draw_symmetric_beta(mixup + cuts * (cutmix - mixup), generator)
    kept = (~draw_boxes(1 - share, height, width, generator)).float()
    # The border may clip a box: its label goes by the pixels that are left.
    share = torch.where(cuts, kept.mean((1, 2)), share)
    weights = torch.where(cuts.view(-1, 1, 1), kept, share.view(-1, 1, 1)).unsqueeze(1)
    return torch.lerp(images[partners], images, weights), torch.lerp(targets[partners], targets, share.view(-1, 1))


def draw_symmetric_beta(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """One draw from Beta(alpha, alpha) for each alpha; `torch.distributions` takes no generator.

    Both are float32 (N,), alpha above 0, on the generator's device. With U and V uniform, c = cos(2 pi V) and
    q = (U^(-1/alpha) - 1) c^2, it is (1 + sign(c) / sqrt(1 + 1/q)) / 2.

    References:
        Devroye, Random variate generation in one line of code, Winter Simulation Conference 1996; after Bailey, Polar
        generation of random variates with the t-distribution, Mathematics of Computation 62, 1994.
    """
    u, v = torch.rand(2, len(alpha), generator=generator, device=alpha.device)
    cosine = torch.cos(2 * math.pi * v)
    q = torch.expm1(-u.log() / alpha) * cosine**2
    return (1 + cosine.sign() / (1 + 1 / q).sqrt()) / 2


def draw_boxes(areas: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Boxes of the picture's aspect about a random pixel, clipped at the border: bool (N, H, W), true inside.

    `areas`, float32 (N,), are shares of the picture before clipping; above 0 at least one pixel is inside.
    """

    def inside(side: int) -> Tensor:
        length = (side * areas.sqrt()).ceil()
        first = torch.randint(side, areas.shape, generator=generator, device=areas.device) - (length / 2).floor()
        position = torch.arange(side, device=areas.device) - first.unsqueeze(1)
        return (position >= 0) & (position < length.unsqueeze(1))

    return inside(height).unsqueeze(2) & inside(width).unsqueeze(1)
