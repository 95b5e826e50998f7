"""Sums over the batches of an epoch, kept on the device: an update never waits for it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.utilities import dim_zero_cat

from weldnet.evaluation.arrays import Floats
from weldnet.evaluation.metrics import BY_GROUP, METRICS, measure_confusion, measure_groups


class ConfusionMatrix(Metric):
    """A confusion matrix, int64 (C, C): rows are the actual classes, columns the predicted ones.

    Unlike torchmetrics' own, it counts without waiting for the device.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("counts", torch.zeros(num_classes**2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Counts a batch of classes, int64 (B,) each."""
        self.counts.scatter_add_(0, labels * self.num_classes + predicted, torch.ones_like(labels))

    def compute(self) -> Tensor:
        return self.counts.view(self.num_classes, self.num_classes)


class Answers(Metric):
    """The predicted class, the actual class and the group of every image of an epoch, int64 (N,) each."""

    full_state_update = False
    answers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("answers", [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, labels: Tensor, groups: Tensor) -> None:
        """Keeps those of a batch, (B,) each."""
        self.answers.append(torch.stack([predicted, labels, groups], dim=1))

    def compute(self) -> Tensor:
        """int64 (N, 3); of several processes, the images of each together."""
        answers: Tensor = dim_zero_cat(self.answers)
        return answers


class EpochSums(nn.Module):
    """What is counted in an epoch of one stage: `confusion`, `loss` and, where the groups are known, `answers`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.confusion, self.answers = ConfusionMatrix(num_classes), Answers()
        # Looking for NaN would wait for the device.
        self.loss = MeanMetric(nan_strategy="disable")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor, groups: Tensor | None = None) -> None:
        """Adds a batch; labels are int64 (B,) or float (B, C), which count as the class of the largest share."""
        classes = labels.argmax(1) if labels.is_floating_point() else labels
        predicted = logits.detach().argmax(1)
        self.confusion.update(predicted, classes)
        if groups is not None:
            self.answers.update(predicted, classes, groups)
        self.loss.update(loss.detach().expand(len(labels)))

    def measure(self, classes: Sequence[str]) -> dict[str, Floats]:
        """The figures of the epoch so far, by key; NaN for the recall of a class without images."""
        return measure_confusion(self.confusion.compute().cpu().numpy(), classes)

    def finish(self, classes: Sequence[str]) -> dict[str, float]:
        """The figures of the epoch by the keys of `METRICS`, and `recall/<class>` of those present; counts anew."""
        figures = self.measure(classes)
        if self.answers.answers:
            figures[BY_GROUP] = measure_groups(*self.answers.compute().cpu().numpy().T).mean()
            self.answers.reset()
        self.confusion.reset()
        keys = [metric.key for metric in METRICS if metric.key in figures]
        keys += [f"recall/{name}" for name in classes if not math.isnan(figures[f"recall/{name}"])]
        return {key: float(figures[key]) for key in keys}
