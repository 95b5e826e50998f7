"""What report.json holds is right and plain, with what it rests on."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score
from test_judge import CLASSES, draw

from weldnet.evaluation.assessment import assess
from weldnet.evaluation.judge import Judge, Outputs, fit_judge
from weldnet.evaluation.verdicts import NOT_CALIBRATED


@pytest.fixture(scope="module")
def judge() -> Judge:
    return fit_judge(CLASSES, ["good"], draw(300, 0), draw(200, 1), draw(400, 2), by_group=True)


def name_welds(outputs: Outputs, number: int | None) -> list[str | None]:
    return [None if number is None else f"weld{i % number}" for i in range(len(outputs.labels))]


def report(outputs: Outputs, judge: Judge | None, groups: list[str | None]) -> dict[str, Any]:
    judgement, good = (judge.judge(outputs), judge.good_classes) if judge else (None, ())
    figures = assess(outputs.logits, outputs.labels, CLASSES, groups, judgement, good)
    return dict(json.loads(json.dumps(figures, allow_nan=False)))


def test_figures_equal_their_references(judge: Judge) -> None:
    outputs = draw(400, 3)
    welds = name_welds(outputs, 12)
    figures, judgement = report(outputs, judge, welds), judge.judge(outputs)
    predicted, labels = outputs.logits.argmax(1), outputs.labels
    defects = labels != 1
    k, n = int((predicted[defects] == 1).sum()), int(defects.sum())
    assert (figures["escapes"]["k"], figures["escapes"]["n"]) == (k, n)
    assert figures["escapes"]["high"] == pytest.approx(beta.ppf(0.95, k + 1, n - k))
    assert "one-sided 95 %" in figures["escapes"]["high_is"]
    recall = figures["proportions"]["recall/crack"]
    k, n = int((predicted[labels == 0] == 0).sum()), int((labels == 0).sum())
    assert (recall["low"], recall["high"]) == pytest.approx(
        (beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k))
    )
    assert "assumes independent images" in recall["interval_is"]
    scores = judgement.probabilities[:, 2]
    assert figures["by_group"]["auroc/pore"]["value"] == pytest.approx(roc_auc_score(labels == 2, scores))
    ap = figures["by_group"]["average_precision/pore"]["value"]
    assert ap == pytest.approx(average_precision_score(labels == 2, scores))
    accepted = judgement.verdicts == "accept"
    rows = figures["verdicts"]["photographs"]
    assert rows["escapes"]["k"] == int(accepted[defects].sum())
    assert rows["false_calls"]["k"] == int((~accepted[~defects]).sum())
    assert sum(rows[name]["k"] for name in ("accept", "reject", "refer")) == 400
    assert figures["loss"] != figures["loss_calibrated"]
    escaping = 0
    for weld in sorted(set(welds), key=str):
        own = np.array([group == weld for group in welds])
        escaping += bool(defects[own].any() and (predicted[own] == 1).all())
    assert (figures["per_weld"]["escapes"]["k"], figures["per_weld"]["escapes"]["n"]) == (escaping, 12)
    assert figures["calibration"]["before"]["negative_log_likelihood"] == pytest.approx(figures["loss"])
    assert figures["calibration"]["after"]["negative_log_likelihood"] == pytest.approx(figures["loss_calibrated"])
    assert any("exchangeable" in statement for statement in figures["statements"])


def test_few_welds_list_each(judge: Judge) -> None:
    outputs = draw(60, 4)
    row = report(outputs, judge, name_welds(outputs, 3))["by_group"]["accuracy"]
    assert (row["low"], row["high"]) == (None, None)
    assert "3 groups" in row["reason"]
    assert set(row["per_group"]) == {"weld0", "weld1", "weld2"}


@pytest.mark.parametrize("groups", ["known", "unknown"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_what_is_lacking_is_reported(judge: Judge, groups: str, calibrated: bool) -> None:
    outputs = draw(40, 5)
    keep = outputs.labels != 0
    kept = Outputs(outputs.logits[keep], outputs.features[keep], outputs.labels[keep])
    names = name_welds(kept, 12 if groups == "known" else None)
    figures = report(kept, judge if calibrated else None, names)
    assert figures["not_measured"] == ["crack"]
    assert figures["num_without_group"] == (0 if groups == "known" else len(names))
    if calibrated:
        assert (figures["verdicts"]["welds"] is None) == (groups == "unknown")
    else:
        assert figures["statements"] == [NOT_CALIBRATED]
        assert (figures["verdicts"], figures["escapes"]) == (None, None)
    assert np.isfinite(figures["loss"])
