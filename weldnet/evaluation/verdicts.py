"""From scores to verdicts: accept, reject or refer to an inspector, by thresholds that `decision` chooses.

The score of an image is its calibrated probability of being sound. It is accepted above one threshold, rejected below
another, and referred between the two or when it is unlike anything in training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from weldnet.errors import check_choice
from weldnet.evaluation.arrays import Flags, Floats, Verdicts

ACCEPT, REJECT, REFER = VERDICTS = ("accept", "reject", "refer")

DECIDES_NOTHING = "Not fit to decide alone: every photograph goes to an inspector."

NOT_CALIBRATED = (
    "the checkpoint is not calibrated, so every image is referred; the one that its run keeps is (ckpt_path=best)"
)


@dataclass(frozen=True)
class OperatingPoint:
    """The two thresholds, and what they rest on.

    Attributes:
        accept_above: accepted are images whose sound probability is greater; in [0.5, 1], or None to accept nothing.
        reject_below: rejected are images whose sound probability is smaller; in [0, 0.5], or None to reject nothing.
        max_escape_rate: the target for defects accepted / all defects, in (0, 1).
        max_false_reject_rate: the target for sound images rejected / all sound images, in (0, 1).
        confidence: of each target by itself, in (0, 1); both hold together with at least 2 * confidence - 1.
        num_defects, num_sound: calibration images with and without a defect.
        reasons: what could not be met or proven and why, a sentence each.
    """

    accept_above: Annotated[float, Field(ge=0.5, le=1)] | None
    reject_below: Annotated[float, Field(ge=0, le=0.5)] | None
    good_classes: tuple[str, ...]
    max_escape_rate: float
    max_false_reject_rate: float
    confidence: float
    num_defects: int
    num_sound: int
    reasons: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """When a photograph is accepted, rejected or referred, and the targets, a paragraph each."""
        limits = (("accepted", "above", self.accept_above), ("rejected", "below", self.reject_below))
        rules = [
            f"A photograph is {verdict} if its probability of being sound is {side} {100 * limit:.2f} %."
            for verdict, side, limit in limits
            if limit is not None
        ]
        others = (
            "Every other photograph is referred to an inspector, and so is each that is unlike anything in training."
        )
        targets = (
            f"Targets: at most {100 * self.max_escape_rate:g} % of defects accepted and at most "
            f"{100 * self.max_false_reject_rate:g} % of sound photographs rejected, each with "
            f"{100 * self.confidence:g} % confidence, on {self.num_defects:,} calibration photographs with a defect "
            f"and {self.num_sound:,} without."
        )
        rule = " ".join([*rules, others]) if rules else "Every photograph is referred to an inspector."
        return [rule, targets] if self.good_classes else [rule]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OperatingPoint":
        """The inverse of `dataclasses.asdict`; takes lists for tuples."""
        return cls(**{**values, "good_classes": tuple(values["good_classes"]), "reasons": tuple(values["reasons"])})


def sound_probability(probabilities: Floats, classes: Sequence[str], good_classes: Sequence[str]) -> Floats:
    """The probability (N,) in [0, 1] that an image is sound, from calibrated ones (N, C); 0 without a good class."""
    # Several classes may sum to a rounding error above 1, which would lie above every threshold.
    total: Floats = probabilities[:, mark_good(classes, good_classes)].sum(axis=1).clip(max=1.0)
    return total


def mark_good(classes: Sequence[str], good_classes: Sequence[str]) -> Flags:
    """Whether each of the C classes is one of sound welds, (C,); an InputError where a good class is none of them."""
    for name in good_classes:
        check_choice("evaluation.good_classes", name, classes)
    return np.array([name in good_classes for name in classes], np.bool_)


def decide(sound_probability: Floats, unlike_training: Flags, point: OperatingPoint) -> Verdicts:
    """One of `VERDICTS` for each image (N,); what is unlike training, or scores no number, is referred."""
    accepted = sound_probability > (math.inf if point.accept_above is None else point.accept_above)
    rejected = sound_probability < (-math.inf if point.reject_below is None else point.reject_below)
    return np.select([unlike_training, accepted, rejected], [REFER, ACCEPT, REJECT], REFER)


def give_verdicts(
    probabilities: Floats, distances: Floats, classes: Sequence[str], point: OperatingPoint
) -> tuple[Floats, Flags, Verdicts]:
    """For B images, (B,) each: the probability of being sound, whether it is unlike training, and the verdict.

    `probabilities` (B, C) are calibrated; `distances` (B,) are above 1 where an image is unlike training.
    """
    sound = sound_probability(probabilities, classes, point.good_classes)
    unlike = distances > 1
    return sound, unlike, decide(sound, unlike, point)
