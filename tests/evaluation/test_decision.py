"""The operating point: by enumeration, by simulation against known distributions, and at its edges."""

import json
from dataclasses import asdict
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from weldnet.errors import InputError
from weldnet.evaluation.decision import (
    certify_threshold,
    choose_operating_point,
    find_good_classes,
    mark_defects,
    referral_curve,
    summarise_verdicts,
)
from weldnet.evaluation.intervals import needed_images
from weldnet.evaluation.verdicts import ACCEPT, REFER, REJECT, OperatingPoint, decide, sound_probability

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CLASSES = ("crack", "no_defect", "pore")
GOOD = ("no_defect",)
NUM_SETS = 1000
# The 99.7 % quantile of Bin(1000, 0.05): what 1,000 sets may breach when each does so with a probability of 0.05.
MAX_BREACHES = 69

# Coarse scores, so that ties are the rule.
tied_scores = st.lists(st.integers(0, 8).map(lambda level: level / 8), max_size=14).map(lambda x: np.array(x, float))
rates = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7])


def draw_set(seed: int, num_defects: int = 150, num_sound: int = 300, shift: float = 1.5) -> tuple[Floats, Flags]:
    """Scores of defects around -shift and sound images around +shift log-odds, and which are defects."""
    is_defect = np.arange(num_defects + num_sound) < num_defects
    log_odds = np.random.default_rng(seed).normal(np.where(is_defect, -shift, shift))
    return expit(log_odds), is_defect


def none_unlike(scores: Floats) -> Flags:
    return np.zeros(len(scores), np.bool_)


# The guarantee


def simulate_breaches(num_welds: int, photographs: int, correlation: float, seed: int = 0) -> tuple[int, float]:
    """How many of 1,000 calibration sets choose a threshold whose true escape rate is above 0.05, at confidence 0.95.

    The log-odds of a defect are normal around -1 and those of a sound image normal around 3, both with a variance of
    1, so that the rates of a threshold are known exactly. `correlation` is that between photographs of one weld; the
    rates are those of new welds.

    Returns:
        The breaches, and the mean share of the sound images accepted.
    """
    rng = np.random.default_rng(seed)
    breaches, accepted = 0, []
    for _ in range(NUM_SETS):
        of_weld, own = rng.normal(size=(num_welds, 1)), rng.normal(size=(num_welds, photographs))
        defects = -1 + np.sqrt(correlation) * of_weld + np.sqrt(1 - correlation) * own
        scores = expit(np.append(defects, 3 + rng.normal(size=100)))
        point = choose_operating_point(scores, np.arange(len(scores)) < defects.size, GOOD)
        assert point.accept_above is not None
        threshold = logit(point.accept_above)
        breaches += bool(norm.sf(threshold + 1) > 0.05)
        accepted.append(norm.sf(threshold - 3))
    return breaches, float(np.mean(accepted))


# With 59 and 93 defects the p-values leave next to no slack (0.0485 and 0.04998); with 500 they leave some.
@pytest.mark.parametrize(("num_defects", "least", "least_accepted"), [(59, 30, 0.85), (93, 30, 0.9), (500, 20, 0.97)])
def test_bound_holds_on_exchangeable_data(num_defects: int, least: int, least_accepted: float) -> None:
    breaches, accepted = simulate_breaches(num_defects, 1, 0.0)
    print(f"{num_defects} defects, exchangeable: {breaches} breaches in {NUM_SETS}, sound accepted {accepted:.3f}")
    # The ideal threshold accepts 0.991 of the sound images.
    assert least <= breaches <= MAX_BREACHES
    assert accepted >= least_accepted


def test_photographs_of_one_weld_weaken_the_bound() -> None:
    exchangeable, _ = simulate_breaches(100, 1, 0.0)
    for correlation in (0.2, 0.5, 0.8):
        grouped, accepted = simulate_breaches(20, 5, correlation)
        print(f"20 welds of 5, correlation {correlation}: {grouped} breaches, sound accepted {accepted:.3f}")
        assert exchangeable < grouped


def test_bound_holds_for_tied_scores_and_for_rejects() -> None:
    rng = np.random.default_rng(1)
    levels, defect_shares = np.linspace(0, 1, 11), np.array([40, 20, 10, 8, 6, 4, 4, 3, 3, 1, 1]) / 100
    breaches = np.zeros(2, int)
    for _ in range(NUM_SETS):
        defects, sound = rng.choice(levels, 93, p=defect_shares), rng.choice(levels[::-1], 93, p=defect_shares)
        point = choose_operating_point(np.append(defects, sound), np.arange(186) < 93, GOOD)
        assert point.accept_above is not None
        assert point.reject_below is not None
        breaches += [
            defect_shares[levels > point.accept_above].sum() > 0.0500001,
            defect_shares[::-1][levels < point.reject_below].sum() > 0.0500001,
        ]
    assert (breaches <= MAX_BREACHES).all()


# The threshold


def enumerate_acceptance(scores: Floats, max_rate: float, confidence: float) -> float | None:
    """The fixed sequence by hand: every distinct score as a threshold, from the largest down, in exact arithmetic."""
    rate, passed = Fraction(max_rate), None
    for threshold in sorted(set(scores.tolist()), reverse=True):
        above = int((scores > threshold).sum())
        terms = (comb(len(scores), k) * rate**k * (1 - rate) ** (len(scores) - k) for k in range(above + 1))
        if sum(terms) > Fraction(1 - confidence):
            break
        passed = threshold
    return passed


@given(tied_scores, rates, st.sampled_from([0.6, 0.8, 0.93]))
@settings(deadline=None)
def test_threshold_is_that_of_the_enumeration(scores: Floats, max_rate: float, confidence: float) -> None:
    assert certify_threshold(scores, max_rate, confidence) == enumerate_acceptance(scores, max_rate, confidence)


@given(st.integers(0, 200), rates, st.sampled_from([0.6, 0.8, 0.93]))
@settings(deadline=None)
def test_as_many_images_are_needed_as_the_words_say(num: int, max_rate: float, confidence: float) -> None:
    threshold = certify_threshold(np.zeros(num), max_rate, confidence)
    assert (threshold is not None) == (num >= needed_images(max_rate, confidence))


def test_fifty_nine_defects_are_needed_by_default() -> None:
    assert needed_images(0.05, 0.95) == 59
    scores, is_defect = draw_set(0, num_defects=58)
    short = choose_operating_point(scores, is_defect, GOOD)
    assert (short.accept_above, short.num_defects) == (None, 58)
    assert short.reasons == (
        "no photograph can be accepted automatically yet: proving at most 5 % escapes takes 59 calibration photographs "
        "with a defect, and there are 58; add about 2 photographs with a defect to validation (half of them set the "
        "thresholds)",
    )
    assert ACCEPT not in decide(scores, none_unlike(scores), short)
    enough = choose_operating_point(*draw_set(0, num_defects=59), GOOD)
    assert enough.reasons == ()
    assert enough.accept_above is not None


@given(st.integers(0, 1000), rates, rates)
@settings(deadline=None, max_examples=50)
def test_a_looser_target_never_accepts_or_rejects_less(seed: int, one: float, other: float) -> None:
    scores, is_defect = draw_set(seed, 40, 40, shift=0.2)
    tight, loose = (
        decide(
            scores,
            none_unlike(scores),
            choose_operating_point(scores, is_defect, GOOD, max_escape_rate=rate, max_false_reject_rate=rate),
        )
        for rate in sorted((one, other))
    )
    for verdict in (ACCEPT, REJECT):
        assert not ((tight == verdict) & (loose != verdict)).any()


def test_thresholds_never_cross() -> None:
    scores, is_defect = draw_set(0, shift=6)
    point = choose_operating_point(scores, is_defect, GOOD)
    assert (point.accept_above, point.reject_below) == (0.5, 0.5)
    assert decide(scores, none_unlike(scores), point).tolist() == np.where(is_defect, REJECT, ACCEPT).tolist()


def test_calibration_images_of_one_kind() -> None:
    scores, is_defect = draw_set(0)
    defects = choose_operating_point(scores[is_defect], is_defect[is_defect], GOOD)
    sound = choose_operating_point(scores[~is_defect], is_defect[~is_defect], GOOD)
    assert defects.reject_below is None
    assert (
        "no photograph can be rejected automatically yet: proving at most 5 % false rejects takes 59 calibration "
        "photographs of sound welds, and there are 0; add about 118 photographs of sound welds to validation (half of "
        "them set the thresholds)"
    ) in defects.reasons
    assert sound.accept_above is None
    assert sound.reasons == (
        "no photograph can be accepted automatically yet: proving at most 5 % escapes takes 59 calibration photographs "
        "with a defect, and there are 0; add about 118 photographs with a defect to validation (half of them set the "
        "thresholds)",
    )
    nothing = choose_operating_point(scores[:0], is_defect[:0], GOOD)
    assert (nothing.accept_above, nothing.reject_below, len(nothing.reasons)) == (None, None, 2)


def test_defects_that_score_as_high_as_any_leave_nothing_to_accept() -> None:
    scores, is_defect = np.ones(200), np.arange(200) < 100
    point = choose_operating_point(scores, is_defect, GOOD)
    assert set(decide(scores, none_unlike(scores), point)) == {REFER}
    assert point.reasons == ("no sound calibration image scores above 1, as an accepted one must",)


# The verdicts


@given(tied_scores, st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_rejects_mirror_accepts(scores: Floats, seed: int) -> None:
    is_defect = np.random.default_rng(seed).random(len(scores)) < 0.5
    names = {ACCEPT: REJECT, REJECT: ACCEPT, REFER: REFER}
    verdicts, mirrored = (
        decide(
            ours,
            none_unlike(ours),
            choose_operating_point(ours, kinds, GOOD, max_escape_rate=0.5, max_false_reject_rate=0.5, confidence=0.6),
        )
        for ours, kinds in ((scores, is_defect), (1 - scores, ~is_defect))
    )
    assert verdicts.tolist() == [names[verdict] for verdict in mirrored.tolist()]


def test_unlike_images_and_scores_without_a_number_are_referred() -> None:
    point = choose_operating_point(*draw_set(0), GOOD)
    scores = np.array([1.0, 1.0, 0.0, 0.0, np.nan, 0.5])
    unlike = np.array([False, True, False, True, False, False])
    assert decide(scores, unlike, point).tolist() == [ACCEPT, REFER, REJECT, REFER, REFER, REFER]


def test_without_good_classes_every_image_is_referred() -> None:
    scores, is_defect = draw_set(0)
    point = choose_operating_point(scores, is_defect, [])
    assert set(decide(scores, none_unlike(scores), point)) == {REFER}
    assert "evaluation.good_classes" in point.reasons[0]


@pytest.mark.parametrize("good_classes", [GOOD, ()])
def test_point_survives_json(good_classes: tuple[str, ...]) -> None:
    point = choose_operating_point(*draw_set(0, num_defects=3), good_classes)
    assert point.reasons
    assert OperatingPoint.from_dict(json.loads(json.dumps(asdict(point)))) == point


def test_good_classes_are_found_by_name() -> None:
    names = ["Good", "crack", "NO_DEFECT", "no-defect", "no defect", "goods", "defect", "not good"]
    assert find_good_classes(names) == ["Good", "NO_DEFECT", "no-defect", "no defect"]
    assert find_good_classes(["crack", "pore"]) == []


def test_sound_probability_sums_the_good_classes() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 1e-16]])
    np.testing.assert_allclose(sound_probability(probabilities, CLASSES, GOOD), [0.5, 1.0])
    np.testing.assert_allclose(sound_probability(probabilities, CLASSES, ["no_defect", "pore"]), [0.8, 1.0])
    assert sound_probability(np.full((1, 3), 0.33334), CLASSES, CLASSES).max() <= 1
    assert sound_probability(probabilities, CLASSES, []).tolist() == [0, 0]
    assert mark_defects(np.array([0, 1, 2]), CLASSES, GOOD).tolist() == [True, False, True]
    with pytest.raises(InputError, match="did you mean 'no_defect'"):
        sound_probability(probabilities, CLASSES, ["no_defects"])


def test_counts_per_photograph_and_per_weld() -> None:
    rows = [
        # A defect on one photograph of two, both accepted: the weld escapes.
        ("escapes", ACCEPT, True),
        ("escapes", ACCEPT, False),
        # One of two photographs held back: the weld does not escape.
        ("caught", ACCEPT, True),
        ("caught", REFER, True),
        ("false call", ACCEPT, False),
        ("false call", REFER, False),
        ("rejected", REJECT, False),
        ("rejected", ACCEPT, False),
        ("fine", ACCEPT, False),
    ]
    welds, verdicts, is_defect = (list(column) for column in zip(*rows, strict=True))
    summary = summarise_verdicts(np.array(verdicts), np.array(is_defect), welds)
    counts = {
        unit: {name: (row["k"], row["n"]) for name, row in (rows or {}).items()} for unit, rows in summary.items()
    }
    assert counts["photographs"] == {
        "accept": (6, 9),
        "reject": (1, 9),
        "refer": (2, 9),
        "escapes": (2, 3),
        "false_calls": (2, 6),
        "false_rejects": (1, 6),
    }
    assert counts["welds"] == {
        "accept": (2, 5),
        "reject": (1, 5),
        "refer": (2, 5),
        "escapes": (1, 2),
        "false_calls": (2, 3),
        "false_rejects": (1, 3),
    }
    of_groupless = summarise_verdicts(np.array(verdicts), np.array(is_defect), [None, *welds[1:]])
    assert of_groupless == {"photographs": summary["photographs"], "welds": None}


def test_one_photograph_a_weld_counts_the_same_both_ways() -> None:
    scores, is_defect = draw_set(3)
    verdicts = decide(scores, scores > 0.99, choose_operating_point(*draw_set(4), GOOD))
    assert set(verdicts) == {ACCEPT, REJECT, REFER}
    summary = summarise_verdicts(verdicts, is_defect, [f"weld {i}" for i in range(len(scores))])
    assert summary["welds"] == summary["photographs"]


# The curve


def test_curve_passes_through_the_operating_point() -> None:
    scores, is_defect = draw_set(0, 60, 60)
    unlike = np.random.default_rng(0).random(len(scores)) < 0.1
    point = choose_operating_point(scores, is_defect, GOOD)
    curve = referral_curve(scores, is_defect, point.reject_below, unlike)
    assert point.accept_above in curve["accept_above"]
    for threshold, referred, escape_rate in zip(*curve.values(), strict=True):
        moved = OperatingPoint.from_dict(asdict(point) | {"accept_above": threshold})
        verdicts = decide(scores, unlike, moved)
        assert referred == pytest.approx((verdicts == REFER).mean())
        assert escape_rate == pytest.approx((verdicts == ACCEPT)[is_defect].mean())


def test_curve_is_thin_monotone_and_whole() -> None:
    scores, is_defect = draw_set(0, 2000, 3000)
    curve = referral_curve(scores, is_defect, None, none_unlike(scores))
    assert {len(values) for values in curve.values()} == {200}
    for key, sign in (("accept_above", -1), ("share_referred", -1), ("escape_rate", 1)):
        assert (sign * np.diff(curve[key]) >= 0).all()
    assert (curve["share_referred"][0], curve["escape_rate"][0]) == (1, 0)
    assert (curve["share_referred"][-1], curve["escape_rate"][-1]) == (0, 1)


def test_curve_without_defects_has_no_escape_rate() -> None:
    curve = referral_curve(np.array([0.3, 0.3, 0.0]), np.zeros(3, np.bool_), None, np.zeros(3, np.bool_))
    assert np.isnan(curve["escape_rate"]).all()
    np.testing.assert_allclose(curve["share_referred"], [1, 1 / 3])
