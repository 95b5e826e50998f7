"""Exact intervals of proportions, k of n, and how many images it takes to show a rate."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import betainccinv, betaincinv

Side = Literal["two-sided", "upper", "lower"]


@dataclass(frozen=True)
class Proportion:
    """k of n with its exact interval.

    Attributes:
        value: k / n; None of nothing, as are the bounds.
        low, high: the interval; where it has one side only, the other end is 0 or 1.
        k, n: counts.
        side, confidence: what the bounds are.
    """

    value: float | None
    low: float | None
    high: float | None
    k: int
    n: int
    side: Side
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """`value, low, high, k, n`, and beside them what `describe_bounds` says."""
        words = describe_bounds(self.side, self.confidence, "exact, Clopper-Pearson; assumes independent images")
        return {"value": self.value, "low": self.low, "high": self.high, "k": self.k, "n": self.n} | words


def proportion(k: int, n: int, confidence: float = 0.95, side: Side = "two-sided") -> Proportion:
    """k of n with the exact interval of Clopper and Pearson, which covers the truth at least as often as it says.

    It assumes n independent images: photographs of one weld are not.

    Args:
        k: from 0 to n.
        n: 0 or more.
        confidence: above 0, below 1, of both sides together or of the one.
        side: `upper` bounds the truth from above only, `lower` from below only.

    Source:
        Clopper and Pearson, Biometrika 26 (1934): the bounds are quantiles of beta distributions.
    """
    assert 0 <= k <= n, (k, n)
    if n == 0:
        return Proportion(None, None, None, 0, 0, side, confidence)
    tail = (1 - confidence) / 2 if side == "two-sided" else 1 - confidence
    low = 0.0 if k == 0 or side == "upper" else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n or side == "lower" else float(betainccinv(k + 1, n - k, tail))
    return Proportion(k / n, low, high, k, n, side, confidence)


def describe_bounds(side: Side, confidence: float, method: str) -> dict[str, str]:
    """What `low` and `high` are, in words, under the key to stand beside them.

    Returns:
        One of `interval_is`, `high_is`, `low_is`, such as {"high_is": "one-sided 95 % upper bound (<method>)"}.
    """
    percent = f"{100 * confidence:g} %"
    if side == "two-sided":
        return {"interval_is": f"two-sided {percent} interval ({method})"}
    return {"high_is" if side == "upper" else "low_is": f"one-sided {percent} {side} bound ({method})"}


def needed_images(rate: float, confidence: float = 0.95) -> int:
    """The fewest images, all right, that show a rate of mistakes below `rate`: 29, 59, 299 for 0.10, 0.05, 0.01.

    With n of them the one-sided upper bound is `1 - (1 - confidence) ** (1 / n)`.

    Args:
        rate: above 0, below 1.
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def explain_shortage(n: int, rate: float, confidence: float = 0.95) -> str | None:
    """Why n images cannot show a rate of mistakes below `rate`, whatever the outcome; None where they can."""
    needed = needed_images(rate, confidence)
    if n >= needed:
        return None
    return (
        f"{n} images cannot show a rate below {rate:g} with {100 * confidence:g} % confidence, even without a mistake: "
        f"that takes {needed}, each of another weld"
    )
