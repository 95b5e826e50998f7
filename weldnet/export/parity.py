"""The parity gate: compares the scores that an export and its checkpoint give to real images."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import torch
from rich.progress import track
from sklearn.metrics import confusion_matrix

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.arrays import Flags, Floats, Labels, Verdicts
from weldnet.evaluation.decision import mark_defects, summarise_verdicts
from weldnet.evaluation.metrics import summarise_confusion
from weldnet.evaluation.verdicts import OperatingPoint, give_verdicts
from weldnet.hardware import available_cores
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.predictor import MAX_BATCH, MAX_BATCH_PIXELS

BATCH_SIZES = (1, MAX_BATCH, 7)
"""Used in turn, to detect an export that is correct for one batch size only."""


def score_split(engine: Engine, data: WeldDataModule, split: str) -> Scores:
    """The scores of a split's images, in the order of `data.samples(split)`; on all cores."""
    dataset, geometry = data.dataset(split), data.geometry
    largest_batch = max(1, MAX_BATCH_PIXELS // (geometry.height * geometry.width))
    batches, start = [], 0
    for size in cycle(BATCH_SIZES):
        batches.append(range(start, min(start + min(size, largest_batch), len(dataset))))
        start = batches[-1].stop
        if start == len(dataset):
            break

    def score(rows: range) -> Scores:
        return engine.score(dataset.pictures(rows))

    # One core for each thread, as in prediction: torch's own threads would compete for the cores.
    with ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        scores = list(track(pool.map(score, batches), f"predicting {split} images", total=len(batches)))
    return Scores(*map(np.concatenate, zip(*scores, strict=True)))


def measure(
    before: Scores,
    after: Scores,
    labels: Labels,
    classes: Sequence[str],
    points: tuple[OperatingPoint, OperatingPoint],
    bounds: dict[str, float],
) -> dict[str, Any]:
    """How far an export (`after`) is from its checkpoint (`before`) on N images, with the keys of `parity.json`.

    A changed verdict is explained if the checkpoint's own score lies within `max_probability_error` of a threshold.
    Every other changed verdict counts as unexplained.

    Args:
        labels: (N,), indices into the C classes.
        points: the operating points of both; an int8 network has its own thresholds.
        bounds: the allowed differences, as `Bounds.of` returns them.
    """
    sides = (before, after)
    decisions = [give_verdicts(*scores, classes, point) for scores, point in zip(sides, points, strict=True)]
    (sound, unlike_before, verdicts_before), (_, unlike_after, verdicts_after) = decisions
    predicted = [scores.probabilities.argmax(axis=1) for scores in sides]
    is_near = measure_margins(before.distances, sound, points[0]) <= bounds.get("max_probability_error", 0.0)
    errors = np.abs(after.probabilities - before.probabilities)
    distance_errors = np.abs(after.distances - before.distances) / np.maximum(before.distances, 1)
    is_defect = mark_defects(labels, classes, points[0].good_classes)
    changed = verdicts_before != verdicts_after
    return {
        "num_images": len(labels),
        "largest_probability_error": float(errors.max()),
        "mean_probability_error": float(errors.mean()),
        "largest_distance_error": float(distance_errors.max()),
        "before": _summarise(predicted[0], verdicts_before, labels, classes, is_defect),
        "after": _summarise(predicted[1], verdicts_after, labels, classes, is_defect),
        "verdict_changes": int(changed.sum()),
        "unexplained_verdict_changes": int((changed & ~is_near).sum()),
        "class_changes": int((predicted[0] != predicted[1]).sum()),
        "unlike_changes": int((unlike_before != unlike_after).sum()),
        "bounds": bounds,
    }


def measure_margins(distances: Floats, sound: Floats, point: OperatingPoint) -> Floats:
    """How far the scores of N images are from the nearest threshold: (N,)."""
    limits = [limit for limit in (point.accept_above, point.reject_below) if limit is not None]
    margins: Floats = np.min([np.abs(distances - 1), *(np.abs(sound - limit) for limit in limits)], axis=0)
    return margins


def _summarise(
    predicted: Labels, verdicts: Verdicts, labels: Labels, classes: Sequence[str], is_defect: Flags
) -> dict[str, Any]:
    summary = summarise_confusion(confusion_matrix(labels, predicted, labels=range(len(classes))), classes)
    # Only the figures by photograph are used, so no groups are needed.
    counts = summarise_verdicts(verdicts, is_defect, [None])["photographs"]
    assert counts is not None
    shares = {name: summary[name] for name in ("accuracy", "balanced_accuracy")}
    return shares | {name: counts[name] for name in ("escapes", "accept", "reject", "refer")}


def check(figures: dict[str, Any]) -> None:
    """Raises an InputError where `measure` found more than a bound allows, or an unexplained change."""
    bounds, num_images = figures["bounds"], figures["num_images"]
    refused = [
        f"  {words}; export.{name}={bounds[name]:g} is allowed"
        for name, value, words in _list_measured(figures)
        if name in bounds and not value <= bounds[name]
    ]
    if refused:
        advice = (
            "Choose a different format, and report this one as a bug"
            if "max_probability_error" in bounds
            else "Keep more layers in float32 (export.float_through=layer1 or layer2), type a larger bound, or use "
            "format=openvino"
        )
        raise InputError(
            f"the export is refused: it differs from its checkpoint. On {num_images} validation images "
            f"(one image is {1 / num_images:.2g} of all):\n" + "\n".join(refused) + f"\n{advice}"
        )


def _list_measured(figures: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    """What each bound limits: its name, the value, and the value in words."""
    before, after = figures["before"], figures["after"]
    for what, error in (
        ("probabilities", figures["largest_probability_error"]),
        ("distances", figures["largest_distance_error"]),
    ):
        yield "max_probability_error", error, f"{what} are off by up to {error:.2g}"
    number = figures["unexplained_verdict_changes"]
    words = f"{number} verdicts differ although no score is near a threshold"
    yield "max_probability_error", math.inf if number else 0, words
    drop = before["balanced_accuracy"] - after["balanced_accuracy"]
    yield "max_accuracy_drop", drop, f"balanced accuracy falls by {drop:.4f}, to {after['balanced_accuracy']:.4f}"
    number, former, defects = after["escapes"]["k"], before["escapes"]["k"], after["escapes"]["n"]
    words = f"{number} of {defects} defects are accepted, {former} before"
    yield "max_escape_increase", (number - former) / max(1, defects), words
    # If every image is referred before and after, no verdict can differ: `unlike` is compared as well.
    for noun, number in (
        ("verdicts", figures["verdict_changes"]),
        ("decisions that an image is unlike training", figures["unlike_changes"]),
    ):
        share = number / figures["num_images"]
        yield "max_verdict_changes", share, f"{number} {noun} differ, {share:.4f} of all images"
