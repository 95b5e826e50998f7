"""The sentences of a report: what the classifier does, and what that is worth."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from weldnet.evaluation.assessment import UNCERTIFIED
from weldnet.evaluation.decision import CAVEAT

Figures = Mapping[str, Any]

_UNIT = " %"
_SAME = 0.01
"""Balanced accuracies that differ by less are called the same."""

_ELSE = "that holds for welds like these: photographs of one weld tell less than as many welds"

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
        "Every image was declared a weld of its own (data.groups=per_image): if photographs share a weld, the figures "
        "are too good."
    ),
    "unknown": "Nothing says which photographs show one weld: if a weld is in two splits, the figures are too good.",
}
"""What `validation_groups` means for the figures."""


def percent(value: float | None) -> str:
    """`91.2 %`; nothing but all is 100 % and nothing but none is 0 %."""
    if value is None:
        return "-"
    shown = f"{100 * value:.1f}"
    if shown == "100.0" and value < 1:
        shown = ">99.9"
    if shown == "0.0" and value > 0:
        shown = "<0.1"
    return f"{f'{value:.0%}'[:-1] if value in (0, 1) else shown}{_UNIT}"


def describe_range(low: float | None, high: float | None) -> str | None:
    """`80.1 to 95.0 %`; None without an interval."""
    if low is None or high is None:
        return None
    return f"{percent(low).removesuffix(_UNIT)} to {percent(high)}"


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`, `1,000 errors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def common_folder(paths: Iterable[str]) -> str:
    """The folder that all files lie below, with a separator at its end."""
    return os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")


def summarise(report: Figures) -> list[str]:
    """Two sentences: what the classifier does on these images, and what that is worth.

    Args:
        report: the keys of `report.json`.
    """
    return [_end("; ".join(_say_figures(report))), _end("; ".join(_say_worth(report)))]


def name_columns(report: Figures, has_validation: bool) -> list[tuple[str, str | None]]:
    """What the images of the report, and of its validation, are, and which welds they show; None where unsure."""
    groups = report.get("validation_groups")
    # Of other data than the training's nobody has compared the welds.
    own = has_validation and not report["num_without_group"]
    unseen = own and report["split"] == "test" and groups in ("known", "unseen") and not report.get("leaks")
    split = str(report["split"])
    shown = {"known": "welds known from training", "unseen": "unseen welds"}.get(str(groups))
    return [
        (NAMES.get(split, split), "unseen welds" if unseen else None),
        *([(NAMES["val"], shown)] if has_validation else []),
    ]


def _end(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _say_figures(report: Figures) -> list[str]:
    return [_say_accuracy(report), *_say_escapes(report), *_say_verdicts(report)]


def _say_accuracy(report: Figures) -> str:
    num_groups, lacking = report["num_groups"], report["num_without_group"]
    own = not lacking and num_groups < report["num_images"]
    where = count(report["num_images"], "image") if report["split"] not in NAMES else ""
    where = where or f"{report['num_images']:,} {NAMES[report['split']]}"
    welds = f" of {count(num_groups, 'weld')}" if own else ""
    found = report["by_group"]["balanced_accuracy"]
    interval = describe_range(found["low"], found["high"])
    if interval:
        bounds = f" (95 % interval over {'welds' if own else 'images'}: {interval})"
    elif own and found["num_resamples"]:
        bounds = f" (no interval: {found['reason']})"
    elif own:
        bounds = f" (no interval: {count(num_groups, 'weld')} {'is' if num_groups == 1 else 'are'} too few)"
    else:
        bounds = ""
    absent = len(report["not_measured"])
    over = f" over the {len(report['classes']) - absent} of {len(report['classes'])} classes in it" if absent else ""
    return (
        f"on {where}{welds} the classifier has a balanced accuracy of {percent(report['balanced_accuracy'])}{bounds}"
        f"{over}"
    )


def _say_escapes(report: Figures) -> list[str]:
    found = report["escapes"]
    if found is None or not found["n"]:
        return [
            "no class of sound welds is named, so escapes cannot be counted"
            if found is None
            else "no defect is among them"
        ]
    by_group = report["by_group"]["escapes"]["high"]
    bound, why = found["high"], "assumes independent images"
    if by_group is not None and by_group > bound and not report["num_without_group"]:
        bound, why = by_group, "over welds"
    return [
        f"it calls {found['k']:,} of {count(found['n'], 'defect')} sound ({percent(found['value'])}; with 95 % "
        f"confidence at most {percent(bound)}, {why})"
    ]


def _say_verdicts(report: Figures) -> list[str]:
    if report["verdicts"] is None:
        return ["it has no thresholds, so every image is referred to an inspector"]
    rows = report["verdicts"]["photographs"]
    shares = [f"{verb} {percent(rows[key]['value'])}" for key, verb in (("accept", "accepts"), ("reject", "rejects"))]
    escapes = rows["escapes"]
    passing = ""
    if escapes["n"]:
        bound = f"at most {percent(escapes['high'])}, assumes independent images"
        passing = f", and lets {escapes['k']:,} of {count(escapes['n'], 'defect')} pass ({bound})"
    return [
        f"by its thresholds it {', '.join(shares)} and refers {percent(rows['refer']['value'])} of the photographs"
        f"{passing}"
    ]


def _say_worth(report: Figures) -> list[str]:
    seen = report.get("num_trained_on") or 0
    said = []
    if report.get("leaks"):
        said.append("LEAK: these data hold the same welds or pictures on both sides, so the figures measure memory")
    elif seen:
        whole = "all" if seen == report["num_images"] else f"{seen:,}"
        said.append(f"the network was trained on {whole} of these images, so the figures measure memory")
    if report["split"] in ("val", "all"):
        said.append("validation images chose the epoch, temperature and thresholds, so their figures are too good")
    said += _say_gap(report)
    shortages = [text for text in report["statements"] if text not in (CAVEAT, UNCERTIFIED)]
    return [*said, *(text.rstrip(".") for text in shortages)] or [_ELSE]


def _say_gap(report: Figures) -> list[str]:
    groups, validation = report.get("validation_groups"), report.get("validation")
    kind = {"known": "which show welds known from training", "unseen": "which show other unseen welds"}
    if not validation or report.get("split") == "val":
        caveat = CAVEATS.get(str(groups), "")
        return [] if groups == "unseen" or not caveat else [caveat.rstrip(".").replace("Validation", "validation", 1)]
    gap = validation["balanced_accuracy"] - report["balanced_accuracy"]
    value = percent(validation["balanced_accuracy"])
    who = f"on the validation images{', ' + kind[str(groups)] + ',' if groups in kind else ''}"
    if abs(gap) < _SAME:
        said = f"{who} it is about the same, {value}"
    else:
        said = f"{who} it is {value}, {100 * abs(gap):.1f} points {'higher' if gap > 0 else 'lower'}"
    if gap >= _SAME and groups == "known" and report.get("split") == "test" and not report.get("leaks"):
        return [f"{said}: that is the gap between known and unseen welds, and a new weld gets the lower figure"]
    rest = CAVEATS.get(str(groups), "") if groups not in kind else ""
    return [said, *([rest[0].lower() + rest[1:].rstrip(".")] if rest else [])]
