"""The settings of the data; importing them costs nothing."""

from dataclasses import dataclass, field
from typing import Any

MAX_CLASSES = 1000
"""A confusion matrix has the square of them, and an untrusted checkpoint chooses how many there are."""


@dataclass
class ImageSize:
    """Pixels, 1 to 4096."""

    height: int = 300
    width: int = 30


@dataclass
class Framing:
    """How a picture fills the image.

    Attributes:
        resize: `stretch` to the size, or `letterbox`: keep the aspect and fill the rest with black, or with
            the mean of a standardised photograph.
        orient: `as_is`, or `long_side_vertical`: turn an image that is wider than high by 90 degrees.
        window: the stored values that become black and white; see `weldnet.data.decode.formats.open_picture`.
        normalize: `imagenet`: grey levels as they are, which the network normalises as its weights expect; or
            `per_image`: each photograph is standardised, see `weldnet.data.decode.images.standardise`.
    """

    resize: str = "stretch"
    orient: str = "as_is"
    window: Any = "full"
    normalize: str = "imagenet"


@dataclass
class Shares:
    """The share of the images in each split; their sum is 1."""

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15


@dataclass
class SplitRule:
    """Who trains, validates and tests.

    Attributes:
        shares: where the source has no splits.
        val: `unseen`: whole welds; or `known`: photographs of the welds that train, where there are too few.
        num_folds: split the images into this many folds of whole groups, whatever their own splits.
        fold: the one, from 0, that is the test.
        allow_leak: accept splits that leak.
        seed: of the drawn images and the splits; None for the run's.
    """

    shares: Shares = field(default_factory=Shares)
    val: str = "unseen"
    num_folds: int | None = None
    fold: int | None = None
    allow_leak: bool = False
    seed: int | None = None


@dataclass
class BatchSettings:
    """How images become training batches.

    Attributes:
        balance: `none`; `weights`: rare classes weigh more in the loss; `sampler`: they are drawn more often.
        augmentation: a key of `PRESETS`, `Strengths`, or a module for `EachImage`.
        mixup, cutmix: see `weldnet.data.mixing.mix`.
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
