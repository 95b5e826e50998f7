"""Everything `report.json` holds of one tested set: each figure with its uncertainty, and what it rests on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.bootstrap import bootstrap_groups, resample_means, resample_ranking, resample_rates
from weldnet.evaluation.calibration import summarise_calibration
from weldnet.evaluation.decision import CAVEAT, NO_GOOD_CLASS, mark_defects, referral_curve, summarise_verdicts
from weldnet.evaluation.judge import Judgement
from weldnet.evaluation.metrics import (
    ONE_SIDED,
    cross_entropy,
    index_groups,
    make_plain,
    measure_proportions,
    summarise,
)
from weldnet.evaluation.verdicts import ACCEPT, NOT_CALIBRATED, REJECT


def assess(
    logits: Floats,
    labels: Labels,
    classes: Sequence[str],
    groups: Sequence[str | None],
    judgement: Judgement | None,
    good_classes: Sequence[str] = (),
) -> dict[str, Any]:
    """The figures of N images, at least 1, as plain types for JSON.

    An image whose group, its weld, is None counts as a weld of its own.

    Returns:
        The keys of `summarise` and `assess_verdicts`; `calibration`; `proportions`: exact intervals by name
        (`recall/<class>`, ...); `escapes` and `false_calls` of the predicted class, one-sided, and `per_weld`;
        `by_group`: the same and `f1`, `auroc`, `average_precision`, `loss` with a bootstrap over whole groups.
    """
    good, temperature, losses = list(good_classes), 1.0, {"loss": cross_entropy(logits, labels)}
    if judgement is not None:
        temperature = judgement.judge.temperature
        losses["loss_calibrated"] = cross_entropy(logits / temperature, labels)
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, labels=range(len(classes)))
    proportions = measure_proportions(confusion, classes, good)
    names, welds = index_groups(groups)
    statistics = [
        resample_rates(predicted, labels, welds, classes, good),
        resample_ranking(softmax(logits / temperature, axis=1), labels, welds, classes),
        resample_means(losses, welds),
    ]
    return {
        **summarise(logits, labels, classes, groups),
        **{name: float(values.mean()) for name, values in losses.items()},
        "num_groups": len(names),
        "num_without_group": sum(group is None for group in groups),
        "good_classes": good,
        "escapes": proportions.get("escapes"),
        "false_calls": proportions.get("false_calls"),
        "per_weld": _count_welds(predicted, labels, classes, groups, good) if good else None,
        "proportions": proportions,
        "by_group": bootstrap_groups(statistics, names, upper=ONE_SIDED),
        "calibration": summarise_calibration(logits, labels, temperature),
        **assess_verdicts(labels, classes, groups, judgement),
    }


def _count_welds(
    predicted: Labels, labels: Labels, classes: Sequence[str], groups: Sequence[str | None], good: Sequence[str]
) -> dict[str, Any] | None:
    """Escapes and false calls of whole welds by the predicted class; None where the weld of some image is unknown."""
    verdicts = np.where(mark_defects(predicted, classes, good), REJECT, ACCEPT)
    welds = summarise_verdicts(verdicts, mark_defects(labels, classes, good), groups)["welds"]
    return welds and {name: welds[name] for name in ("escapes", "false_calls")}


def assess_verdicts(
    labels: Labels, classes: Sequence[str], groups: Sequence[str | None], judgement: Judgement | None
) -> dict[str, Any]:
    """The figures of the verdicts: `operating_point`, `verdicts` (per photograph and per weld), `referral_curve`,
    `num_unlike_training`, and `statements`: what cannot be met, and what the bound does not cover.
    """
    if judgement is None:
        return {"operating_point": None, "verdicts": None, "referral_curve": None, "statements": [NOT_CALIBRATED]}
    judge, point = judgement.judge, judgement.judge.point
    if not judge.good_classes:
        statements, is_defect = [NO_GOOD_CLASS], np.zeros(len(labels), bool)
    else:
        is_defect = mark_defects(labels, classes, judge.good_classes)
        statements = [*point.reasons, *judge.notes, CAVEAT]
    curve = referral_curve(judgement.sound, is_defect, point.reject_below, judgement.unlike_training)
    return {
        "operating_point": asdict(point),
        "verdicts": summarise_verdicts(judgement.verdicts, is_defect, groups),
        "num_unlike_training": int(judgement.unlike_training.sum()),
        "referral_curve": {name: [make_plain(x) for x in row] for name, row in curve.items()},
        "statements": statements,
    }
