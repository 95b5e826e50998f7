"""Single photographs: what cannot be read, shows nothing or is hidden by the window; what differs from its set."""

import math
from typing import NamedTuple

import polars as pl

from weldnet.audit.findings import Finding, Severity
from weldnet.data.decode.pictures import Window
from weldnet.data.decode.signatures import FORMAT_ENDINGS
from weldnet.errors import count

CLIPPED_SHARE = 0.5
"""A picture is clipped when more than this share of its pixels is black or white to the last bit."""

_FLAT = 1.0
_DARK_SHARE = 1 / 8

# As os.path.splitext gives it, in lower case. An ending that names no format is not wrong.
_ENDING = pl.col("path").str.to_lowercase().str.extract(r"[^/.][^/]*(\.[^/.]*)$")
_FORMATS = {ending: kind for kind, endings in FORMAT_ENDINGS.items() for ending in endings}

FEWEST_PHOTOGRAPHS = 20
"""Fewer have no usual value to compare with."""

_NOISE = 0.6
"""Of 8/9, the sharpness of pure noise. The grainiest of 3,229 real photographs has 0.34."""

_NOT_0 = 1e-6

_SIZE = (pl.col("width"), pl.col("height"))
_FINE = ((pl.col("sharpness") * 100).round(2),)


def check_files(facts: pl.DataFrame, window: Window) -> list[Finding]:
    """`unreadable`, `damaged`, `wrong_extension`, `constant`, `clipped`, `multi_page` and `bit_depth`."""
    black, white = (pl.col(name).mul(100).round().cast(pl.Int64) for name in ("black", "white"))
    grey = pl.col("mean").round().cast(pl.Int64)
    checks: tuple[tuple[str, Severity, pl.Expr, pl.Expr], ...] = (
        ("damaged", "error", pl.col("damaged"), pl.col("reason")),
        ("unreadable", "error", pl.col("reason").is_not_null() & pl.col("damaged").is_null(), pl.col("reason")),
        (
            "wrong_extension",
            "warning",
            _ENDING.replace_strict(_FORMATS, default=None) != pl.col("format"),
            pl.format("the name ends in {}, the content is {}", _ENDING, "format"),
        ),
        ("constant", "warning", _is_constant(), pl.format("every pixel is about {} of 255", grey)),
        (
            "clipped",
            "warning",
            is_clipped() & ~_is_constant() & ~_is_dark(window),
            pl.format("{}% of the pixels are 0 and {}% are 255", black, white),
        ),
        ("multi_page", "note", pl.col("pages") > 1, pl.format("{} pages; only the first is used", "pages")),
    )
    findings = [
        Finding(kind, severity, (path,), detail)
        for kind, severity, is_found, sentence in checks
        for path, detail in facts.filter(is_found).select("path", sentence.alias("detail")).iter_rows()
    ]
    return findings + _check_depths(facts.filter(pl.col("reason").is_null()), window)


def shows_something(window: Window) -> pl.Expr:
    """Whether a picture can be distinguished from others: it is neither of one colour nor hidden by the window."""
    return pl.col("reason").is_null() & ~_is_constant() & ~_is_dark(window)


def is_clipped() -> pl.Expr:
    """Whether most pixels are pure black or pure white."""
    return pl.col("black") + pl.col("white") > CLIPPED_SHARE


def _is_dark(window: Window) -> pl.Expr:
    """Whether an image of more than 8 bits uses so little of its range that it would be nearly one grey."""
    if window != "full":
        return pl.lit(False)
    # Colour of 16 bits is read by its high bytes, from 0 to 255.
    little = pl.col("high") - pl.col("low") < _DARK_SHARE * pl.col("range").fill_null(255)
    return (pl.col("bits") > 8) & little.fill_null(False)


def _is_constant() -> pl.Expr:
    # A window can turn many stored levels into one grey, so the stored values decide.
    return (pl.col("deviation") < _FLAT) & ((pl.col("bits") <= 8) | (pl.col("low") == pl.col("high")))


def _check_depths(readable: pl.DataFrame, window: Window) -> list[Finding]:
    findings = []
    # One bit or a palette becomes 8 bits like the rest.
    depths = readable.select("path", bits=pl.col("bits").clip(lower_bound=8))
    counts = depths["bits"].value_counts(sort=True)
    if len(counts) > 1:
        rare = depths.filter(pl.col("bits") != counts["bits"][0])
        depths_found = " and ".join(f"{number} of {bits} bits" for bits, number in counts.iter_rows())
        detail = f"images of several bit depths: {depths_found}; one window serves them all"
        findings.append(Finding("bit_depth", "note", tuple(rare["path"]), detail))
    dark = readable.filter(_is_dark(window) & ~_is_constant())
    if len(dark):
        lowest, highest = float(dark["low"].min()), float(dark["high"].max())  # type: ignore[arg-type]
        greys = max(2, math.ceil((highest - lowest) / float(dark["range"].max()) * 256))  # type: ignore[arg-type]
        detail = (
            f"{count(len(dark), 'image')} of more than 8 bits with stored values from {lowest:g} to "
            f"{highest:g} only: data.window=full shows them in {greys} of 256 greys; "
            f"type data.window={_choose_window(lowest, highest)}"
        )
        findings.append(Finding("bit_depth", "warning", tuple(dark["path"]), detail))
    return findings


def _choose_window(lowest: float, highest: float) -> str:
    """From 0 to what a camera of so many bits gives, or the values themselves where they lie far from 0."""
    if 0 <= lowest <= highest / 2:
        return f"[0,{2 ** max(8, math.ceil(math.log2(highest + 1))) - 1}]"
    return f"[{math.floor(lowest)},{math.ceil(highest)}]"


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
