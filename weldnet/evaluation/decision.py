"""Thresholds of `verdicts` that hold an error rate with a stated confidence, and what verdicts add up to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from weldnet.evaluation.arrays import Flags, Floats, Labels, Verdicts
from weldnet.evaluation.intervals import needed_images, proportion
from weldnet.evaluation.settings import Targets
from weldnet.evaluation.verdicts import ACCEPT, REFER, REJECT, VERDICTS, OperatingPoint, mark_good

Counts = dict[str, dict[str, Any]]

GOOD_NAMES = ("good", "no defect")
"""Usual names of a class of sound welds, in lower case, with spaces for `_` and `-`."""

NO_GOOD_CLASS = "every image is referred: no class of sound welds is known; name them in evaluation.good_classes"

CAVEAT = (
    "The bound assumes images exchangeable with the calibration data. It does not cover unseen welds: several "
    "photographs of one weld prove less than as many welds. It is weaker still when validation holds known welds."
)
"""What every report of an operating point states."""

ADVICE = "; add "
"""Stands in a reason of an operating point before what to do about it, where anything can be."""

BOUND_OF_MEMBERS = (
    "this is an ensemble: the bounds on escapes and false rejects behind its thresholds were measured out of fold, on "
    "single members and welds that each had not seen, not on the ensemble; they hold for its members on average"
)
"""What every operating point of an ensemble states."""


def find_good_classes(classes: Sequence[str]) -> list[str]:
    """The classes that are called `good`, `no_defect`, `no-defect` or `no defect`, in any case."""
    return [name for name in classes if name.strip().casefold().replace("_", " ").replace("-", " ") in GOOD_NAMES]


def mark_defects(labels: Labels, classes: Sequence[str], good_classes: Sequence[str]) -> Flags:
    """Whether each label (N,) is one of a defect; raises as `mark_good` does."""
    return ~mark_good(classes, good_classes)[labels]


def choose_operating_point(
    sound_probability: Floats,
    is_defect: Flags,
    good_classes: Sequence[str],
    *,
    max_escape_rate: float = Targets.max_escape_rate,
    max_false_reject_rate: float = Targets.max_false_reject_rate,
    confidence: float = Targets.confidence,
) -> OperatingPoint:
    """The most permissive thresholds that calibration images certify.

    Nothing is accepted below a sound probability of 0.5 or rejected above it, whatever the bounds would allow: with a
    good network both would allow the whole middle. This only makes the verdicts stricter, so both bounds stand.

    The N images chose neither the weights nor the temperature. Without a good class every image is referred.
    """
    defects, sound = sound_probability[is_defect], sound_probability[~is_defect]
    targets = (tuple(good_classes), max_escape_rate, max_false_reject_rate, confidence, len(defects), len(sound))
    if not good_classes:
        return OperatingPoint(None, None, *targets, reasons=(NO_GOOD_CLASS,))
    above = certify_threshold(defects, max_escape_rate, confidence)
    mirrored = certify_threshold(-sound, max_false_reject_rate, confidence)
    accept_above = None if above is None else max(above, 0.5)
    reject_below = None if mirrored is None else min(-mirrored, 0.5)
    reasons = [
        f"no photograph can be {verdict} automatically yet: proving at most {100 * rate:g} % {errors} takes {needed} "
        f"calibration photographs {shown}, and there are {found}{ADVICE}about {2 * (needed - found)} photographs "
        f"{shown} to validation (half of them set the thresholds)"
        for verdict, errors, shown, rate, found in (
            ("accepted", "escapes", "with a defect", max_escape_rate, len(defects)),
            ("rejected", "false rejects", "of sound welds", max_false_reject_rate, len(sound)),
        )
        if found < (needed := needed_images(rate, confidence))
    ]
    if accept_above is not None and not (sound > accept_above).any():
        reasons.insert(0, f"no sound calibration image scores above {accept_above:.4g}, as an accepted one must")
    return OperatingPoint(accept_above, reject_below, *targets, tuple(reasons))


def certify_threshold(scores: Floats, max_rate: float, confidence: float) -> float | None:
    """The lowest threshold t with P(score > t) <= max_rate, at the given confidence; None if there is none.

    Learn-then-test over every real t, in the fixed sequence from the largest down: t passes while the exact p-value
    P(Bin(n, max_rate) <= #{scores > t}) is at most 1 - confidence, which ends at an order statistic of the scores.

    Proof, ties included: let k be the largest count that passes, T the (k + 1)-th largest score, and q the lowest t
    that is truly safe. T is unsafe only if T < q, when at most k scores are >= q; each of them is with a probability
    of at least max_rate, so this has a probability of at most P(Bin(n, max_rate) <= k) <= 1 - confidence.

    The scores (n,) are of images whose rate is bounded, drawn as the later ones will be.

    Source: Angelopoulos, Bates, Candès, Jordan, Lei 2021, arXiv:2110.01052; the fixed sequence: Bauer 1991, Statistics
    in Medicine 10; the order statistic as a tolerance limit: Wilks 1941, Annals of Mathematical Statistics 12.
    """
    p_values = binom.cdf(np.arange(len(scores)), len(scores), max_rate)
    rank = int((p_values <= 1 - confidence).sum())
    return float(np.sort(scores)[-rank]) if rank else None


def summarise_verdicts(verdicts: Verdicts, is_defect: Flags, groups: Sequence[str | None]) -> dict[str, Counts | None]:
    """Counts of verdicts and errors, per photograph and per weld, of N photographs.

    A weld is defective when any of its photographs shows a defect. It is accepted when all of them are (so a defective
    weld escapes only then), rejected when any is, and referred otherwise.

    Returns:
        `photographs` and `welds` (None where the weld of some photograph is unknown), each with `accept`, `reject`,
        `refer` (of all), `escapes` (accepted of the defective), `false_calls` (not accepted of the sound) and
        `false_rejects` (rejected of the sound), all as `proportion` gives them, errors with an upper bound alone.
    """
    if any(group is None for group in groups):
        return {"photographs": _count(verdicts, is_defect), "welds": None}
    _, weld = np.unique(np.array(groups, np.str_), return_inverse=True)
    marks = (verdicts != ACCEPT, verdicts == REJECT, is_defect)
    any_open, any_rejected, any_defect = (np.bincount(weld, mark) > 0 for mark in marks)
    of_welds = np.select([any_rejected, any_open], [REJECT, REFER], ACCEPT)
    return {"photographs": _count(verdicts, is_defect), "welds": _count(of_welds, any_defect)}


def _count(verdicts: Verdicts, is_defect: Flags) -> Counts:
    cases = {name: (verdicts == name, np.ones_like(is_defect)) for name in VERDICTS} | {
        "escapes": (verdicts == ACCEPT, is_defect),
        "false_calls": (verdicts != ACCEPT, ~is_defect),
        "false_rejects": (verdicts == REJECT, ~is_defect),
    }
    return {
        name: proportion(int((hit & of).sum()), int(of.sum()), side="two-sided" if name in VERDICTS else "upper")
        for name, (hit, of) in cases.items()
    }


def referral_curve(
    sound_probability: Floats, is_defect: Flags, reject_below: float | None, unlike_training: Flags
) -> dict[str, Floats]:
    """The escape rate against the share referred, as the accept threshold falls from the highest of N scores.

    `reject_below` holds along the curve, and no threshold lies below it; None rejects nothing. Images that are
    `unlike_training` are referred at every threshold. Without a defect the escape rate is nan.

    Returns:
        `accept_above`, `share_referred` (falling) and `escape_rate` (rising), (K,) each, K at most 200.
    """
    floor = reject_below or 0.0
    rejected = (sound_probability < floor) & ~unlike_training
    steps = np.append(np.unique(sound_probability[sound_probability > floor])[::-1], floor)
    thresholds = steps[np.linspace(0, len(steps) - 1, min(200, len(steps))).round().astype(int)]
    accepted = (sound_probability > thresholds[:, None]) & ~unlike_training
    return {
        "accept_above": thresholds,
        "share_referred": 1 - (accepted.sum(axis=1) + rejected.sum()) / len(is_defect),
        "escape_rate": accepted[:, is_defect].mean(axis=1) if is_defect.any() else np.full(len(thresholds), np.nan),
    }
