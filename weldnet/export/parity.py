"""The gate of an export: its scores of real images, compared with those of its checkpoint."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import torch
from rich.progress import track
from sklearn.metrics import confusion_matrix

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.decision import Flags, OperatingPoint, Verdicts, mark_defects, summarise_verdicts
from weldnet.evaluation.judge import give_verdicts
from weldnet.evaluation.metrics import Labels, summarise_confusion
from weldnet.hardware import available_cores
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.predictor import MAX_BATCH, MAX_BATCH_PIXELS

BATCH_SIZES = (1, MAX_BATCH, 7)
"""Taken in turn, to find a network that is right for one size only."""


def score_split(engine: Engine, data: WeldDataModule, split: str) -> Scores:
    """The scores of a split's images, in the order of `data.samples(split)`; on all cores."""
    dataset, geometry = data.dataset(split), data.geometry
    most = max(1, MAX_BATCH_PIXELS // (geometry.height * geometry.width))
    batches, start = [], 0
    for size in cycle(BATCH_SIZES):
        batches.append(range(start, min(start + min(size, most), len(dataset))))
        start = batches[-1].stop
        if start == len(dataset):
            break

    def score(rows: range) -> Scores:
        return engine.score(dataset.pictures(rows))

    # One core each, as where it will run: threads of torch's own would fight over the cores.
    with ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        scores = list(track(pool.map(score, batches), f"measuring on {split}", total=len(batches)))
    return Scores(*map(np.concatenate, zip(*scores, strict=True)))


def measure(
    before: Scores,
    after: Scores,
    labels: Labels,
    classes: Sequence[str],
    points: tuple[OperatingPoint, OperatingPoint],
    bounds: dict[str, float],
) -> dict[str, Any]:
    """How far an export is from its checkpoint on N images, with the keys of `parity.json`.

    A verdict may change where the checkpoint's own score lies so near a threshold that an error within
    `max_probability_error` can carry it across; any other change is unexplained.

    Args:
        before, after: the scores of the checkpoint and of the export.
        labels: (N,), indices into the C classes.
        points: of the checkpoint, and of the export; an int8 network has thresholds of its own.
        bounds: as `Bounds.of` gives them.
    """
    sides = (before, after)
    given = [give_verdicts(*scores, classes, point) for scores, point in zip(sides, points, strict=True)]
    (sound, was_unlike, were), (_, is_unlike, are) = given
    predicted = [scores.probabilities.argmax(axis=1) for scores in sides]
    bound, point = bounds.get("max_probability_error", 0.0), points[0]
    near = np.abs(before.distances - 1) <= bound
    for threshold in (point.accept_above, point.reject_below):
        if threshold is not None:
            near |= np.abs(sound - threshold) <= bound
    errors = np.abs(after.probabilities - before.probabilities)
    distance_errors = np.abs(after.distances - before.distances) / np.maximum(before.distances, 1)
    is_defect = mark_defects(labels, classes, point.good_classes)
    worth = [_measure_worth(*each, labels, classes, is_defect) for each in zip(predicted, (were, are), strict=True)]
    return {
        "num_images": len(labels),
        "largest_probability_error": float(errors.max()),
        "mean_probability_error": float(errors.mean()),
        "largest_distance_error": float(distance_errors.max()),
        "before": worth[0],
        "after": worth[1],
        "verdict_changes": int((were != are).sum()),
        "unexplained_verdict_changes": int(((were != are) & ~near).sum()),
        "class_changes": int((predicted[0] != predicted[1]).sum()),
        "unlike_changes": int((was_unlike != is_unlike).sum()),
        "bounds": bounds,
    }


def _measure_worth(
    predicted: Labels, verdicts: Verdicts, labels: Labels, classes: Sequence[str], is_defect: Flags
) -> dict[str, Any]:
    summary = summarise_confusion(confusion_matrix(labels, predicted, labels=range(len(classes))), classes)
    # Photographs count here, so nobody needs to know their welds.
    counts = summarise_verdicts(verdicts, is_defect, [None])["photographs"]
    assert counts is not None
    shares = {name: summary[name] for name in ("accuracy", "balanced_accuracy")}
    return shares | {name: counts[name] for name in ("escapes", "accept", "reject", "refer")}


def check(figures: dict[str, Any]) -> None:
    """Raises an InputError where `measure` found more than a bound allows, or an unexplained change."""
    before, after, num_images, bounds = (figures[name] for name in ("before", "after", "num_images", "bounds"))
    error, distance_error = figures["largest_probability_error"], figures["largest_distance_error"]
    unexplained, changes, unlike = (figures[f"{name}_changes"] for name in ("unexplained_verdict", "verdict", "unlike"))
    accuracy, drop = after["balanced_accuracy"], before["balanced_accuracy"] - after["balanced_accuracy"]
    escaped, escapes, defects = before["escapes"]["count"], after["escapes"]["count"], after["escapes"]["of"]
    measured = [
        ("max_probability_error", error, f"probabilities are off by up to {error:.2g}"),
        ("max_probability_error", distance_error, f"distances are off by up to {distance_error:.2g}"),
        ("max_probability_error", math.inf if unexplained else 0, f"{unexplained} verdicts differ for no such reason"),
        ("max_accuracy_drop", drop, f"balanced accuracy falls by {drop:.4f}, to {accuracy:.4f}"),
        (
            "max_escape_increase",
            (escapes - escaped) / max(1, defects),
            f"{escapes} of {defects} defects are accepted, {escaped} before",
        ),
        # Where all is referred before and after no verdict can differ, whatever the network gives.
        *(
            ("max_verdict_changes", number / num_images, f"{number} {what} differ, {number / num_images:.4f} of all")
            for number, what in ((changes, "verdicts"), (unlike, "answers to whether an image is unlike training"))
        ),
    ]
    refused = [
        f"  {words}; export.{name}={bounds[name]:g} is allowed"
        for name, value, words in measured
        if name in bounds and not value <= bounds[name]
    ]
    if refused:
        advice = (
            "Type another format; and report this one"
            if "max_probability_error" in bounds
            else "Keep more of it in float32 (export.float_through=layer1 or layer2), type a larger bound, or take "
            "format=openvino"
        )
        raise InputError(
            f"the export is refused: it differs from its checkpoint. On {num_images} validation images, of "
            f"which one is {1 / num_images:.2g} of all:\n" + "\n".join(refused) + f"\n{advice}"
        )
