"""The words of a report: shares, paths, which images and which welds its figures are of."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

Figures = Mapping[str, Any]

_SAME = 0.01
"""Balanced accuracies that differ by less are "about the same"."""

_WELDS = {"known": "welds known from training", "unseen": "unseen welds"}

NAMES = {
    "train": "training images",
    "val": "validation images",
    "test": "test images",
    "all": "images of all splits",
}


def percent(value: float | None) -> str:
    """A share as `91.2 %`; only 1 becomes `100 %`, and only 0 becomes `0 %`."""
    if value is None:
        return "-"
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    shown = f"{100 * value:.1f}"
    return {"100.0": ">99.9", "0.0": "<0.1"}.get(shown, shown) + " %"


def show_number(value: float | None, form: str = "z.4f") -> str:
    """A figure with a true minus sign; `-` for none."""
    return "-" if value is None else f"{value:{form}}".replace("-", "\u2212")


def capitalize(text: str) -> str:
    """A clause as a sentence; a key or a path that it begins with, and a colon that it ends with, stay."""
    first = text[0].upper() if text.partition(" ")[0].rstrip(",:").isalpha() else text[0]
    return f"{first}{text[1:].rstrip('.')}{'' if text.endswith(':') else '.'}"


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


def compare_with_validation(report: Figures) -> str:
    """How the validation images differ, and which figure to expect; empty where there are none."""
    validation, groups, split = report.get("validation"), str(report.get("validation_groups")), report["split"]
    if not validation or split == "val":
        return ""
    gap = validation["balanced_accuracy"] - report["balanced_accuracy"]
    points = f"{100 * abs(gap):.1f} points {'higher' if gap > 0 else 'lower'} than"
    welds = f", which show {_WELDS[groups]}," if groups in _WELDS else ""
    is_less = gap >= _SAME and groups == "known" and split == "test" and not report.get("leaks")
    return (
        f"On the validation images{welds} the balanced accuracy is "
        f"{points if abs(gap) >= _SAME else 'about the same as'} on the {NAMES.get(split, split)}."
        f"{' Expect the lower figure on new welds.' if is_less else ''}"
    )
