"""The ensemble of a cross-validation: the networks of all folds in one checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from weldnet.audit.labels import HeldOut
from weldnet.errors import InputError, first_line
from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.judge import Judge
from weldnet.evaluation.settings import Targets
from weldnet.files import read_csv
from weldnet.inference.checkpoint import RECORD, Checkpoint, load_checkpoint, write_checkpoint
from weldnet.inference.finished_runs import kept_checkpoint
from weldnet.training.crossval_report import CrossvalReport

log = logging.getLogger(__name__)

OUT_OF_FOLD = "out_of_fold"
"""The `validation_groups` of an ensemble: its thresholds rest on unseen welds, each scored by one member."""

LAST_LAYER = ("head.weight", "head.bias")

_ALIKE = ("classes", "good_classes", "geometry", "backbone", "channels_last", "mean", "std")


def write_ensemble(report: CrossvalReport, folders: Mapping[int, Path], file: Path) -> None:
    """Writes a checkpoint of the networks of all folds, from the files that their tests left.

    Its thresholds are chosen on the images of all folds, each with the probabilities of the member that never saw its
    weld, for the targets of the folds.
    """
    members = [load_checkpoint(kept_checkpoint(folder)) for folder in folders.values()]
    _check_alike(report, folders, members)
    first, judge = members[0].card, _fit_judge(report, members)
    groups = first.validation_groups
    trained = _join([member.card.fingerprints for member in members])
    card = first.model_copy(
        update={
            "validation_groups": OUT_OF_FOLD if groups in ("known", "unseen") else groups,
            "fingerprints": trained,
            # Each image chose the thresholds.
            "validation_fingerprints": _join([trained, *(member.card.validation_fingerprints for member in members)]),
            "groups": _join([member.card.groups for member in members]),
            "leaks": _merge(member.card.leaks for member in members),
            "selection": "; ".join(_merge([member.card.selection] for member in members)),
            "judge": judge,
            "members": [member.digest for member in members],
        }
    )
    # Each member divides its logits by its temperature.
    weights = {
        f"network.members.{number}.{name}": value / member.card.temperature if name in LAST_LAYER else value
        for number, member in enumerate(members)
        for name, value in member.weights.items()
    }
    num_epochs = max(member.num_epochs for member in members)
    write_checkpoint({"epoch": num_epochs - 1, "state_dict": weights, RECORD: card.to_plain()}, file)


def read_held_out(run: Path) -> HeldOut:
    """What a finished cross-validation predicts for each of its images, from the files that it left."""
    table_file, ensemble = run / "predictions.csv", run / "checkpoints" / "ensemble.ckpt"
    if not (table_file.is_file() and ensemble.is_file()):
        raise InputError(
            f"crossval: no finished cross-validation in {run}; name a folder below runs/crossval, or last. Finish one "
            "that was stopped: weldnet-crossval ckpt_path=RUN"
        )
    card, name = load_checkpoint(ensemble).card, str(table_file)
    if card.leaks:
        log.warning(
            "crossval: a network that has seen a weld may have learned its wrong labels, which stay hidden then: %s",
            "; ".join(card.leaks),
        )
    try:
        table = read_csv(table_file)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(f"{name} is damaged: {first_line(error)}") from error
    probabilities, labels = _read_predictions(table, card.classes, name)
    predicted = pl.Series("predicted", np.array(card.classes)[probabilities.argmax(axis=1)])
    images = table.select("path", "label").with_columns(predicted)
    return HeldOut(images, probabilities, labels, card.validation_fingerprints.numpy())


def _check_alike(report: CrossvalReport, folders: Mapping[int, Path], members: Sequence[Checkpoint]) -> None:
    """Refuses members that are not as they were tested, or differ in what one card holds for all."""
    for fold, member in zip(folders, members, strict=True):
        if member.digest != report.folds[fold]["checkpoint_digest"] or member.card.judge is None:
            raise InputError(
                f"no ensemble: {member.path} is not as it was tested; to test it again, remove metrics.json in "
                f"{folders[fold]} and resume"
            )
        for name in _ALIKE:
            if getattr(member.card, name) != getattr(members[0].card, name):
                raise InputError(f"no ensemble: {member.path} and {members[0].path} differ in their {name}")
        if _targets(member) != _targets(members[0]):
            raise InputError(f"no ensemble: {member.path} and {members[0].path} have different targets (decision)")


def _fit_judge(report: CrossvalReport, members: Sequence[Checkpoint]) -> Judge:
    judges = [judge for member in members if (judge := member.card.judge)]
    first = judges[0]
    table = report.predictions
    probabilities, labels = _read_predictions(table, first.classes, "no ensemble: predictions.csv of a fold")
    judge = Judge(
        classes=first.classes,
        good_classes=first.good_classes,
        temperature=1.0,
        novelty=tuple(each.novelty[0].in_units_of(each.max_distance) for each in judges),
        max_distance=1.0,
        point=first.point,
        logits=np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)),
        labels=labels,
    )
    return judge.choose(first.good_classes, **_targets(members[0]))


def _targets(member: Checkpoint) -> dict[str, float]:
    return {each.name: getattr(member.card.point, each.name) for each in fields(Targets)}


def _read_predictions(table: pl.DataFrame, classes: Sequence[str], name: str) -> tuple[Floats, Labels]:
    """The calibrated probabilities (N, C) and the labels (N,) of pooled predictions, which `name` names."""
    try:
        if table.select("path", "label").null_count().sum_horizontal().item():
            raise InputError(f"{name} is damaged: a path or a label is empty")
        probabilities = table.select(pl.col([f"p_{label}" for label in classes]).cast(pl.Float64)).to_numpy()
        labels = table["label"].cast(pl.Enum(classes)).to_physical().to_numpy().astype(np.int64)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{name} is damaged: {first_line(error)}") from error
    if not np.allclose(probabilities.sum(axis=1), 1) or (probabilities < 0).any():
        raise InputError(f"{name} is damaged: its probabilities do not sum to 1")
    return probabilities, labels


def _join(fingerprints: Sequence[torch.Tensor]) -> torch.Tensor:
    joined: torch.Tensor = torch.cat(list(fingerprints)).unique()  # type: ignore[no-untyped-call]
    return joined


def _merge(lists: Any) -> list[str]:
    return list(dict.fromkeys(each for texts in lists for each in texts))
