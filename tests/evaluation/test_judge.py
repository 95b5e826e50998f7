"""The judge: what it decides, what it keeps, and what can be asked of it again."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import softmax

from weldnet.errors import InputError
from weldnet.evaluation.judge import Judge, Outputs, fit_judge
from weldnet.evaluation.verdicts import ACCEPT, REFER, REJECT

CLASSES = ["crack", "good", "pore"]


def draw(num: int, seed: int, shift: float = 0.0) -> Outputs:
    """Outputs of a fair classifier; features lie by class, `shift` away from training."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=num)
    logits = 1.5 * (rng.normal(size=(num, 3)) + 2 * np.eye(3)[labels])
    features = (rng.normal(size=(num, 16)) + 5 * np.eye(16)[labels] + shift).astype(np.float32)
    return Outputs(logits, features, labels)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return fit_judge(CLASSES, ["good"], draw(300, 0), draw(200, 1), draw(400, 2), by_group=True)


def test_verdicts_follow_the_thresholds(judge: Judge) -> None:
    outputs = draw(500, 3)
    judgement = judge.judge(outputs)
    point = judge.point
    assert point.accept_above is not None
    assert point.reject_below is not None
    assert judgement.probabilities == pytest.approx(softmax(outputs.logits / judge.temperature, axis=1))
    assert judgement.sound == pytest.approx(judgement.probabilities[:, 1])
    for verdict, sound, unlike in zip(judgement.verdicts, judgement.sound, judgement.unlike_training, strict=True):
        expected = ACCEPT if sound > point.accept_above else REJECT if sound < point.reject_below else REFER
        assert verdict == (REFER if unlike else expected)
    assert set(judgement.verdicts) == {ACCEPT, REJECT, REFER}
    escaped = judgement.verdicts[outputs.labels != 1] == ACCEPT
    assert escaped.mean() < 0.05


def test_what_is_unlike_training_is_referred(judge: Judge) -> None:
    assert judge.judge(draw(300, 4)).unlike_training.mean() < 0.1
    far = judge.judge(draw(300, 4, shift=8.0))
    assert far.unlike_training.all()
    assert (far.verdicts == REFER).all()


def test_a_judge_survives_a_checkpoint(judge: Judge) -> None:
    again, outputs = Judge.from_dict(asdict(judge) | {"groups": ("weld0",), "by_group": True}), draw(100, 5)
    assert again.point == judge.point
    assert (again.judge(outputs).verdicts == judge.judge(outputs).verdicts).all()
    for ours, theirs in zip(*(each.score(outputs.logits, outputs.features) for each in (again, judge)), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_thresholds_are_chosen_anew_from_what_it_carries(judge: Judge) -> None:
    stricter = judge.choose(["good"], max_escape_rate=0.01, confidence=0.9)
    assert stricter.point.accept_above is not None
    assert judge.point.accept_above is not None
    assert stricter.point.accept_above > judge.point.accept_above
    assert stricter.temperature == judge.temperature
    other = judge.choose(["good", "pore"])
    assert other.good_classes == ("good", "pore")
    assert other.point.num_defects == int((judge.labels == 0).sum())
    nobody = judge.choose([])
    assert set(nobody.judge(draw(50, 6)).verdicts) == {REFER}
    assert "evaluation.good_classes" in nobody.point.reasons[0]
    with pytest.raises(InputError, match=r"evaluation\.good_classes=fine"):
        judge.choose(["fine"])


def test_few_images_certify_nothing_and_say_so() -> None:
    judge = fit_judge(CLASSES, ["good"], draw(30, 0), draw(10, 1), draw(6, 2), by_group=False)
    assert (judge.point.accept_above, judge.point.reject_below) == (None, None)
    assert "takes 59" in judge.point.reasons[0]
    assert any("one weld" in note for note in judge.notes)
    nothing = fit_judge(CLASSES, ["good"], draw(30, 0), draw(10, 1), draw(0, 2), by_group=False)
    assert set(nothing.judge(draw(20, 7)).verdicts) == {REFER}
