"""The sentences of a report: what the classifier does, and how far to trust its figures."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from weldnet.errors import count
from weldnet.evaluation.decision import CAVEAT
from weldnet.evaluation.verdicts import NOT_CALIBRATED

Figures = Mapping[str, Any]

_UNIT = " %"
_SAME = 0.01
"""Balanced accuracies that differ by less are "about the same"."""

_NO_CAVEAT = "this holds for welds like these: many photographs of one weld prove less than as many welds"
_AT_MOST = "with 95 % confidence at most"
_IF_INDEPENDENT = "if every photograph showed a different weld"

_WELDS = {"known": "welds known from training", "unseen": "unseen welds"}

NAMES = {
    "train": "training images",
    "val": "validation images",
    "test": "test images",
    "all": "images of all splits",
}

CAVEATS = {
    "known": (
        "Validation holds welds that training has seen: its figures, the epoch, the temperature and the thresholds "
        "were chosen on easier images than a new weld gives."
    ),
    "unseen": (
        "Validation holds welds that training has not seen; they chose the epoch and the thresholds, so its figures "
        "are a little too good."
    ),
    "per_image": (
        "Every image was declared a weld of its own (data.group_by=per_image): if photographs share a weld, the "
        "figures are too good."
    ),
    "unknown": "It is unknown which photographs show one weld: if a weld is in two splits, the figures are too good.",
}
"""What each value of `validation_groups` means for the figures."""


def percent(value: float | None) -> str:
    """A share as `91.2 %`; only 1 becomes `100 %`, and only 0 becomes `0 %`."""
    if value is None:
        return "-"
    if value in (0, 1):
        return f"{100 * value:.0f}{_UNIT}"
    shown = f"{100 * value:.1f}"
    return {"100.0": ">99.9", "0.0": "<0.1"}.get(shown, shown) + _UNIT


def describe_range(low: float | None, high: float | None) -> str | None:
    """`80.1 to 95.0 %`; None without an interval."""
    return None if low is None or high is None else f"{percent(low).removesuffix(_UNIT)} to {percent(high)}"


def common_folder(paths: Iterable[str]) -> str:
    """The lowest folder that holds all files, with a separator at its end; empty without files."""
    folders = [os.path.dirname(path) for path in paths]
    return os.path.join(os.path.commonpath(folders), "") if folders else ""


def name_columns(report: Figures, has_validation: bool) -> list[tuple[str, str | None]]:
    """The headings for the report's images and its validation images: a name, and which welds they show if known."""
    groups, split = str(report.get("validation_groups")), str(report["split"])
    # The welds of other data were never compared with those of training.
    is_compared = has_validation and split == "test" and groups in _WELDS
    is_unseen = is_compared and not report["num_without_group"] and not report.get("leaks")
    columns = [(NAMES.get(split, split), _WELDS["unseen"] if is_unseen else None)]
    return [*columns, (NAMES["val"], _WELDS.get(groups))] if has_validation else columns


def summarise(report: Figures) -> list[str]:
    """Two paragraphs from the keys of `report.json`: what the classifier does, and how far to trust the figures."""
    figures = [_describe_accuracy(report), _describe_escapes(report), _describe_verdicts(report)]
    caveats = [*(_list_caveats(report) or [_NO_CAVEAT]), report.get("selection")]
    return [
        " ".join(f"{clause[:1].upper()}{clause[1:].rstrip('.')}." for clause in clauses if clause)
        for clauses in (figures, caveats)
    ]


def _describe_accuracy(report: Figures) -> str:
    num_welds, num_images, num_classes = report["num_groups"], report["num_images"], len(report["classes"])
    has_welds = not report["num_without_group"] and num_welds < num_images
    images = f"{num_images:,} {NAMES[report['split']]}" if report["split"] in NAMES else count(num_images, "image")
    welds = f" of {count(num_welds, 'weld')}" if has_welds else ""
    figure = report["by_group"]["balanced_accuracy"]
    interval = ""
    if bounds := describe_range(figure["low"], figure["high"]):
        interval = f" (95 % interval over {'welds' if has_welds else 'images'}: {bounds})"
    elif has_welds:
        interval = f" (no interval: {figure['reason'].partition(':')[0].replace('group', 'weld')})"
    num_measured = num_classes - len(report["not_measured"])
    classes = f" over the {num_measured} of {num_classes} classes in it" if num_measured < num_classes else ""
    value = percent(report["balanced_accuracy"])
    return f"on {images}{welds} the classifier has a balanced accuracy of {value}{interval}{classes}"


def _describe_escapes(report: Figures) -> str:
    escapes = report["escapes"]
    if escapes is None:
        return "no class of sound welds is named, so escapes cannot be counted"
    if not escapes["n"]:
        return "no defect is among them"
    bound, basis = escapes["high"], _IF_INDEPENDENT
    by_weld = report["by_group"]["escapes"]["high"]
    if by_weld is not None and by_weld > bound and not report["num_without_group"]:
        bound, basis = by_weld, "over welds"
    return (
        f"{escapes['k']:,} of {count(escapes['n'], 'defect')} would have been called good "
        f"({percent(escapes['value'])}; {_AT_MOST} {percent(bound)}, {basis})"
    )


def _describe_verdicts(report: Figures) -> str:
    if report["verdicts"] is None:
        return "it has no thresholds, so every photograph is referred to an inspector"
    rows = report["verdicts"]["photographs"]
    accepted, rejected, referred = (percent(rows[name]["value"]) for name in ("accept", "reject", "refer"))
    escapes, accepted_defects = rows["escapes"], ""
    if escapes["n"]:
        bound = f"{_AT_MOST} {percent(escapes['high'])}, {_IF_INDEPENDENT}"
        accepted_defects = f"; {escapes['k']:,} of {count(escapes['n'], 'defect')} would have been accepted ({bound})"
    return (
        f"by its thresholds it accepts {accepted}, rejects {rejected} and refers {referred} of the photographs"
        f"{accepted_defects}"
    )


def _list_caveats(report: Figures) -> list[str]:
    """The reasons to trust the figures more or less than they look."""
    num_seen, split = report.get("num_trained_on") or 0, report["split"]
    clauses = []
    if report.get("leaks"):
        clauses.append("LEAK: these data hold the same welds or pictures on both sides, so the figures measure memory")
    elif num_seen:
        share = "all" if num_seen == report["num_images"] else f"{num_seen:,}"
        clauses.append(f"the network was trained on {share} of these images, so the figures measure memory")
    if split in ("val", "all"):
        clauses.append("validation images chose the epoch, temperature and thresholds, so their figures are too good")
    groups, validation = str(report.get("validation_groups")), None if split == "val" else report.get("validation")
    if validation:
        clauses += _compare_with_validation(report, validation["balanced_accuracy"], groups)
    if groups in CAVEATS and groups != "unseen" and not (groups == "known" and validation):
        clauses.append(CAVEATS[groups])
    return clauses + [text for text in report["statements"] if text not in (CAVEAT, NOT_CALIBRATED)]


def _compare_with_validation(report: Figures, value: float, groups: str) -> list[str]:
    gap = value - report["balanced_accuracy"]
    welds = f", which show {_WELDS[groups]}," if groups in _WELDS else ""
    points = f"{100 * abs(gap):.1f} points {'higher' if gap > 0 else 'lower'}"
    clauses = [
        f"on the validation images{welds} it is {percent(value)}, {points if abs(gap) >= _SAME else 'about the same'}"
    ]
    if gap >= _SAME and groups == "known" and report["split"] == "test" and not report.get("leaks"):
        clauses.append("expect the lower figure on new welds")
    return clauses
