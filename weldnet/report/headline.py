"""The headline of a report: whether the classifier may decide alone, figures beside targets, and what to do next."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from weldnet.errors import count
from weldnet.evaluation.decision import ADVICE
from weldnet.evaluation.intervals import needed_images, proportion
from weldnet.evaluation.verdicts import DECIDES_NOTHING
from weldnet.report.tables import show
from weldnet.report.words import capitalize, percent

Report = Mapping[str, Any]

_MANY_UNLIKE = 0.1
"""The share of images unlike training above which the headline mentions them."""


class Reason(NamedTuple):
    """Why the headline is not better, and what to do about it."""

    text: str
    action: str


def write_headline(report: Report) -> dict[str, Any]:
    """Writes what the person who signs the report reads first, from the keys of `report.json`.

    Returns:
        `status`: `fit` if every target is met; `not_fit` if a measured rate is above its target, or nothing is
            decided; `not_proven` if the test has too few welds; `invalid` if training or validation used the images.
        `sentence`: the status in words.
        `figures`: `name`, `value`, `bound` (one-sided, at the confidence of the targets), `target` and `met` of each.
        `reasons`: `text` and `action` of each, the most important first.
    """
    figures = [*_measure_errors(report, "escapes"), _measure_decided(report), _count_welds(report)]
    figures += _measure_errors(report, "false_rejects")
    status, sentence = _find_status(report, {figure["name"]: figure for figure in figures})
    missed = [figure["name"] for figure in figures if not figure["met"]]
    reasons = [*_explain_verdicts(report), *_explain_bounds(report, missed), *_explain_doubts(report)]
    if refusal := _refuse(report):
        status, sentence = "invalid", refusal[0]
        reasons.insert(0, refusal[1])
    return {
        "status": status,
        "sentence": sentence,
        "figures": figures,
        "reasons": [reason._asdict() for reason in reasons],
    }


def _measure_errors(report: Report, name: str) -> list[dict[str, Any]]:
    """The figure of `escapes` or `false_rejects`; its bound is the larger of those by photograph and by weld."""
    point, verdicts = report["operating_point"], report["verdicts"]
    if verdicts is None or not report["good_classes"]:
        return [_figure(name.replace("_", " "), None, None, None, met=False)] if name == "escapes" else []
    target = point["max_escape_rate" if name == "escapes" else "max_false_reject_rate"]
    bounds = [_bound(report, rows[name]) for rows in verdicts.values() if rows and rows[name]["n"]]
    bound = max(bounds, default=None)
    met = bound is not None and bound <= target
    return [_figure(name.replace("_", " "), verdicts["photographs"][name]["value"], bound, target, met=met)]


def _bound(report: Report, row: Report) -> float:
    """The upper bound of a rate, one-sided, at the confidence of the targets."""
    return float(proportion(row["k"], row["n"], report["operating_point"]["confidence"], side="upper")["high"])


def _measure_decided(report: Report) -> dict[str, Any]:
    rows = (report["verdicts"] or {}).get("photographs")
    value = rows["accept"]["value"] + rows["reject"]["value"] if rows else 0.0
    return _figure("decided without an inspector", value, None, 0.0, met=value > 0)


def _count_welds(report: Report) -> dict[str, Any]:
    """The figure of defective welds tested; its target is how many could prove the target of escapes."""
    point, welds, value, needed = report["operating_point"], (report["verdicts"] or {}).get("welds"), None, None
    if point and report["good_classes"]:
        value, needed = welds and welds["escapes"]["n"], needed_images(point["max_escape_rate"], point["confidence"])
    return _figure("defective welds tested", value, None, needed, met=bool(value and needed and value >= needed))


def list_lines(report: Report) -> list[str]:
    """The headline as lines for the terminal: the sentence, each reason with its action, and which epoch was kept."""
    headline, selection = report["headline"], report.get("selection")
    reasons = [f"  - {reason['text']} {reason['action']}" for reason in headline["reasons"]]
    return [headline["sentence"], *reasons, *([capitalize(selection)] if selection else [])]


def describe_figures(report: Report) -> list[dict[str, str]]:
    """The `name`, `value`, `bound`, `target` and `mark` (`met` or `missed`) of each figure as text for the page."""
    rows, figures = (report["verdicts"] or {}).get("photographs", {}), []
    verdicts = {"escapes": "accept", "false rejects": "reject"}
    for figure in report["headline"]["figures"]:
        name, value, bound, target = (figure[key] for key in ("name", "value", "bound", "target"))
        mark, shown = "met" if figure["met"] else "missed", "not measured" if value is None else show(value)
        measured, wanted = "", "" if target is None else _describe_target(target)
        if bound is not None:
            shown, measured = f"at most {percent(bound)}", f"measured: {percent(value)}"
            if not rows[verdicts[name]]["k"]:
                # Where nothing was accepted, a rate of escapes is neither met nor missed.
                shown, measured, mark = f"none {verdicts[name]}ed", "", ""
        figures.append({"name": name.capitalize(), "value": shown, "bound": measured, "target": wanted, "mark": mark})
    return figures


def _describe_target(target: float) -> str:
    if not target:
        return "target: more than 0 %"
    return f"target: at {f'least {target:,}' if isinstance(target, int) else f'most {100 * target:g} %'}"


def _figure(name: str, value: Any, bound: float | None, target: Any, *, met: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "target": target, "met": met}


def _find_status(report: Report, figures: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    if not figures["decided without an inspector"]["met"]:
        return "not_fit", DECIDES_NOTHING
    for name, fault in (("escapes", "accepts too many defects"), ("false rejects", "rejects too many sound welds")):
        figure = figures[name]
        if figure["value"] is not None and figure["value"] > figure["target"]:
            return "not_fit", f"Not fit to decide alone: it {fault}."
    if report["not_measured"]:
        return "not_proven", "Not proven fit to decide alone: the test holds no photograph of some classes."
    if all(figure["met"] for figure in figures.values()):
        return "fit", "Fit to decide alone, within its targets, on welds like these."
    return "not_proven", "Not proven fit to decide alone: too few welds were tested to hold it to its targets."


def _refuse(report: Report) -> tuple[str, Reason] | None:
    """The sentence, and the reason, where the images of the test prove nothing."""
    seen = report.get("num_trained_on")
    if seen or report.get("leaks"):
        text = (
            f"Training has seen {seen:,} of these {report['num_images']:,} photographs." if seen else "There is a leak."
        )
        reason = Reason(text, "Test photographs of different welds: data=folder data.root=DIR.")
        return "These figures prove nothing: training has seen these welds or photographs.", reason
    if report["split"] in ("val", "all"):
        text, action = (
            "Some of them are validation photographs.",
            "Test photographs that training never saw: split=test, if the data have one, or data=folder data.root=DIR.",
        )
        sentence = "These figures prove nothing: some of these photographs chose the epoch and the thresholds."
        return sentence, Reason(text, action)
    return None


def _explain_doubts(report: Report) -> Iterator[Reason]:
    """Why the images of the test prove less than it seems."""
    groups = str(report.get("validation_groups"))
    if groups == "known":
        yield Reason(
            "Validation shows welds that training has seen: new welds are harder than those that set the thresholds.",
            "Photograph more welds of each class, so that validation has welds of its own.",
        )
    elif groups in ("per_image", "unknown"):
        text = "Each photograph was declared a weld of its own" if groups == "per_image" else "The welds are unknown"
        yield Reason(
            f"{text}: if photographs in two splits show one weld, the figures are too good.",
            "State which photographs show one weld: data.group_by=folder or prefix:N.",
        )
    if report["not_measured"]:
        names = ", ".join(report["not_measured"])
        yield Reason(
            f"Classes without a photograph in the test: {names}.", "Add photographs of these classes to the test."
        )


def _explain_verdicts(report: Report) -> Iterator[Reason]:
    """Why photographs are referred, and which errors there are too many of."""
    point, verdicts = report["operating_point"], report["verdicts"]
    if verdicts is None:
        yield Reason("The checkpoint is not calibrated.", "Test the one that the run keeps: ckpt_path=best.")
        return
    if not report["good_classes"]:
        yield Reason(
            "No class of sound welds is known.", "Name the classes of sound welds: evaluation.good_classes=[CLASS]."
        )
        return
    for reason in point["reasons"]:
        text, has_advice, advice = reason.partition(ADVICE)
        if has_advice:
            yield Reason(capitalize(text), f"Add {advice}.")
        elif not _measure_decided(report)["met"]:
            yield Reason(capitalize(text), "Train on more photographs of each class.")
    for verdict, name, shown, key in (
        ("accepted", "escapes", "with a defect", "max_escape_rate"),
        ("rejected", "false_rejects", "of sound welds", "max_false_reject_rate"),
    ):
        row = verdicts["photographs"][name]
        if row["n"] and row["value"] > point[key]:
            yield Reason(
                f"{row['k']:,} of {row['n']:,} photographs {shown} were {verdict}; the target is "
                f"{100 * point[key]:g} %.",
                "Look at the mistakes, and add photographs like them, of different welds, to training.",
            )
    unlike, images = report["num_unlike_training"], report["num_images"]
    if unlike > _MANY_UNLIKE * images:
        yield Reason(
            f"{unlike:,} of {count(images, 'photograph')} ({percent(unlike / images)}) are unlike training, and are "
            "referred.",
            "Photograph such welds for training, in the same light and at the same size.",
        )


def _explain_bounds(report: Report, missed: Sequence[str]) -> Iterator[Reason]:
    """Why the bounds on the errors are not lower."""
    if (verdicts := report["verdicts"]) is None or not report["good_classes"]:
        return
    if verdicts["welds"] is None:
        if str(report.get("validation_groups")) not in ("per_image", "unknown"):
            yield Reason(
                "The weld of some photographs is unknown, so no figure counts welds.",
                "Name the weld of each photograph: data.group_by or a manifest.",
            )
        return
    point = report["operating_point"]
    for name, kind, verdict, key in (
        ("escapes", "defective", "accepted", "max_escape_rate"),
        ("false_rejects", "sound", "rejected", "max_false_reject_rate"),
    ):
        welds, photographs = verdicts["welds"][name], verdicts["photographs"][name]
        rate, errors = point[key], name.replace("_", " ")
        needed = needed_images(rate, point["confidence"])
        if errors not in missed and not (name == "escapes" and "defective welds tested" in missed):
            continue
        target = f"at most {100 * rate:g} % {errors}"
        if welds["n"] < needed:
            text = f"{count(welds['n'], f'{kind} weld')} cannot prove {target}; it takes {needed}."
            tested = "by weldnet-test with data=folder data.root=DIR"
            yield Reason(text, f"Test about {needed - welds['n']} more {kind} welds, {tested}.")
            continue
        for row, unit in ((welds, "weld"), (photographs, "photograph")):
            if row["value"] <= rate < (bound := _bound(report, row)):
                wrong = f"{kind} {unit}s were {verdict}"
                text = f"{row['k']:,} of {row['n']:,} {wrong}, which proves at most {percent(bound)} {errors}."
                yield Reason(text, f"Test more {kind} {unit}s, until {target} are proven.")
                break
