"""Random changes to a training batch, on the device that the batch is on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldnet.errors import check_choice


@dataclass(frozen=True)
class Strengths:
    """How far each change goes; every sample draws its own values.

    Attributes:
        flip: probability of a mirror image, for each axis alone.
        rotate_deg, shift, scale: the largest turn in degrees, shift as a share of the side, change of size. Small,
            so that the weld is never cropped away; what comes in at the border is mirrored.
        brightness, contrast, colour: the largest relative change, of all, about the mean, and of each channel alone.
        grey: probability of losing the colour.
        blur: probability of a 3 x 3 binomial blur.
        noise: the largest standard deviation of sensor noise, in grey levels of 255.
    """

    flip: float = 0.0
    rotate_deg: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


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
        grey=0.1,
        blur=0.1,
        noise=6.0,
    ),
}


class BatchAugmentation(nn.Module):
    """Augments a batch; the same generator state gives the same result.

    Args:
        preset: a key of `PRESETS`.

    Raises:
        InputError: no such preset.
    """

    def __init__(self, preset: str) -> None:
        super().__init__()
        check_choice("data.augmentation", preset, list(PRESETS))
        self.strengths = PRESETS[preset]
        self.active = preset != "none"

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Args:
            images: uint8 (B, 3, H, W).
            generator: on the images' device.

        Returns:
            float32 (B, 3, H, W) from 0 to 255; the images themselves under the preset `none`.
        """
        if not self.active:
            return images
        images = self._move(images.float(), generator)
        images = self._light(images, generator)
        images = self._degrade(images, generator)
        return images.clamp_(0, 255)

    def _move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, n = self.strengths, len(images)

        def spread(limit: float) -> Tensor:
            return (torch.rand(n, generator=generator, device=images.device) * 2 - 1) * limit

        flips = 1 - 2 * (torch.rand(n, 2, generator=generator, device=images.device) < s.flip).float()
        if not (s.rotate_deg or s.shift or s.scale):
            images = torch.where(flips[:, 0].view(-1, 1, 1, 1) < 0, images.flip(3), images)
            return torch.where(flips[:, 1].view(-1, 1, 1, 1) < 0, images.flip(2), images)
        angle, size = torch.deg2rad(spread(s.rotate_deg)), 1 + spread(s.scale)
        # affine_grid works in units of half a side: a rotation in pixels needs the aspect taken out and put back.
        aspect = images.shape[2] / images.shape[3]
        cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
        rows = [
            torch.stack([cos * flips[:, 0], -sin * aspect, 2 * spread(s.shift)], 1),
            torch.stack([sin / aspect, cos * flips[:, 1], 2 * spread(s.shift)], 1),
        ]
        grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _light(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, n = self.strengths, len(images)

        def factor(limit: float, channels: int = 1) -> Tensor:
            spread = torch.rand(n, channels, 1, 1, generator=generator, device=images.device) * 2 - 1
            return 1 + spread * limit

        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        gain, contrast = factor(s.brightness) * factor(s.colour, 3), factor(s.contrast)
        images = (images - mean) * (contrast * gain) + mean * gain
        grey = torch.rand(n, 1, 1, 1, generator=generator, device=images.device) < s.grey
        return torch.where(grey, images.mean(dim=1, keepdim=True), images)

    def _degrade(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, n = self.strengths, len(images)
        blurred = torch.rand(n, generator=generator, device=images.device) < s.blur
        if bool(blurred.any()):
            line = torch.tensor([0.25, 0.5, 0.25], device=images.device)
            kernel = torch.outer(line, line).expand(3, 1, 3, 3)
            padded = functional.pad(images[blurred], (1, 1, 1, 1), mode="replicate")
            images = images.index_put((blurred,), functional.conv2d(padded, kernel, groups=3))
        if s.noise:
            sigma = torch.rand(n, 1, 1, 1, generator=generator, device=images.device) * s.noise
            noise = torch.randn(images.shape, generator=generator, device=images.device)
            images = images + sigma * noise
        return images
