"""The settings of the splits."""

from dataclasses import dataclass, field


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
        num_folds: split the images anew into this many folds of whole groups.
        fold: the one, from 0, that is the test.
        allow_leak: accept splits that leak.
    """

    shares: Shares = field(default_factory=Shares)
    num_folds: int | None = None
    fold: int | None = None
    allow_leak: bool = False
