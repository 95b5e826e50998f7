"""What torch computes on: threads, devices, fast number formats, CUDA graphs."""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from weldnet.errors import InputError, check_choice, first_line
from weldnet.hardware import available_cores

log = logging.getLogger(__name__)

WARM_UP = 2
"""Ordinary calls before the captured one, in which kernels are chosen and the optimizer makes its state."""

Tensors = tuple[Tensor, ...]
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def use_available_cores() -> None:
    """Gives torch one thread for each available core, unless OMP_NUM_THREADS is set.

    Threads beyond a container's quota wait for one another at every step: training slows several times over.
    """
    if "OMP_NUM_THREADS" not in os.environ and available_cores() < torch.get_num_threads():
        torch.set_num_threads(available_cores())


def best_precision(accelerator: str) -> str:
    """Lightning's name for the fastest precision that trains safely: bfloat16 where the hardware multiplies it."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = accelerator in ("auto", "cpu") and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return "bf16-mixed" if fast else "32-true"


FLOAT32_OPERATORS: Any = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
"""RNNs, too: torch raises where only some of cuDNN's operators differ and `allow_tf32` is read."""


def use_tf32() -> None:
    """On a GPU, float32 convolutions multiply in TF32 (10 bits of mantissa) from now on, products of matrices do not.

    This is torch's default; the precision of a training run should not depend on a default.
    """
    for operator, precision in zip(FLOAT32_OPERATORS, ("tf32", "tf32", "ieee"), strict=True):
        operator.fp32_precision = precision


_EXACT_LOCK = threading.Lock()
_BEFORE_EXACT: list[list[str]] = []
"""The settings that each context of `exact_float32` found: they are the process's, and threads overlap."""


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within it, float32 is float32 on a GPU, too: neither convolutions nor products in TF32.

    By torch's settings for each operator alone: mixed with the older `allow_tf32`, torch warns and then raises.
    """
    with _EXACT_LOCK:
        _BEFORE_EXACT.append([each.fp32_precision for each in FLOAT32_OPERATORS])
        for each in FLOAT32_OPERATORS:
            each.fp32_precision = "ieee"
    try:
        yield
    finally:
        # The last one to leave restores what the first one found.
        with _EXACT_LOCK:
            for each, precision in zip(FLOAT32_OPERATORS, _BEFORE_EXACT.pop(), strict=True):
                each.fp32_precision = precision


def choose_device(device: str) -> torch.device:
    """The torch device of `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1` or `mps`, if it is there."""
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    check_choice("device", device.split(":")[0], ("auto", "cpu", "cuda", "mps"))
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device} is not there ({first_line(error)}); device=cpu always is") from error
    return torch.device(device)


class Replay:
    """A function of tensors, captured as a CUDA graph and replayed from then on.

    At 300 x 30 a GPU computes faster than its kernels can be launched one by one.

    It is captured for the first shapes that it is called with three times, those of the usual batch. All others run the
    function itself, as all do where it cannot be captured. What a replay returns lies in memory of the graph, which the
    next one overwrites.

    Args:
        function: what it does must not depend on values, and all that it changes must stay where it is in memory.
        generator: what the function draws from, if it draws; each call continues from its current state.
        subject: what the function does, for messages.
        is_required: raise an error where it cannot be captured, instead of a warning.
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        generator: torch.Generator | None = None,
        *,
        subject: str,
        is_required: bool = False,
    ) -> None:
        self.function, self.generator = function, generator
        self.subject, self.is_required = subject, is_required
        self.num_calls: Counter[Shapes] = Counter()
        self.captured: Shapes | None = None
        self.can_be_captured = True

    def __call__(self, *inputs: Tensor) -> Tensors:
        """The function's results, by a replay where it is captured."""
        shapes = tuple((each.shape, each.dtype) for each in inputs)
        if self.captured is None and self.can_be_captured:
            self.num_calls[shapes] += 1
            if self.num_calls[shapes] <= WARM_UP:
                return run_aside(self.function, *inputs)
            self._capture(shapes, inputs)
        if shapes != self.captured:
            return self.function(*inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _capture(self, shapes: Shapes, inputs: Tensors) -> None:
        self.inputs = tuple(each.clone() for each in inputs)
        try:
            self.graph, self.outputs = capture(self.function, self.inputs, self.generator)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._refuse(error)
        else:
            self.captured = shapes

    def _refuse(self, error: RuntimeError) -> None:
        # torch's own at the end of a capture hides the first.
        reason = first_line(error.__context__ or error)
        message = f"model.cuda_graphs: {self.subject} cannot be captured ({reason})"
        if self.is_required:
            raise InputError(f"{message}; take model.cuda_graphs=auto") from error
        log.warning("%s, and is launched kernel by kernel", message)
        self.can_be_captured = False


def run_aside(function: Callable[..., Tensors], *inputs: Tensor) -> Tensors:
    """Runs a function on a stream of its own, as torch asks for before a capture."""
    # Autograd's nodes for the parameters may have seen a different stream; autograd sees to the order.
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
    """Captures a function's work on its inputs as a graph, without doing it; returns it with what each replay fills.

    Raises:
        RuntimeError: something in it waits for the device, or is done on the CPU.
    """
    graph = torch.cuda.CUDAGraph()
    if generator:
        graph.register_generator_state(generator)
    # What other threads do, such as to pin memory, is none of the capture; after a failed one torch leaves its stream.
    with (
        torch.cuda.stream(torch.cuda.current_stream()),
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        outputs = function(*inputs)
    return graph, outputs
