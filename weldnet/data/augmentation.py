"""Random changes to a training batch, on the device that the batch is on."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldnet.errors import InputError, check_choice

LIMITS = {"rotate_deg": 180, "shift": 0.5, "scale": 0.9, "noise": 255}
"""The largest values; of all others 1."""


@dataclass(frozen=True)
class Strengths:
    """How far each change goes; every sample draws its own values. One out of range is an InputError.

    Attributes:
        flip: probability of a mirror image, for each axis alone.
        rotate_deg, shift, scale: the largest turn in degrees, shift as a share of the side, change of size. Small,
            so that the weld is never cropped away; what comes in at the border is mirrored.
        brightness, contrast, colour: the largest relative change, of all, about the mean, and of each channel alone.
        reflection: probability of one or two lamps that shine back from the metal.
        grey: probability of losing the colour.
        blur: probability of a 3 x 3 binomial blur.
        noise: the largest standard deviation of sensor noise, in grey levels of 255, the same in all channels.
        convolution: probability of being mixed with a random 3 x 3 convolution of the picture itself.
    """

    flip: float = 0.0
    rotate_deg: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    reflection: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    convolution: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= (limit := LIMITS.get(name, 1)):
                raise InputError(f"data.augmentation.{name}={value}: allowed are 0 to {limit}")


PRESETS = {
    "none": Strengths(),
    "light": Strengths(flip=0.5, brightness=0.1, contrast=0.1),
    "weld": Strengths(
        flip=0.5,
        rotate_deg=2.0,
        shift=0.04,
        scale=0.1,
        brightness=0.25,
        contrast=0.25,
        colour=0.08,
        reflection=0.15,
        grey=0.1,
        blur=0.1,
        noise=6.0,
    ),
}


class BatchAugmentation(nn.Module):
    """Augments a batch by some strengths, or by the name of `PRESETS`; the same generator state gives the same."""

    def __init__(self, choice: str | Strengths) -> None:
        super().__init__()
        if isinstance(choice, str):
            check_choice("data.augmentation", choice, list(PRESETS))
            choice = PRESETS[choice]
        self.strengths = choice
        self.active = choice != PRESETS["none"]

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """From uint8 (B, 3, H, W), with a generator on their device, to float32 from 0 to 255.

        The images themselves where every strength is 0.
        """
        if not self.active:
            return images
        images = self._move(images.float(), generator)
        images = self._convolve(images, generator)
        images = self._light(images, generator)
        images = self._reflect(images, generator)
        images = self._degrade(images, generator)
        return images.clamp_(0, 255)

    def _move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, n = self.strengths, len(images)
        flips = 1 - 2 * (_uniform(generator, 0, 1, n, 2) < s.flip).float()
        if not (s.rotate_deg or s.shift or s.scale):
            images = torch.where(flips[:, 0].view(-1, 1, 1, 1) < 0, images.flip(3), images)
            return torch.where(flips[:, 1].view(-1, 1, 1, 1) < 0, images.flip(2), images)
        angle = torch.deg2rad(_uniform(generator, -s.rotate_deg, s.rotate_deg, n))
        size = _uniform(generator, 1 - s.scale, 1 + s.scale, n)
        shift = _uniform(generator, -2 * s.shift, 2 * s.shift, 2, n)
        # affine_grid works in units of half a side: a rotation in pixels needs the aspect taken out and put back.
        aspect = images.shape[2] / images.shape[3]
        cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
        rows = [
            torch.stack([cos * flips[:, 0], -sin * aspect, shift[0]], 1),
            torch.stack([sin / aspect, cos * flips[:, 1], shift[1]], 1),
        ]
        grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _convolve(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mixes some of the images with a random convolution of each, in place: texture and colour change, not shape.

        Source: Xu et al., Robust and Generalizable Visual Representation Learning via Random Convolutions, ICLR 2021,
        arXiv:2007.13003 (with mixing; kernels of 3 x 3, as a strip is only 30 pixels wide).
        """
        if not self.strengths.convolution:
            return images
        rows, chosen = _choose(generator, self.strengths.convolution, len(images))
        plain = images[rows]
        mean = plain.mean(dim=(1, 2, 3), keepdim=True)
        # By the variance of 1 / 27 a convolution keeps the contrast, on average.
        kernels = torch.randn(3 * len(rows), 3, 3, 3, generator=generator, device=generator.device) / math.sqrt(27)
        padded = functional.pad(plain - mean, (1, 1, 1, 1), mode="replicate").flatten(0, 1)
        convolved = functional.conv2d(padded.unsqueeze(0), kernels, groups=len(rows)).view_as(plain) + mean
        share = chosen * _uniform(generator, 0, 1, len(rows), 1, 1, 1)
        return images.index_copy_(0, rows, torch.lerp(plain, convolved, share))

    def _light(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, n = self.strengths, len(images)

        def factor(limit: float, channels: int = 1) -> Tensor:
            return _uniform(generator, 1 - limit, 1 + limit, n, channels, 1, 1)

        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        gain, contrast = factor(s.brightness) * factor(s.colour, 3), factor(s.contrast)
        # ((images - mean) * contrast + mean) * gain; memory is the cost here, so there are no copies on the way.
        return images.mul_(contrast * gain).add_(mean * (1 - contrast) * gain)

    def _reflect(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Adds lamps' light to some of the images, in place: one or two bright spots with soft halos in each."""
        height, width = images.shape[2:]
        rows, chosen = _choose(generator, self.strengths.reflection, len(images))
        spots = (len(rows), 2, 1, 1, 1)
        # In shares of the sides, so that a spot is drawn out as the picture was when it was stretched to a strip.
        y = torch.linspace(0, 1, height, device=images.device).view(-1, 1) - _uniform(generator, 0, 1, *spots)
        x = torch.linspace(0, 1, width, device=images.device) - _uniform(generator, 0, 1, *spots)
        angle = _uniform(generator, 0, math.pi, *spots)
        minor = _uniform(generator, 0.04, 0.12, *spots)
        major = minor * _uniform(generator, 1.5, 4, *spots)
        along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        peak = _uniform(generator, 0.7, 2.5, *spots) * chosen.view(-1, 1, 1, 1, 1)
        peak[:, 1] *= _uniform(generator, 0, 1, len(rows), 1, 1, 1) < 0.5
        tint = _uniform(generator, 0.9, 1, len(rows), 2, 3, 1, 1)
        light = (tint * (peak / (1 + (along / major) ** 2 + (across / minor) ** 2) ** 2)).sum(1)
        lit = images[rows].clamp_(0, 255)
        # What is bright shines back, so ripples keep their shape and a pore stays dark.
        light = (light * lit.mean(1, keepdim=True) / 128).clamp_(max=1)
        return images.index_copy_(0, rows, lit + light * (255 - lit))

    def _degrade(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Makes some of the images grey, blurs some and adds noise to all, in place."""
        s, n = self.strengths, len(images)
        rows, chosen = _choose(generator, s.grey, n)
        plain = images[rows]
        images.index_copy_(0, rows, torch.lerp(plain, plain.mean(dim=1, keepdim=True), chosen))
        rows, chosen = _choose(generator, s.blur, n)
        plain = images[rows]
        blurred = functional.pad(plain, (1, 1, 1, 1), mode="replicate")
        # Sums of neighbours, twice along each axis: a binomial filter of 3 x 3.
        for axis in (2, 2, 3, 3):
            size = blurred.shape[axis] - 1
            blurred = blurred.narrow(axis, 0, size) + blurred.narrow(axis, 1, size)
        images.index_copy_(0, rows, torch.lerp(plain, blurred.div_(16), chosen))
        if s.noise:
            # One draw for the three channels: grey pictures stay grey, and the draw is what augmentation costs most.
            noise = torch.randn(n, 1, *images.shape[2:], generator=generator, device=images.device)
            images.addcmul_(_uniform(generator, 0, s.noise, n, 1, 1, 1), noise)
        return images


def _uniform(generator: torch.Generator, low: float, high: float, *size: int) -> Tensor:
    """float32 of a size, from `low` to `high`, on the generator's device."""
    return torch.rand(size, generator=generator, device=generator.device) * (high - low) + low


def _choose(generator: torch.Generator, probability: float, num_rows: int) -> tuple[Tensor, Tensor]:
    """Rows, each drawn with a probability: what few pictures need is computed for those alone.

    How many there are is known without waiting for the device: N times the probability, rounded up. Where that is no
    whole number, the last of them is drawn by chance: beside the rows, int64 (R,), float32 (R, 1, 1, 1) is 1 or 0.
    """
    expected = probability * num_rows
    rows = _uniform(generator, 0, 1, num_rows).argsort()[: math.ceil(expected)]
    number = (_uniform(generator, 0, 1, 1) + expected).floor()
    chosen = torch.arange(len(rows), device=generator.device) < number
    return rows, chosen.float().view(-1, 1, 1, 1)


class EachImage(nn.Module):
    """Applies a transform to one image after the other; the same generator state gives the same result.

    For each image torch's global generator is seeded anew within, and put back after the batch: a transform whose
    randomness is torch's, as torchvision's v2 transforms are, needs no generator of its own. Slower than
    `BatchAugmentation`, which works on the whole batch at once.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """From uint8 (B, 3, H, W) to the same; an InputError where the transform changes the type or the shape."""
        # On the CPU, so that nothing waits for the device.
        host = torch.Generator().manual_seed(generator.initial_seed())
        seeds = torch.randint(2**63 - 1, (len(images),), generator=host).tolist()
        device = images.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            return torch.stack([self._change(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _change(self, image: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        changed = self.transform(image)
        if changed.dtype != torch.uint8 or changed.shape != image.shape:
            raise InputError(
                f"data.augmentation: {type(self.transform).__name__} gives {changed.dtype} {tuple(changed.shape)}; "
                f"allowed is torch.uint8 {tuple(image.shape)}, as it gets"
            )
        return changed
