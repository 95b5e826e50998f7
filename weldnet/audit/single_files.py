"""Single files: what cannot be read, wrong endings, pictures that show nothing, values that a window would hide."""

import math

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
