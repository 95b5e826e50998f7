"""A graph computes what the network computes, wherever shapes allow it; on a CPU a stand-in for torch's capture."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import Batch, Losses, load_batches, make_trainer, quiet

from weldnet.errors import InputError
from weldnet.model.classifier import WeldClassifier
from weldnet.model.cuda_graph import GraphedNetwork
from weldnet.model.network import WeldNet
from weldnet.model.settings import ModelSettings

CLASSES = ["crack", "pore", "good"]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def make_classifier(cuda_graphs: str = ModelSettings.cuda_graphs) -> WeldClassifier:
    torch.manual_seed(0)
    return WeldClassifier(CLASSES, ModelSettings("resnet18", "none", cuda_graphs=cuda_graphs), lr=1e-4)


def draw_batches(number: int, size: int, last: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    sizes = [size] * number + [last] * (last > 0)
    return [
        (torch.randint(0, 256, (n, 3, 64, 32), dtype=torch.uint8, generator=generator), torch.arange(n) % len(CLASSES))
        for n in sizes
    ]


class Capture:
    """Stands for `torch.cuda.make_graphed_callables`: warms up as it does, and counts the replays."""

    def __init__(self) -> None:
        self.num_replays = 0

    def __call__(self, module: nn.Module, sample: tuple[Tensor, ...], allow_unused_input: bool) -> Callable[..., Any]:
        for _ in range(3):
            module(*sample)

        def replay(images: Tensor) -> Any:
            self.num_replays += 1
            return module(images)

        return replay


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Capture:
    capture = Capture()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    return capture


def test_warming_up_leaves_no_trace_in_batch_norm(capture: Capture) -> None:
    network = make_classifier().network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graphed = GraphedNetwork(network)
    (images, _), (others, _) = draw_batches(2, 4)
    graphed(images)
    graphed(others)
    first, second = WeldNet("resnet18", len(CLASSES)), network.state_dict()
    first.load_state_dict(before)
    first(images)
    first(others)
    assert all(torch.equal(value, second[name]) for name, value in first.state_dict().items())
    assert capture.num_replays == 2


def test_other_shapes_and_modes_are_not_replayed(capture: Capture) -> None:
    network = make_classifier().network
    graphed = GraphedNetwork(network)
    (images, _), (fewer, _) = draw_batches(1, 4, last=3)
    graphed(images)
    assert capture.num_replays == 1
    graphed(fewer)
    graphed(images.float())
    with torch.no_grad():
        graphed(images)
    network.eval()
    graphed(images)
    network.train()
    network.freeze("layer1")
    graphed(images)
    assert capture.num_replays == 1
    network.freeze(None)
    graphed(images)
    assert capture.num_replays == 2


def test_a_network_that_cannot_be_captured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    with pytest.raises(InputError, match=r"resnet18 cannot be captured \(operation.*\); take model\.cuda_graphs=off"):
        GraphedNetwork(make_classifier().network)(draw_batches(1, 2)[0][0])


@quiet
@pytest.mark.parametrize(("setting", "is_told"), [("on", True), ("auto", False), ("off", False)])
def test_without_a_gpu_steps_run_as_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, is_told: bool
) -> None:
    model = make_classifier(cuda_graphs=setting)
    with caplog.at_level(logging.WARNING, "weldnet"):
        batches = load_batches(*draw_batches(1, 4))
        make_trainer(tmp_path, max_steps=1).fit(model, batches, batches)
    expected = "model.cuda_graphs: each step is launched by itself, since training runs on cpu"
    assert [record.message for record in caplog.records] == [expected] * is_told


def test_the_setting_is_checked() -> None:
    with pytest.raises(InputError, match=r"model\.cuda_graphs=yes: allowed are auto, on, off"):
        make_classifier(cuda_graphs="yes")


GPU: dict[str, Any] = {"accelerator": "gpu", "devices": 1, "max_epochs": 7}


def train_on_gpu(folder: Path, graphs: str, **settings: Any) -> tuple[list[float], WeldClassifier]:
    """The losses of 56 steps, every eighth on a smaller batch, and what has learned."""
    losses = Losses()
    model = make_classifier(graphs)
    trainer = make_trainer(folder, callbacks=[losses], **(GPU | settings))
    trainer.fit(model, load_batches(*draw_batches(7, 16, last=5)), load_batches(*draw_batches(1, 16)))
    return losses.losses, model


@needs_cuda
@quiet
def test_on_a_gpu_a_graph_learns_what_single_steps_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    single, one = train_on_gpu(tmp_path, "off")
    graph, other = train_on_gpu(tmp_path, "on")
    assert len(graph) == 56
    assert graph == pytest.approx(single, rel=1e-4)
    statistics = {name: value for name, value in one.network.named_buffers() if "running" in name}
    for name, value in statistics.items():
        torch.testing.assert_close(other.network.get_buffer(name), value, rtol=1e-3, atol=1e-3, msg=name)
    counts = [value for name, value in other.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {56}


@needs_cuda
@quiet
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_on_a_gpu_a_graph_learns_in_mixed_precision(tmp_path: Path, precision: str) -> None:
    graph, _ = train_on_gpu(tmp_path, "on", precision=precision)
    assert sum(graph[-8:]) < sum(graph[:8])


@needs_cuda
@quiet
def test_on_a_gpu_accumulated_gradients_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_on_gpu(tmp_path, "on", accumulate_grad_batches=2)
    assert any("trainer.accumulate_grad_batches adds up gradients" in record.message for record in caplog.records)
