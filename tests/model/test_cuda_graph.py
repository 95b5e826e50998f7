"""A graph computes what the network computes, wherever shapes allow it; on a CPU a stand-in for torch's capture."""

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelPruning, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from training_runs import Batch, Losses, load_batches, make_trainer, quiet

from weldnet.data.augmentation import BatchAugmentation
from weldnet.data.mixing import mix
from weldnet.errors import InputError
from weldnet.hardware import devices
from weldnet.hardware.devices import Replay
from weldnet.model import classifier
from weldnet.model.classifier import WeldClassifier
from weldnet.model.cuda_graph import GRADIENT_HOOKS, GraphedStep, find_obstacle
from weldnet.model.settings import ModelSettings

CLASSES = ["crack", "pore", "good"]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def make_schedule(optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
    """Rates that change and that float32 holds, as a graph reads them."""
    return LambdaLR(optimizer, lambda step: 2.0 ** -(step % 3))


def make_classifier(
    cuda_graphs: str = ModelSettings.cuda_graphs, optimizer: Any = AdamW, **settings: Any
) -> WeldClassifier:
    torch.manual_seed(0)
    settings |= {"cuda_graphs": cuda_graphs, "weights": "none"}
    optimizer = partial(optimizer, fused=True)
    return WeldClassifier(CLASSES, ModelSettings("test_resnet", **settings), optimizer, make_schedule, lr=2**-13)


def draw_batches(number: int, size: int, last: int = 0, height: int = 64, width: int = 32) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    sizes = [size] * number + [last] * (last > 0)
    return [
        (
            torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator),
            torch.arange(n) % len(CLASSES),
        )
        for n in sizes
    ]


class Graph(list[Tensor]):
    """Stands for a CUDA graph, and is what its replays fill."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.function, self.inputs = function, inputs
        self.num_replays = 0

    def replay(self) -> None:
        self.num_replays += 1
        self[:] = self.function(*self.inputs)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that are captured in a test, by a stand-in for torch's."""
    captured: list[Graph] = []

    def capture(function: Callable[..., Any], inputs: tuple[Tensor, ...], generator: Any) -> tuple[Graph, Graph]:
        captured.append(Graph(function, inputs))
        return captured[-1], captured[-1]

    monkeypatch.setattr(devices, "capture", capture)
    monkeypatch.setattr(devices, "run_aside", lambda function, *inputs: function(*inputs))
    monkeypatch.setattr(classifier, "find_obstacle", lambda trainer: None)
    return captured


def add_one(images: Tensor) -> tuple[Tensor]:
    return (images + 1,)


def test_other_shapes_are_not_replayed(graphs: list[Graph]) -> None:
    replayed = Replay(add_one, subject="addition")
    for value in range(5):
        assert float(replayed(torch.full((2,), value))[0][0]) == value + 1
    assert graphs[0].num_replays == 3
    assert torch.equal(replayed(torch.zeros(1))[0], torch.ones(1))
    assert torch.equal(replayed(torch.zeros(2, dtype=torch.float64))[0], torch.ones(2, dtype=torch.float64))
    assert [graph.num_replays for graph in graphs] == [3]


@pytest.mark.parametrize(
    ("sizes", "replays"),
    [
        # As of a run that is resumed at the last batch of an epoch.
        ([1, 4, 4, 4, 1, 4], [2]),
        ([5, 4, 4, 4, 5, 4], [2]),
        # The last batch of an epoch has fewer images, or one more.
        ([4, 4, 4, 5, 4, 4], [3]),
        ([4, 1, 4, 1, 4, 1, 4], [2]),
        ([4, 4], []),
    ],
)
def test_the_usual_batch_is_captured(graphs: list[Graph], sizes: list[int], replays: list[int]) -> None:
    replayed = Replay(add_one, subject="addition")
    for value, size in enumerate(sizes):
        assert torch.equal(replayed(torch.full((size,), value))[0], torch.full((size,), value + 1))
    assert [graph.num_replays for graph in graphs] == replays


class RefusedCapture:
    """Stands for `torch.cuda.graph` where an operation cannot be captured: torch raises again at the end."""

    def __init__(self, graph: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local", "other threads pin memory"

    def __enter__(self) -> None:
        """Nothing; the operations raise."""

    def __exit__(self, *arguments: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions whose capture is refused in a test."""
    refused: list[str] = []
    capture = devices.capture

    def refuse(function: Callable[..., Any], inputs: tuple[Tensor, ...], generator: Any) -> Any:
        def fail(*inputs: Tensor) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        refused.append(function.__name__)
        return capture(fail, inputs, generator)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", RefusedCapture)
    monkeypatch.setattr(devices, "capture", refuse)
    monkeypatch.setattr(devices, "run_aside", lambda function, *inputs: function(*inputs))
    monkeypatch.setattr(classifier, "find_obstacle", lambda trainer: None)
    return refused


REFUSED = "model.cuda_graphs: a training step cannot be captured (operation not permitted when stream is capturing)"


@quiet
def test_steps_that_cannot_be_captured_are_launched(
    tmp_path: Path, refused: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = train(tmp_path, "off", {})
    losses, _ = train(tmp_path, "auto", {})
    assert refused == ["_run"], "it is tried once"
    assert losses == pytest.approx(expected, rel=1e-6)
    assert [record.message for record in caplog.records if record.name == "weldnet.hardware.devices"] == [
        f"{REFUSED}, and is launched kernel by kernel"
    ]


@quiet
def test_a_graph_that_is_asked_for_is_required(tmp_path: Path, refused: list[str]) -> None:
    with pytest.raises(InputError, match=re.escape(f"{REFUSED}; take model.cuda_graphs=auto")):
        train(tmp_path, "on", {})


def train(folder: Path, graphs: str, settings: dict[str, Any], **model: Any) -> tuple[list[float], WeldClassifier]:
    """The losses of two epochs with a smaller batch at the end of each, and what has learned."""
    losses, learner = Losses(), make_classifier(graphs, layer_decay=0.5, **model)
    trainer = make_trainer(folder, **(settings | {"callbacks": [losses, *settings.get("callbacks", [])]}), max_epochs=2)
    trainer.fit(learner, load_batches(*draw_batches(4, 4, 3, 32, 16)), load_batches(*draw_batches(1, 4, 0, 32, 16)))
    return losses.losses, learner


@quiet
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (AdamW, {"gradient_clip_val": 0.1}),
        (Adam, {}),
        (partial(SGD, momentum=0.9, nesterov=True), {}),
    ],
)
def test_a_whole_step_is_lightnings(
    tmp_path: Path, graphs: list[Graph], optimizer: Any, settings: dict[str, Any]
) -> None:
    model = {"optimizer": optimizer, "label_smoothing": 0.1}
    expected, single = train(tmp_path, "off", settings, **model)
    losses, graphed = train(tmp_path, "on", settings, **model)
    assert [graph.num_replays for graph in graphs] == [6], "eight full batches less two"
    assert losses == pytest.approx(expected, rel=1e-6)
    for name, value in single.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-5, atol=1e-7, msg=name)
    rates = [[group["lr"] for group in model.trainer.optimizers[0].param_groups] for model in (single, graphed)]
    assert rates[0] == rates[1]
    assert all(type(rate) is float for rate in rates[1]), "schedules and checkpoints know numbers"
    means = [float(model.trainer.callback_metrics["train/loss_epoch"]) for model in (single, graphed)]
    assert means[1] == pytest.approx(means[0], rel=1e-5)


@quiet
def test_what_learns_anew_is_captured_anew(tmp_path: Path, graphs: list[Graph]) -> None:
    model = {"freeze_through": "stage1", "unfreeze_at_epoch": 1}
    expected, _ = train(tmp_path, "off", {}, **model)
    losses, _ = train(tmp_path, "on", {}, **model)
    assert [graph.num_replays for graph in graphs] == [2, 2], "four full batches each, less two"
    assert losses == pytest.approx(expected, rel=1e-6)


class StillStatistics(Callback):
    """Keeps the statistics of batch norm from the second epoch on."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *arguments: Any) -> None:
        if trainer.current_epoch:
            pl_module.network.trunk.bn1.eval()


@quiet
def test_a_mode_that_a_callback_changes_is_captured_anew(tmp_path: Path, graphs: list[Graph]) -> None:
    expected, _ = train(tmp_path, "off", {"callbacks": [StillStatistics()]})
    losses, _ = train(tmp_path, "on", {"callbacks": [StillStatistics()]})
    assert [graph.num_replays for graph in graphs] == [2, 2]
    assert losses == pytest.approx(expected, rel=1e-6)


@quiet
@pytest.mark.parametrize(("setting", "is_reported"), [("on", True), ("auto", False), ("off", False)])
def test_without_a_gpu_steps_run_as_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, is_reported: bool
) -> None:
    model = make_classifier(cuda_graphs=setting)
    with caplog.at_level(logging.WARNING, "weldnet"):
        batches = load_batches(*draw_batches(1, 4))
        make_trainer(tmp_path, max_steps=1).fit(model, batches, batches)
    expected = "model.cuda_graphs: each step is launched by itself, since training runs on cpu"
    assert [record.message for record in caplog.records] == [expected] * is_reported


def test_the_setting_is_checked() -> None:
    with pytest.raises(InputError, match=r"model\.cuda_graphs=yes: allowed are auto, on, off"):
        make_classifier(cuda_graphs="yes")


class Clips(Callback):
    def on_before_optimizer_step(self, *arguments: Any) -> None:
        """Nothing; that it is there counts."""


def make_optimizer(*, fused: bool = True) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, fused=fused)


def schedule(**settings: Any) -> dict[str, Any]:
    scheduler = OneCycleLR(make_optimizer(), max_lr=0.1, total_steps=10, **settings)
    return {"lr_scheduler_configs": [SimpleNamespace(scheduler=scheduler)]}


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({}, None),
        (schedule(cycle_momentum=False), None),
        (schedule(), "scheduler changes the momentum"),
        ({"strategy": SingleDeviceStrategy(torch.device("cpu"))}, "training runs on cpu"),
        ({"world_size": 2}, "several processes train"),
        ({"strategy": DDPStrategy(parallel_devices=[torch.device("cuda", 0)])}, "DDPStrategy deals with gradients"),
        ({"accumulate_grad_batches": 2}, "adds up gradients"),
        ({"callbacks": [GradientAccumulationScheduler({0: 1})]}, "GradientAccumulationScheduler deals with"),
        ({"callbacks": [StochasticWeightAveraging(0.1)]}, "StochasticWeightAveraging deals with"),
        ({"callbacks": [ModelPruning("l1_unstructured")]}, "ModelPruning deals with"),
        ({"callbacks": [Callback(), Clips()]}, "Clips deals with gradients"),
        ({"precision": "16-mixed"}, "leaves out steps"),
        ({"optimizers": [make_optimizer(fused=False)]}, "not a fused one"),
    ],
)
def test_where_steps_cannot_be_graphs(settings: dict[str, Any], obstacle: str | None) -> None:
    defaults = {
        "strategy": SingleDeviceStrategy(torch.device("cuda", 0)),
        "world_size": 1,
        "accumulate_grad_batches": 1,
        "callbacks": [],
        "precision": "32-true",
        "optimizers": [make_optimizer()],
        "lr_scheduler_configs": [],
    }
    trainer: Any = SimpleNamespace(**(defaults | settings))
    found = find_obstacle(trainer)
    assert found is None if obstacle is None else obstacle in str(found)


@quiet
@pytest.mark.parametrize("hook", [None, *GRADIENT_HOOKS])
def test_a_module_that_deals_with_gradients_gets_them(
    tmp_path: Path, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch, hook: str | None
) -> None:
    class Mine(WeldClassifier):
        pass

    seen: list[bool] = []
    if hook:
        monkeypatch.setattr(Mine, hook, lambda self, *arguments: seen.append(True), raising=False)
    model = make_classifier()
    model.__class__ = Mine
    batches = load_batches(*draw_batches(4, 4, 0, 32, 16))
    make_trainer(tmp_path, max_epochs=1).fit(model, batches, batches)
    assert (len(graphs), len(seen)) == ((0, 4) if hook else (1, 0))


@quiet
def test_half_precision_rounds_no_rate(tmp_path: Path, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[Tensor] = []
    step = GraphedStep.__call__

    def note(self: GraphedStep, *batch: Tensor) -> Any:
        outputs = step(self, *batch)
        rates.append(self.rates.clone())
        return outputs

    monkeypatch.setattr(GraphedStep, "__call__", note)
    model = make_classifier()
    model.lr, model.make_scheduler = 1e-3, None
    batches = load_batches(*draw_batches(1, 4, 0, 32, 16))
    make_trainer(tmp_path, max_epochs=1, precision="bf16-true").fit(model, batches, batches)
    assert torch.equal(rates[0], torch.full_like(rates[0], 1e-3, dtype=torch.float32))


@quiet
def test_a_graph_of_an_interrupted_training_is_dropped(
    tmp_path: Path, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_classifier()
    batches = load_batches(*draw_batches(4, 4, 0, 32, 16))
    monkeypatch.setattr(WeldClassifier, "on_train_end", lambda self: None)
    make_trainer(tmp_path, max_epochs=1).fit(model, batches, batches)
    monkeypatch.setattr(classifier, "find_obstacle", lambda trainer: "of a reason")
    before = model.network.head.weight.detach().clone()
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(model, batches, batches)
    assert graphs[0].num_replays == 2, "those of the first training"
    assert not torch.equal(model.network.head.weight, before)


GPU: dict[str, Any] = {"accelerator": "gpu", "devices": 1, "max_epochs": 7}


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is captured on a GPU in a test."""
    captured: list[str] = []
    capture = devices.capture

    def note(function: Callable[..., Any], *arguments: Any) -> Any:
        captured.append(function.__name__)
        return capture(function, *arguments)

    monkeypatch.setattr(devices, "capture", note)
    return captured


def train_on_gpu(folder: Path, graphs: str, **settings: Any) -> tuple[list[float], WeldClassifier]:
    """The losses of 56 steps, every eighth on a smaller batch, and what has learned."""
    losses = Losses()
    model = make_classifier(graphs)
    trainer = make_trainer(folder, callbacks=[losses], **(GPU | settings))
    trainer.fit(model, load_batches(*draw_batches(7, 16, last=5)), load_batches(*draw_batches(1, 16)))
    return losses.losses, model


@needs_cuda
@quiet
@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.5}])
def test_on_a_gpu_a_graph_learns_what_single_steps_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replays: list[str], settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    single, one = train_on_gpu(tmp_path, "off", **settings)
    assert replays == []
    graph, other = train_on_gpu(tmp_path, "auto", **settings)
    assert replays == ["_run"]
    assert len(graph) == 56
    assert graph == pytest.approx(single, rel=1e-4)
    statistics = {name: value for name, value in one.network.named_buffers() if "running" in name}
    for name, value in statistics.items():
        torch.testing.assert_close(other.network.get_buffer(name), value, rtol=1e-3, atol=1e-3, msg=name)
    counts = [value for name, value in other.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {56}


@needs_cuda
@quiet
def test_on_a_gpu_a_graph_learns_in_mixed_precision(tmp_path: Path, replays: list[str]) -> None:
    graph, _ = train_on_gpu(tmp_path, "on", precision="bf16-mixed")
    assert replays == ["_run"]
    assert sum(graph[-8:]) < sum(graph[:8])


@needs_cuda
@quiet
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches adds up gradients"),
        ({"precision": "16-mixed"}, "trainer.precision=16-mixed leaves out steps"),
        ({"detect_anomaly": True}, "trainer.detect_anomaly checks each result"),
    ],
)
def test_on_a_gpu_what_no_graph_does_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, replays: list[str], settings: dict[str, Any], reason: str
) -> None:
    train_on_gpu(tmp_path, "auto", **settings)
    assert replays == []
    assert any(reason in record.message for record in caplog.records)


@needs_cuda
@quiet
def test_on_a_gpu_a_step_that_waits_is_launched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the stand-in for torch's capture can be refused and continue."""
    learn = WeldClassifier._learn

    def wait(self: WeldClassifier, *batch: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = learn(self, *batch)
        assert loss.item() > 0
        return loss, logits

    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(WeldClassifier, "_learn", wait)
    expected, _ = train_on_gpu(tmp_path, "off")
    losses, _ = train_on_gpu(tmp_path, "auto")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert any("a training step cannot be captured" in record.message for record in caplog.records)


@needs_cuda
def test_on_a_gpu_augmentation_is_replayed_as_it_is(replays: list[str]) -> None:
    """The draws of a replay are those of a generator with the step's seed."""
    augment, generator = BatchAugmentation("weld"), torch.Generator("cuda")

    def change(images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return mix(augment(images, generator), labels, generator, len(CLASSES), 0.2, 1.0)

    replayed = Replay(change, generator, subject="augmentation")
    for seed, (images, labels) in enumerate(draw_batches(6, 16)):
        batch = images.cuda(), labels.cuda()
        generator.manual_seed(seed)
        found = [each.clone() for each in replayed(*batch)]
        generator.manual_seed(seed)
        for mine, expected in zip(found, change(*batch), strict=True):
            torch.testing.assert_close(mine, expected)
    assert replays == ["change"]
