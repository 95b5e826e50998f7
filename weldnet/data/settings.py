"""The settings of the batches, and of the images that they are made of."""

from dataclasses import dataclass
from typing import Any


@dataclass
class BatchSettings:
    """How images become training batches.

    Attributes:
        batch_size: images in a batch.
        balance: `none`; `weights`: rare classes weigh more in the loss; `sampler`: they are drawn more often.
        augmentation: a key of `PRESETS`, or a module for `EachImage`.
        mixup, cutmix: see `weldnet.data.mixing.Mixing`.
    """

    batch_size: int = 32
    balance: str = "none"
    augmentation: Any = "none"
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass
class ImageSettings:
    """Where decoded images are kept.

    Attributes:
        cache: `disk`: memory-mapped from the cache folder; `memory` and `device`: copied there; `none`: every image
            is decoded each time it is wanted, by worker processes.
        num_workers: how many of these; None for one a core.
        cache_dir: the cache folder; None for the user's.
        on_unreadable: `stop`, or `skip` the files that cannot be read.
    """

    cache: str = "disk"
    num_workers: int | None = None
    cache_dir: str | None = None
    on_unreadable: str = "stop"
