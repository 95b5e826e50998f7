"""EachImage: a transform for one image, applied to a batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from weldnet.errors import InputError


class EachImage(nn.Module):
    """Applies a transform to one image after the other; the same generator state gives the same result.

    For each image torch's global generator is seeded anew within, and put back after the batch: a transform whose
    randomness is torch's, as torchvision's v2 transforms are, needs no generator of its own. Slower than
    `weldnet.data.augmentation.BatchAugmentation`, which works on the whole batch at once.
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
