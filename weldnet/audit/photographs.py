"""Bad photographs: much darker, brighter, softer or smaller than the others of their set, or noise."""

import math
from typing import NamedTuple

import polars as pl

from weldnet.audit.findings import Finding
from weldnet.audit.single_files import is_clipped, shows_something
from weldnet.data.decode.pictures import Window

FEWEST_PHOTOGRAPHS = 20
"""Fewer have no usual value to compare with."""

_NOISE = 0.6
"""Of 8/9, the sharpness of pure noise. The grainiest of 3,229 real photographs has 0.34."""

_NOT_0 = 1e-6


class Check(NamedTuple):
    """A photograph is found where its value is far below the median of its set and of its class.

    Attributes:
        value: above 0.
        factor: how many times the median must be larger, at least.
        spreads: and by how many robust standard deviations of the logarithm.
        shown: what the sentence shows of the photograph; then it shows their medians in its class.
        sentence: for `pl.format`.
        extra: what must hold besides.
    """

    kind: str
    value: pl.Expr
    factor: float
    spreads: float
    shown: tuple[pl.Expr, ...]
    sentence: str
    extra: pl.Expr = pl.lit(True)


_SIZE = (pl.col("width"), pl.col("height"))
_FINE = ((pl.col("sharpness") * 100).round(2),)

# The figures behind the factors are in docs/guide.md. Sizes differ too much within a class for their spread to count.
_CHECKS = (
    Check(
        "dark",
        pl.col("lights") + 1,
        4,
        5,
        (pl.col("lights"),),
        "95% of its pixels are at most {} of 255; usual: {}",
    ),
    Check(
        "bright",
        256 - pl.col("shadows"),
        4,
        5,
        (pl.col("shadows"),),
        "95% of its pixels are at least {} of 255; usual: {}",
    ),
    Check(
        "blurred",
        pl.col("sharpness") + _NOT_0,
        8,
        4,
        _FINE,
        "its finest detail is {}% of its contrast; usual: {}%",
    ),
    Check("tiny", (_SIZE[0] * _SIZE[1]).sqrt(), 4, 0, _SIZE, "{} x {} pixels; usual: {} x {}"),
    Check(
        "noise",
        1 / (pl.col("sharpness") + _NOT_0),
        3,
        3,
        _FINE,
        "its finest grain is {}% of its contrast, in pure noise it is 89%; usual: {}%",
        pl.col("sharpness") > _NOISE,
    ),
)


def check_photographs(images: pl.DataFrame, window: Window) -> list[Finding]:
    """`dark`, `bright`, `blurred`, `tiny` and `noise`, each relative to the set and to the photograph's own class.

    So neither a dark set nor a class whose defect is smooth is found, and nothing in fewer than `FEWEST_PHOTOGRAPHS`.
    """
    shown = images.filter(shows_something(window) & ~is_clipped())
    if len(shown) < FEWEST_PHOTOGRAPHS:
        return []
    findings = []
    for check in _CHECKS:
        usual = [each.median().over("label").round(2) for each in check.shown]
        sentence = pl.format(check.sentence, *check.shown, *usual).str.replace_all(r"\.0\b", "")
        described = shown.with_columns(detail=sentence)
        found = described.filter(_is_low(check.value.log(), check.factor, check.spreads) & check.extra)
        findings += [
            Finding(check.kind, "warning", (path,), detail) for path, detail in found["path", "detail"].iter_rows()
        ]
    return findings


def _is_low(value: pl.Expr, factor: float, spreads: float) -> pl.Expr:
    """Whether a logarithm is far below the median of the set and that of the class."""

    def is_below(over: pl.Expr) -> pl.Expr:
        distance = value - value.median().over(over)
        # The median distance of a normal distribution is 0.67 standard deviations.
        spread = 1.4826 * distance.abs().median().over(over)
        return distance < -pl.max_horizontal(math.log(factor), spreads * spread)

    return is_below(pl.lit(0)) & is_below(pl.col("label"))
