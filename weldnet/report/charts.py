"""Figures of images and results, without a display: saved as PNG, or set into a page in the page's own colours."""

import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from weldnet.evaluation.metrics import BY_GROUP
from weldnet.files import replace_file
from weldnet.spelling import make_visible

# Okabe and Ito's colours, which colour-blind people can distinguish on light and dark backgrounds.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#8c8c8c"
Floats = NDArray[np.float64]

_INK = "#010203"
"""Black that no picture has by chance: in the page it becomes the colour of the text."""

_OUTSIDE = {"loc": "outside upper right", "ncols": 2}
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), _GREY),
    **dict.fromkeys(("figure.constrained_layout.use", "axes.grid", "axes.axisbelow"), True),
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
}
_TICK_COLUMNS = 28
"""Letters of a line beside an axis, where even the widest fit into the figure."""


def draw_charts(report: Mapping[str, Any]) -> dict[str, Figure]:
    """`reliability`, `per_class` and, where there is a curve to draw, `referral` and `history`, from `report.json`."""
    with matplotlib.rc_context(_STYLE):
        charts = {"reliability": draw_reliability(report["calibration"]), "per_class": draw_classes(report)}
        curve = report["referral_curve"]
        if curve and report["good_classes"] and curve["escape_rate"] and curve["escape_rate"][0] is not None:
            charts["referral"] = draw_referral(curve, report["operating_point"], report["verdicts"]["photographs"])
        if report.get("history"):
            charts |= draw_history(report["history"], report["provenance"]["trained_epochs"])
    return charts


def draw_reliability(calibration: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence in bins, before and after the temperature, and how many images each bin holds."""
    figure = Figure(figsize=(5.2, 5.2))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="perfect calibration")
    every = calibration["after"]["bins"]
    before, after = (
        [each for each in calibration[key]["bins"] if each["accuracy"]["n"]] for key in ("before", "after")
    )
    if calibration["temperature"] != 1:
        points = [(each["mean_confidence"], each["accuracy"]["value"]) for each in before]
        axes.plot(*zip(*points, strict=True), "o", mfc="none", color=_ORANGE, label="before the temperature")
    x = [each["mean_confidence"] for each in after]
    y, bars = _collect([each["accuracy"] for each in after])
    axes.errorbar(x, y, bars, fmt="s", color=_BLUE, elinewidth=1, capsize=2, label="as in use, exact 95 %")
    axes.set(ylabel="share that is right", xlim=(0, 1), ylim=(-0.02, 1.02))
    figure.legend(**_OUTSIDE | {"ncols": 3})
    edges = [each["low"] for each in every] + [1.0]
    counts.stairs([each["accuracy"]["n"] for each in every], edges, fill=True, color=_BLUE, alpha=0.7)
    counts.set(xlabel="probability of the predicted class", ylabel="images")
    return figure


def draw_referral(curve: Mapping[str, Any], point: Mapping[str, Any], rows: Mapping[str, Any]) -> Figure:
    """The share of defects that is accepted against the share of photographs that an inspector must check."""
    figure = Figure(figsize=(5.2, 4.0))
    axes = figure.subplots()
    referred, escaping = curve["share_referred"], curve["escape_rate"]
    axes.step(referred, escaping, where="pre", color=_BLUE, label="lower threshold")
    target = point["max_escape_rate"]
    axes.axhline(target, color=_GREY, linewidth=1, linestyle="--", label=f"target {100 * target:g} %")
    if point["accept_above"] is not None:
        in_use = rows["refer"]["value"], rows["escapes"]["value"]
        axes.plot(*in_use, "D", color=_ORANGE, label="the threshold in use")
    axes.set(xlabel="photographs referred to an inspector", ylabel="defects accepted", xlim=(-0.01, 1.01))
    axes.set_ylim(0, max(1.08 * max(escaping), 2 * target))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper right")
    return figure


def draw_history(history: Sequence[Mapping[str, float | None]], kept: int) -> dict[str, Figure]:
    """The learning curves of loss and balanced accuracy, from `inference.history`; `kept` is the epoch tested."""
    curves = {
        "loss": ("train/loss_epoch", "val/loss"),
        "balanced_accuracy": ("train/balanced_accuracy", "val/balanced_accuracy", f"val/{BY_GROUP}"),
    }
    lines = (
        ("training, augmented", "o", _BLUE),
        ("validation", "s", _ORANGE),
        ("validation, mean over welds", "^", _GREEN),
    )
    charts = {}
    for name, keys in curves.items():
        figure = charts[f"history_{name}"] = Figure(figsize=(5.2, 3.6))
        axes = figure.subplots()
        for key, (label, mark, colour) in zip(keys, lines, strict=False):
            points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), f"-{mark}", color=colour, label=label, linewidth=1, markersize=3)
        axes.axvline(kept, color=_GREY, linewidth=1, linestyle="--", label=f"epoch {kept}, which was tested")
        axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(**_OUTSIDE)
    return charts


def draw_classes(report: Mapping[str, Any]) -> Figure:
    """The recall of each class that has images, with its exact interval and, where there is one, that over welds."""
    names = [name for name in report["classes"] if name not in report["not_measured"]]
    labels = [textwrap.fill(make_visible(name), _TICK_COLUMNS) for name in names]
    most_lines = max(label.count("\n") + 1 for label in labels)
    row = max(0.32 if len(names) <= 20 else 0.22, 0.18 * most_lines)
    figure = Figure(figsize=(6.4, 1.1 + row * len(names)))
    axes = figure.subplots()
    rows = ((-0.12, _BLUE, "o", "exact 95 %", "proportions"), (0.18, _ORANGE, "s", "over welds 95 %", "by_group"))
    for shift, colour, mark, label, key in rows:
        found = {i + shift: report[key][f"recall/{name}"] for i, name in enumerate(names)}
        known = {y: each for y, each in found.items() if each["low"] is not None}
        if known:
            value, bars = _collect(known.values())
            axes.errorbar(value, list(known), xerr=bars, fmt=mark, markersize=4, color=colour, capsize=2, label=label)
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.set(xlabel="recall", xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(**_OUTSIDE)
    return figure


def _collect(rows: Iterable[Mapping[str, Any]]) -> tuple[Floats, Floats]:
    """The values (N,) of figures with intervals, and the lengths of their error bars (2, N)."""
    value, low, high = np.array([[row[key] for key in ("value", "low", "high")] for row in rows]).T
    return value, np.maximum([value - low, high - value], 0)


def save_chart(figure: Figure, file: Path) -> None:
    """Writes a PNG, all or nothing."""
    with replace_file(file) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def embed_chart(figure: Figure, name: str) -> Markup:
    """The figure as an SVG element in the colour of the text around it; `name` keeps its ids apart from others'."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    # HTML needs no namespaces.
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    # matplotlib escapes the names of classes: what it writes is safe.
    return Markup(text.replace(_INK, "currentColor"))
