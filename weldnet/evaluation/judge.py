"""Judge: turns a network's logits and features into calibrated probabilities and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import softmax

from weldnet.evaluation.arrays import Flags, Floats, Labels, Verdicts
from weldnet.evaluation.calibration import fit_temperature, is_separated
from weldnet.evaluation.decision import BOUND_OF_MEMBERS, choose_operating_point, mark_defects
from weldnet.evaluation.novelty import FeatureDistance, choose_threshold
from weldnet.evaluation.verdicts import OperatingPoint, give_verdicts, sound_probability
from weldnet.spelling import tidy


@dataclass(frozen=True, eq=False)
class Outputs:
    """A network's logits (N, C) and pooled features (N, F) of N images, and their actual classes."""

    logits: Floats
    features: NDArray[np.float32]
    labels: Labels


@dataclass(frozen=True, eq=False)
class Judgement:
    """The scores and verdicts of N images.

    Attributes:
        probabilities: of the classes, calibrated, (N, C).
        sound: probabilities of a sound weld, (N,).
        judge: the one that gave the verdicts.
    """

    probabilities: Floats
    sound: Floats
    unlike_training: Flags
    verdicts: Verdicts
    judge: "Judge"


@dataclass(frozen=True, eq=False)
class Judge:
    """Turns outputs into verdicts, and holds the calibration images, so that thresholds can be chosen again.

    Attributes:
        classes: the names of the C classes; `good_classes`, those of sound welds.
        temperature: divides the logits.
        novelty: measures the distance from the training images. An ensemble has one for each member, which measures on
            the member's own columns of the features; the distances are averaged.
        max_distance: the distance above which an image is unlike training.
        point: the thresholds.
        logits, labels: of the M calibration images, which chose neither the epoch nor the temperature.
        notes: reasons to trust the calibration less, one sentence each.
    """

    classes: tuple[str, ...]
    good_classes: tuple[str, ...]
    temperature: Annotated[float, Field(gt=0)]
    novelty: Annotated[tuple[FeatureDistance, ...], Field(min_length=1)]
    max_distance: Annotated[float, Field(gt=0)]
    point: OperatingPoint
    logits: Floats
    labels: Labels
    notes: tuple[str, ...] = ()

    def judge(self, outputs: Outputs) -> Judgement:
        """The scores and verdicts of some images."""
        probabilities, distances = self.score(outputs.logits, outputs.features)
        sound, unlike, verdicts = give_verdicts(probabilities, distances, self.classes, self.point)
        return Judgement(probabilities, sound, unlike, verdicts, self)

    def score(self, logits: Floats, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Calibrated probabilities (B, C) and distances (B,) from logits (B, C) and features (B, F)."""
        ends = np.cumsum([len(each.mean) for each in self.novelty])
        members = zip(self.novelty, np.split(features, ends[:-1], axis=1), strict=True)
        distances = np.mean([novelty.distance(columns) for novelty, columns in members], axis=0)
        return softmax(logits / self.temperature, axis=1), distances / self.max_distance

    def choose(self, good_classes: Sequence[str], **targets: float) -> "Judge":
        """Returns a judge with new thresholds, chosen by `choose_operating_point` on the calibration images.

        Raises:
            InputError: a good class is not one of the classes.
        """
        good_classes = [tidy(name) for name in good_classes]
        sound = sound_probability(softmax(self.logits / self.temperature, axis=1), self.classes, good_classes)
        is_defect = mark_defects(self.labels, self.classes, good_classes)
        point = choose_operating_point(sound, is_defect, good_classes, **targets)
        if len(self.novelty) > 1:
            point = replace(point, reasons=(*point.reasons, BOUND_OF_MEMBERS))
        return replace(self, good_classes=tuple(good_classes), point=point)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Judge":
        """The inverse of `dataclasses.asdict`."""
        # Checkpoints from before there were ensembles hold one distance, not a list.
        members = [values["novelty"]] if isinstance(values["novelty"], Mapping) else values["novelty"]
        tuples = {name: tuple(values[name]) for name in ("classes", "good_classes", "notes")}
        novelty, point = tuple(map(FeatureDistance.from_dict, members)), OperatingPoint.from_dict(values["point"])
        # Older checkpoints hold more.
        known = {each.name: values[each.name] for each in fields(cls)}
        return cls(**{**known, **tuples, "novelty": novelty, "point": point})


def fit_judge(
    classes: Sequence[str],
    good_classes: Sequence[str],
    train: Outputs,
    select: Outputs,
    calibrate: Outputs,
    *,
    by_group: bool,
    **targets: float,
) -> Judge:
    """Calibrates a trained network, and returns its judge.

    Args:
        train: the training images; distances are measured from them.
        select: the validation images that chose the epoch; they fit the temperature and the largest distance.
        calibrate: the other validation images; they choose the thresholds.
        by_group: whether no weld is in both `select` and `calibrate`.
        targets: arguments of `choose_operating_point`.

    Raises:
        InputError: a good class is not one of the classes.
    """
    notes = []
    if is_separated(select.logits, select.labels):
        notes.append("the temperature stays 1, because the network is right on every image that could fit it")
    if not by_group:
        notes.append(
            "too few welds to keep the thresholds' data apart from the model selection: one weld may have chosen both "
            "the epoch and the thresholds"
        )
    novelty = FeatureDistance.fit(train.features, train.labels)
    judge = Judge(
        classes=tuple(classes),
        good_classes=(),
        temperature=fit_temperature(select.logits, select.labels),
        novelty=(novelty,),
        max_distance=max(choose_threshold(novelty.distance(select.features)), 1e-9),
        point=choose_operating_point(np.zeros(0), np.zeros(0, bool), ()),
        logits=calibrate.logits,
        labels=calibrate.labels,
        notes=tuple(notes),
    )
    return judge.choose(good_classes, **targets)
