"""The gate of an export: what it says of real images, beside what its checkpoint says of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import cycle
from typing import Any

import numpy as np
import torch
from rich.progress import track
from sklearn.metrics import confusion_matrix

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.decision import OperatingPoint, Verdicts, mark_defects, summarise_verdicts
from weldnet.evaluation.judge import give_verdicts
from weldnet.evaluation.metrics import Labels, summarise_confusion
from weldnet.export.settings import Bounds
from weldnet.hardware import available_cores
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.predictor import MAX_BATCH, MAX_BATCH_PIXELS

BATCH_SIZES = (1, MAX_BATCH, 7)
"""Taken in turn: a network that is right for one size only is found out."""


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
        said = list(track(pool.map(score, batches), f"measuring on {split}", total=len(batches)))
    return Scores(*map(np.concatenate, zip(*said, strict=True)))


def measure_float(
    before: Scores, after: Scores, classes: Sequence[str], point: OperatingPoint, bounds: Bounds
) -> dict[str, Any]:
    """How far an export in float32 is from its checkpoint on N images.

    A verdict may differ where the checkpoint's own score lies so near a threshold that an error within the bound can
    carry it across; any other difference is unexplained.

    Args:
        before, after: the scores of the checkpoint and of the export.
        classes: C names.
        point: gives the verdicts of both.

    Returns:
        `num_images`, the three of `measure_errors`, `verdict_changes`, `unexplained_verdict_changes`, `bounds`.
    """
    bound = bounds.max_probability_error
    sound, _, were = give_verdicts(*before, classes, point)
    changed = give_verdicts(*after, classes, point)[2] != were
    near = np.abs(before.distances - 1) <= bound
    for threshold in (point.accept_above, point.reject_below):
        if threshold is not None:
            near |= np.abs(sound - threshold) <= bound
    return {
        "num_images": len(changed),
        **measure_errors(before, after),
        "verdict_changes": int(changed.sum()),
        "unexplained_verdict_changes": int((changed & ~near).sum()),
        "bounds": {"max_probability_error": bound},
    }


def measure_errors(before: Scores, after: Scores) -> dict[str, float]:
    """`largest_probability_error`, `mean_probability_error`, `largest_distance_error` (relative for distances > 1)."""
    errors = np.abs(after.probabilities - before.probabilities)
    distance_errors = np.abs(after.distances - before.distances) / np.maximum(before.distances, 1)
    return {
        "largest_probability_error": float(errors.max()),
        "mean_probability_error": float(errors.mean()),
        "largest_distance_error": float(distance_errors.max()),
    }


def check_float(figures: dict[str, Any]) -> None:
    """Raises:
    InputError: `measure_float` found more than the bound allows, or an unexplained verdict.
    """
    bound, unexplained = figures["bounds"]["max_probability_error"], figures["unexplained_verdict_changes"]
    errors = [figures[f"largest_{name}_error"] for name in ("probability", "distance")]
    # One at a time: max() passes over nan.
    if all(error <= bound for error in errors) and not unexplained:
        return
    raise InputError(
        "the export is refused: it does not say what its checkpoint says. On "
        f"{figures['num_images']} validation images its probabilities are off by up to "
        f"{figures['largest_probability_error']:.2g} and its distances by up to "
        f"{figures['largest_distance_error']:.2g}, where export.max_probability_error={bound:g} is allowed, and "
        f"{unexplained} verdicts differ for no such reason. Type another format; and report this one"
    )


def measure_int8(
    before: Scores,
    after: Scores,
    labels: Labels,
    classes: Sequence[str],
    points: tuple[OperatingPoint, OperatingPoint],
    bounds: Bounds,
) -> dict[str, Any]:
    """What an int8 network is worth beside its checkpoint on N images.

    Args:
        before, after: the scores of the checkpoint and of the int8 network.
        labels: (N,), indices into `classes`.
        classes: C names.
        points: of the checkpoint, and of the int8 network.

    Returns:
        `num_images`, the three of `measure_errors`, `before` and `after` as `measure_worth` has them,
        `verdict_changes`, `class_changes`, `unlike_changes`, `bounds`.
    """
    verdicts, was = measure_worth(before, labels, classes, points[0])
    others, now = measure_worth(after, labels, classes, points[1])
    called = [scores.probabilities.argmax(axis=1) for scores in (before, after)]
    allowed = asdict(bounds)
    return {
        "num_images": len(labels),
        **measure_errors(before, after),
        "before": was,
        "after": now,
        "verdict_changes": int((verdicts != others).sum()),
        "class_changes": int((called[0] != called[1]).sum()),
        "unlike_changes": int(((before.distances > 1) != (after.distances > 1)).sum()),
        "bounds": {name: allowed[name] for name in allowed if name != "max_probability_error"},
    }


def measure_worth(
    scores: Scores, labels: Labels, classes: Sequence[str], point: OperatingPoint
) -> tuple[Verdicts, dict[str, Any]]:
    """The verdicts on N images, and what they are worth.

    Args:
        labels: (N,), indices into `classes`.
        classes: C names.

    Returns:
        (N,); and `accuracy`, `balanced_accuracy`, `escapes`, `accept`, `reject`, `refer`, the last four as
        `summarise_verdicts` has them, `{"count": k, "of": n}`.
    """
    _, _, verdicts = give_verdicts(*scores, classes, point)
    predicted = scores.probabilities.argmax(axis=1)
    summary = summarise_confusion(confusion_matrix(labels, predicted, labels=range(len(classes))), classes)
    # Photographs count here, so nobody needs to know their welds.
    counts = summarise_verdicts(verdicts, mark_defects(labels, classes, point.good_classes), [None])["photographs"]
    assert counts is not None
    shares = {name: summary[name] for name in ("accuracy", "balanced_accuracy")}
    return verdicts, shares | {name: counts[name] for name in ("escapes", "accept", "reject", "refer")}


def check_int8(figures: dict[str, Any]) -> None:
    """Raises:
    InputError: `measure_int8` found more than a bound allows.
    """
    before, after, num_images = figures["before"], figures["after"], figures["num_images"]
    drop = before["balanced_accuracy"] - after["balanced_accuracy"]
    escapes, defects = after["escapes"]["count"], after["escapes"]["of"]
    changes, unlike = figures["verdict_changes"], figures["unlike_changes"]
    measured = [
        ("max_accuracy_drop", drop, f"balanced accuracy falls by {drop:.4f}, to {after['balanced_accuracy']:.4f}"),
        (
            "max_escape_increase",
            (escapes - before["escapes"]["count"]) / max(1, defects),
            f"{escapes} of {defects} defects are accepted, {before['escapes']['count']} before",
        ),
        # Where all is referred before and after no verdict can differ, whatever the network says.
        *(
            ("max_verdict_changes", number / num_images, f"{number} {what} differ, {number / num_images:.4f} of all")
            for number, what in ((changes, "verdicts"), (unlike, "answers to whether an image is unlike training"))
        ),
    ]
    allowed = figures["bounds"]
    refused = [
        f"  {words}; export.{name}={allowed[name]:g} is allowed"
        for name, value, words in measured
        if not value <= allowed[name]
    ]
    if refused:
        raise InputError(
            f"the int8 export is refused. On {num_images} validation images, of which one is {1 / num_images:.2g} of "
            "all:\n"
            + "\n".join(refused)
            + "\nKeep more of it in float32 (export.float_through=layer1 or layer2), type a larger bound, or take "
            "format=openvino"
        )
