"""CUDA graphs: at 300 x 30 a GPU computes faster than its kernels can be launched one by one."""

from collections.abc import Callable

import torch
from torch import Tensor

from weldnet.errors import InputError

WARM_UP = 2
"""Calls that run as they always do, before one is captured: kernels are chosen, the optimizer makes its state."""

Tensors = tuple[Tensor, ...]


class Replay:
    """A function of tensors, captured as a CUDA graph on its third call and replayed from then on.

    Inputs of other shapes than the first ones' run the function itself. What a replay returns lies in memory of the
    graph, which the next one overwrites.

    Args:
        function: what it does must not depend on values, and all that it changes must stay where it is in memory.
        generator: what the function draws from, if it draws; each call continues from its current state.
    """

    def __init__(self, function: Callable[..., Tensors], generator: torch.Generator | None = None) -> None:
        self.function, self.generator = function, generator
        self.inputs: Tensors = ()
        self.num_calls = 0

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Raises:
        InputError: the function cannot be captured.
        """
        self.inputs = self.inputs or tuple(each.clone() for each in inputs)
        if [(each.shape, each.dtype) for each in inputs] != [(each.shape, each.dtype) for each in self.inputs]:
            return self.function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.num_calls += 1
        if self.num_calls <= WARM_UP:
            return run_aside(self.function, *self.inputs)
        if self.num_calls == WARM_UP + 1:
            self.graph, self.outputs = capture(self.function, self.inputs, self.generator)
        self.graph.replay()
        return self.outputs


def run_aside(function: Callable[..., Tensors], *inputs: Tensor) -> Tensors:
    """Runs a function on a stream of its own, as torch asks for before a capture."""
    # Autograd's nodes for the parameters may have seen another stream; autograd sees to the order.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    stream, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(stream)
    with torch.cuda.stream(side):
        outputs = function(*inputs)
    stream.wait_stream(side)
    return outputs


def capture(
    function: Callable[..., Tensors], inputs: Tensors, generator: torch.Generator | None
) -> tuple[torch.cuda.CUDAGraph, Tensors]:
    """Captures a function's work on its inputs, without doing it.

    Returns:
        The graph, and what each replay fills.

    Raises:
        InputError: something in it waits for the device, or is done on the CPU.
    """
    graph = torch.cuda.CUDAGraph()
    if generator:
        graph.register_generator_state(generator)
    try:
        with torch.cuda.graph(graph):
            outputs = function(*inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"model.cuda_graphs: a step cannot be captured ({str(error).splitlines()[0]}); take model.cuda_graphs=off"
        ) from error
    return graph, outputs
