"""Exact intervals of proportions, k of n, and how many images it takes to show a rate."""

import math
from typing import Any, Literal

from scipy.special import betainccinv, betaincinv

Side = Literal["two-sided", "upper", "lower"]


def proportion(k: int, n: int, confidence: float = 0.95, side: Side = "two-sided") -> dict[str, Any]:
    """k of n with the exact interval of Clopper and Pearson, whose coverage is at least its confidence.

    It assumes n independent images: photographs of one weld are not. Clopper and Pearson, Biometrika 26 (1934): the
    bounds are quantiles of beta distributions.

    Args:
        side: `upper` bounds the truth from above only, and `low` is 0; `lower` from below only, and `high` is 1.

    Returns:
        `value` (k / n), `low`, `high`, all None for n = 0; `k`, `n`; and the keys of `describe_bounds`.
    """
    assert 0 <= k <= n, (k, n)
    value, low, high = None, None, None
    if n:
        tail = (1 - confidence) / 2 if side == "two-sided" else 1 - confidence
        value = k / n
        low = 0.0 if k == 0 or side == "upper" else float(betaincinv(k, n - k + 1, tail))
        high = 1.0 if k == n or side == "lower" else float(betainccinv(k + 1, n - k, tail))
    description = describe_bounds(side, confidence, "exact, Clopper-Pearson; assumes independent images")
    return {"value": value, "low": low, "high": high, "k": k, "n": n} | description


def describe_bounds(side: Side, confidence: float, method: str) -> dict[str, str]:
    """What `low` and `high` are, in words: `interval_is`, or `high_is` or `low_is` where one is the only bound."""
    percent = f"{100 * confidence:g} %"
    if side == "two-sided":
        return {"interval_is": f"two-sided {percent} interval ({method})"}
    return {"high_is" if side == "upper" else "low_is": f"one-sided {percent} {side} bound ({method})"}


def needed_images(rate: float, confidence: float = 0.95) -> int:
    """The fewest images, all right, that show a rate of mistakes below `rate`: 29, 59, 299 for 0.10, 0.05, 0.01.

    With n of them the one-sided upper bound is `1 - (1 - confidence) ** (1 / n)`.
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))
