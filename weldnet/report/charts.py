"""The figures of a report: each drawn once, saved as PNG and set into the page in the page's own colours."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from weldnet.files import replace_file
from weldnet.report.kinds import make_visible

# Okabe and Ito's colours, told apart by colour-blind people; light and dark grounds both carry them.
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#8c8c8c"
_INK = "#010203"
"""Black that no picture has by chance: in the page it becomes the colour of the text."""

_DPI = 130
_NAME = 28


def draw_charts(report: Mapping[str, Any]) -> dict[str, Figure]:
    """`reliability`, `per_class` and, where there is a curve to draw, `referral`.

    Args:
        report: the keys of `report.json`.
    """
    with matplotlib.rc_context(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)):
        charts = {"reliability": draw_reliability(report["calibration"]), "per_class": draw_classes(report)}
        curve = report["referral_curve"]
        if curve and report["good_classes"] and curve["escape_rate"] and curve["escape_rate"][0] is not None:
            charts["referral"] = draw_referral(curve, report["operating_point"], report["verdicts"]["photographs"])
    return charts


def draw_reliability(calibration: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence in bins, before and after the temperature, and how many images each bin holds."""
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="as certain as right")
    before, after = (
        [each for each in calibration[key]["bins"] if each["accuracy"]["n"]] for key in ("before", "after")
    )
    if calibration["temperature"] != 1:
        points = [(each["mean_confidence"], each["accuracy"]["value"]) for each in before]
        axes.plot(*zip(*points, strict=True), "o", mfc="none", color=_ORANGE, label="before the temperature")
    x = np.array([each["mean_confidence"] for each in after])
    y, low, high = (np.array([each["accuracy"][key] for each in after]) for key in ("value", "low", "high"))
    bars = np.maximum([y - low, high - y], 0)
    axes.errorbar(x, y, bars, fmt="s", color=_BLUE, elinewidth=1, capsize=2, label="as in use, exact 95 %")
    axes.set(ylabel="share that is right", xlim=(0, 1), ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=3)
    every = calibration["after"]["bins"]
    edges = [each["low"] for each in every] + [1.0]
    counts.stairs([each["accuracy"]["n"] for each in every], edges, fill=True, color=_BLUE, alpha=0.7)
    counts.set(xlabel="probability of the class it is called", ylabel="images")
    _style(axes, counts)
    return figure


def draw_referral(curve: Mapping[str, Any], point: Mapping[str, Any], rows: Mapping[str, Any]) -> Figure:
    """The share of defects that is accepted against the share of photographs that an inspector must look at."""
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.subplots()
    referred, escaping = curve["share_referred"], curve["escape_rate"]
    axes.step(referred, escaping, where="pre", color=_BLUE, label="as the accept threshold falls")
    target = point["max_escape_rate"]
    axes.axhline(target, color=_GREY, linewidth=1, linestyle="--", label=f"target {100 * target:g} %")
    if point["accept_above"] is not None:
        here = rows["refer"]["value"], rows["escapes"]["value"]
        axes.plot(*here, "D", color=_ORANGE, label="the threshold in use")
    axes.set(xlabel="photographs referred to an inspector", ylabel="defects accepted", xlim=(-0.01, 1.01))
    axes.set_ylim(0, max(1.08 * max(escaping), 2 * target))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    _style(axes)
    return figure


def draw_classes(report: Mapping[str, Any]) -> Figure:
    """The recall of each class that has images, with its exact interval and, where there is one, that over welds."""
    names = [name for name in report["classes"] if name not in report["not_measured"]]
    figure = Figure(figsize=(6.4, 1.1 + (0.32 if len(names) <= 20 else 0.22) * len(names)), layout="constrained")
    axes = figure.subplots()
    rows = ((-0.12, _BLUE, "o", "exact 95 %", "proportions"), (0.18, _ORANGE, "s", "over welds 95 %", "by_group"))
    for shift, colour, mark, label, key in rows:
        found = [report[key][f"recall/{name}"] for name in names]
        places = [i for i, each in enumerate(found) if each["low"] is not None]
        if places:
            value, low, high = (np.array([found[i][end] for i in places]) for end in ("value", "low", "high"))
            bars, heights = np.maximum([value - low, high - value], 0), np.array(places) + shift
            axes.errorbar(value, heights, xerr=bars, fmt=mark, markersize=4, color=colour, capsize=2, label=label)
    axes.set_yticks(range(len(names)), [_shorten(name) for name in names], parse_math=False)
    axes.set(xlabel="recall", xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=2)
    _style(axes)
    return figure


def _style(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GREY)
        axes.grid(color=_GREY, alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)


def _shorten(name: str) -> str:
    shown = make_visible(name)
    return shown if len(shown) <= _NAME else f"{shown[: _NAME - 1]}…"


def save_chart(figure: Figure, file: Path) -> None:
    """Writes a PNG, all or nothing."""
    with replace_file(file) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")


def embed_chart(figure: Figure, name: str) -> Markup:
    """The figure as an SVG element in the colour of the text around it.

    Args:
        name: goes before its ids, which are otherwise the same in every figure.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    # matplotlib escapes the names of classes: what it writes is safe.
    return Markup(text.replace(_INK, "currentColor"))
