"""Single files: what cannot be read, endings that lie, pictures that show nothing, values that a window would hide."""

import math
import os

import polars as pl

from weldnet.audit.findings import Finding
from weldnet.data.decode.pictures import Window
from weldnet.data.decode.signatures import FORMAT_ENDINGS

CLIPPED_SHARE = 0.5
"""A picture is clipped when more than this share of its pixels is black or white to the last bit."""

_FLAT = 1.0
_DARK_SHARE = 1 / 8


def check_files(facts: pl.DataFrame, window: Window) -> list[Finding]:
    """`unreadable`, `damaged`, `wrong_extension`, `constant`, `clipped`, `multi_page` and `bit_depth`.

    Args:
        facts: table of `weldnet.audit.facts.read_facts`.
        window: the one that training would use.
    """
    unreadable = [
        Finding("damaged" if damaged else "unreadable", "error", (path,), reason)
        for path, reason, damaged in facts.drop_nulls("reason").select("path", "reason", "damaged").iter_rows()
    ]
    readable = facts.filter(pl.col("reason").is_null())
    return [
        *unreadable,
        *_check_endings(readable),
        *_check_contrast(readable, window),
        *_check_pages(readable),
        *_check_depths(readable, window),
    ]


def _check_endings(readable: pl.DataFrame) -> list[Finding]:
    kinds = {ending: kind for kind, endings in FORMAT_ENDINGS.items() for ending in endings}
    findings = []
    for path, kind in readable.select("path", "format").iter_rows():
        ending = os.path.splitext(path)[1].lower()
        # An ending that names no format, or none at all, does not lie.
        if kinds.get(ending, kind) != kind:
            detail = f"the name ends in {ending}, the content is {kind}"
            findings.append(Finding("wrong_extension", "warning", (path,), detail))
    return findings


def shows_something(window: Window) -> pl.Expr:
    """Whether a picture can be told from another: it is neither of one colour nor hidden by the window."""
    return pl.col("reason").is_null() & ~_is_constant() & ~_is_dark(window)


def _is_dark(window: Window) -> pl.Expr:
    """Whether an image of more than 8 bits uses so little of its range that it would be nearly one grey."""
    if window != "full":
        return pl.lit(False)
    # Colour of 16 bits is read by its high bytes, from 0 to 255.
    little = pl.col("high") - pl.col("low") < _DARK_SHARE * pl.col("range").fill_null(255)
    return (pl.col("bits") > 8) & little.fill_null(False)


def _is_constant() -> pl.Expr:
    # Many grey levels can come out as one where the window hides them; the stored values tell.
    return (pl.col("deviation") < _FLAT) & ((pl.col("bits") <= 8) | (pl.col("low") == pl.col("high")))


def _check_contrast(readable: pl.DataFrame, window: Window) -> list[Finding]:
    constant = [
        Finding("constant", "warning", (path,), f"every pixel is about {mean:.0f} of 255")
        for path, mean in readable.filter(_is_constant()).select("path", "mean").iter_rows()
    ]
    clipped = readable.filter(
        pl.col("black") + pl.col("white") > CLIPPED_SHARE, ~_is_constant(), ~_is_dark(window)
    ).select("path", "black", "white")
    return constant + [
        Finding("clipped", "warning", (path,), f"{black:.0%} of the pixels are 0 and {white:.0%} are 255")
        for path, black, white in clipped.iter_rows()
    ]


def _check_pages(readable: pl.DataFrame) -> list[Finding]:
    return [
        Finding("multi_page", "note", (path,), f"{pages} pages; only the first is used")
        for path, pages in readable.filter(pl.col("pages") > 1).select("path", "pages").iter_rows()
    ]


def _check_depths(readable: pl.DataFrame, window: Window) -> list[Finding]:
    findings = []
    # One bit or a palette comes out as 8 bits in the same way.
    depths = readable.select("path", bits=pl.col("bits").clip(lower_bound=8))
    counts = depths["bits"].value_counts(sort=True)
    if len(counts) > 1:
        rare = depths.filter(pl.col("bits") != counts["bits"][0])
        what = " and ".join(f"{number} of {bits} bits" for bits, number in counts.iter_rows())
        detail = f"images of several bit depths: {what}; one window serves them all"
        findings.append(Finding("bit_depth", "note", tuple(rare["path"]), detail))
    dark = readable.filter(_is_dark(window) & ~_is_constant())
    if len(dark):
        lowest, highest = float(dark["low"].min()), float(dark["high"].max())  # type: ignore[arg-type]
        greys = max(2, math.ceil((highest - lowest) / float(dark["range"].max()) * 256))  # type: ignore[arg-type]
        detail = (
            f"{len(dark)} image{'s' * (len(dark) > 1)} of more than 8 bits with stored values from {lowest:g} to "
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
