"""Counts of actual and predicted classes, kept on the device."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionMatrix(Metric):
    """A confusion matrix, int64 (C, C): rows are the actual classes, columns the predicted ones.

    Unlike torchmetrics' own, an update never waits for the device.

    Args:
        num_classes: C.
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
