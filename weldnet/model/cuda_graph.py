"""A training step's forward and backward pass as one CUDA graph each, so that no kernel is launched by itself."""

from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn

from weldnet.errors import InputError
from weldnet.model.network import WeldNet

MODES = ("auto", "on", "off")

AUTO = False
"""Whether `auto` is `on` where a graph can be captured: once scripts/check_gpu.sh has passed on a card."""


def find_obstacle(trainer: Trainer) -> str | None:
    """Why the steps of a trainer cannot be graphs; None where they can."""
    if trainer.strategy.root_device.type != "cuda":
        return f"training runs on {trainer.strategy.root_device.type}"
    if trainer.world_size > 1:
        return "several processes train"
    if trainer.accumulate_grad_batches > 1:
        return "trainer.accumulate_grad_batches adds up gradients, and a graph overwrites them"
    return None


class _Network(nn.Module):
    """What is captured: the graph's `forward` replaces this module's, and the network keeps its own."""

    def __init__(self, network: WeldNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


class GraphedNetwork:
    """Replays a network on batches of the shape of the first one; other batches run as they always do.

    At 300 x 30 a GPU computes faster than its kernels can be launched, hundreds a step. The logits and gradients of a
    replay lie in memory of the graph, which the next replay overwrites: use them, or copy them, before.

    Args:
        network: on a CUDA device; its parameters stay where they are in memory.
    """

    def __init__(self, network: WeldNet) -> None:
        self.network = network
        self.graphed: Callable[[Tensor], Any] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images as `WeldNet` takes them, for a backward pass."""
        if not (self.network.training and torch.is_grad_enabled()):
            return self._run(images)
        if self.graphed is None:
            self._capture(images)
        is_same = (images.shape, images.dtype) == self.shape and self.learns == _learning(self.parameters)
        logits: Tensor = self.graphed(images) if is_same and self.graphed is not None else self._run(images)
        return logits

    def _run(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def _capture(self, images: Tensor) -> None:
        self.parameters = list(self.network.parameters())
        self.shape, self.learns = (images.shape, images.dtype), _learning(self.parameters)
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        # What is captured keeps nodes of autograd that belong to the capture's stream; autograd sees to the order.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        try:
            # It runs the network on the sample first, for warming up; batch norm must not learn from that.
            self.graphed = torch.cuda.make_graphed_callables(
                _Network(self.network), (images.clone(),), allow_unused_input=True
            )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"model.cuda_graphs: {self.network.backbone.name} cannot be captured "
                f"({str(error).splitlines()[0]}); take model.cuda_graphs=off"
            ) from error
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def _learning(parameters: list[nn.Parameter]) -> list[bool]:
    return [parameter.requires_grad for parameter in parameters]
