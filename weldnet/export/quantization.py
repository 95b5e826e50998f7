"""From an OpenVINO network in float32 to one with int8 convolutions and thresholds of its own."""

import io
import logging
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from weldnet.data.batches import WeldImages
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.arrays import Labels
from weldnet.evaluation.decision import choose_operating_point, mark_defects
from weldnet.evaluation.judge import Judge
from weldnet.evaluation.verdicts import OperatingPoint, sound_probability
from weldnet.export.settings import Int8Settings
from weldnet.inference.engines import Scores, import_extra
from weldnet.model.network import WeldNet


def quantise(network: Any, images: WeldImages, settings: Int8Settings, num_float: int) -> Any:
    """A new `openvino.Model` of one with two outputs, whose convolutions are int8, but for the first `num_float`.

    Some of the `images`, of the training split, choose the ranges of the activations.
    """
    # Importing nncf makes torch warn of a CUDA compiler without a GPU, irrelevant here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    nncf = import_extra("nncf")
    # nncf.set_log_level changes its handlers as well, some of which may be others'.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    rows = draw_evenly(images.labels.numpy(), settings.num_calibration_images)
    dataset = nncf.Dataset(rows.tolist(), lambda row: images.pictures([row]))
    # From the pooled features to the results: head, softmax, distance.
    pool = next(op for op in network.get_ordered_ops() if op.get_type_name() == "ReduceMean")
    results = [result.input_value(0).get_node().get_friendly_name() for result in network.get_results()]
    tail = nncf.Subgraph(inputs=[pool.get_friendly_name()], outputs=results)
    # Those of a stage come before those of the next.
    kinds = ("Convolution", "GroupConvolution")
    convolutions = [op.get_friendly_name() for op in network.get_ordered_ops() if op.get_type_name() in kinds]
    kept = nncf.IgnoredScope(names=convolutions[:num_float], subgraphs=[tail])
    # The mean range of the images, nncf's own choice, cuts off what makes an image unlike training.
    full_range = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    # Its progress is for a terminal.
    with nullcontext() if sys.stdout.isatty() else redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            dataset,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(rows),
            ignored_scope=kept,
            advanced_parameters=nncf.AdvancedQuantizationParameters(activations_range_estimator_params=full_range),
        )


def draw_evenly(labels: Labels, num_images: int) -> NDArray[np.int64]:
    """At most `num_images` indices into `labels` (N,), ascending, as many of each class as it has."""
    order = np.random.default_rng(0).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        turn[labels[order] == label] = np.arange((labels == label).sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:num_images]])


def count_convolutions(network: WeldNet, through: str) -> int:
    """How many convolutions a network has from the pixels through a stage; an InputError for no such stage."""
    stages = list(network.backbone.stages)
    check_choice("export.float_through", through, stages[:-1])
    kept = [module for name in stages[: stages.index(through) + 1] for module in network.stage(name)]
    return sum(isinstance(module, nn.Conv2d) for module in kept)


def choose_point(before: Scores, after: Scores, data: WeldDataModule, judge: Judge) -> OperatingPoint:
    """Thresholds for the judge's targets from the same calibration images, scored by a different network.

    The scores are of all validation images, by the checkpoint and by that network. That validation is not split as it
    was in training is an InputError.
    """
    calibrates, point = (data.samples("val")["half"] == "calibrate").to_numpy(), judge.point
    known, seen = softmax(judge.logits / judge.temperature, axis=1), before.probabilities[calibrates]
    if known.shape != seen.shape or np.abs(known - seen).max() > 0.01:
        raise InputError(
            "int8 needs thresholds of its own, from the images that chose the checkpoint's; these data split "
            "validation in a different way. Give them as the training had them; where they have moved, by data.root=DIR"
        )
    sound = sound_probability(after.probabilities[calibrates], judge.classes, point.good_classes)
    return choose_operating_point(
        sound,
        mark_defects(judge.labels, judge.classes, point.good_classes),
        point.good_classes,
        max_escape_rate=point.max_escape_rate,
        max_false_reject_rate=point.max_false_reject_rate,
        confidence=point.confidence,
    )
