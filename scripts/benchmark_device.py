"""Training beside the GPU's own limit: one CUDA graph of a whole step on ready tensors, nothing else."""

import math
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from benchmark_common import Options
from lightning import Callback, LightningModule, Trainer
from rich.table import Table
from sampling import Sampling
from torch import Tensor, nn

from weldnet.console import print_table
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.hardware.devices import exact_float32, use_tf32
from weldnet.model.cuda_graph import GraphedStep
from weldnet.model.network import WeldNet

WARMUP = 10
NUM_CLASSES = 6
SIZE = (300, 30)
BATCHES = (32, 256)
NUM_LOSSES = 50

ORIGIN_IMAGES = 432_000
"""Of the origin's job."""


@dataclass(frozen=True)
class Recipe:
    """What decides how fast a step can be."""

    name: str
    half: bool
    channels_last: bool
    settings: tuple[str, ...]
    autotune: bool = False


FINETUNE = Recipe(
    "finetune", True, True, ("experiment=finetune", "callbacks=averaging", "trainer.precision=bf16-mixed")
)
ORIGIN = Recipe("origin", False, False, ("experiment=origin",), autotune=True)


def time_steps(step: Callable[[], object], steps: int) -> float:
    """Seconds of one step."""
    for _ in range(WARMUP):
        step()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


class BareStep:
    """Forward, backward and a fused step of the optimizer on one ready batch."""

    def __init__(self, recipe: Recipe, batch: int, *, capturable: bool = False) -> None:
        torch.manual_seed(0)
        self.half = recipe.half
        self.network = WeldNet("resnet50", NUM_CLASSES, channels_last=recipe.channels_last).cuda().train()
        # A rate that float32 holds, as a graph reads it.
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 2**-10, fused=True, capturable=capturable)
        self.criterion = nn.CrossEntropyLoss()
        self.images = torch.rand(batch, 3, *SIZE, device="cuda") * 255
        self.labels = torch.arange(batch, device="cuda") % NUM_CLASSES

    def compute(self, images: Tensor, labels: Tensor) -> tuple[Tensor]:
        """The loss."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.half, cache_enabled=False):
            loss: Tensor = self.criterion(self.network(images), labels)
        return (loss,)

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad()
        (loss,) = self.compute(self.images, self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss

    def capture(self) -> Callable[[], None]:
        """The whole step as one graph."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self()
        return self.replay

    def replay(self) -> None:
        """The captured step; the graph does not keep the memory it works on, this object does."""
        self.graph.replay()


def measure_limit(recipe: Recipe, batch: int) -> float:
    """Images per second of the whole step as a graph."""
    rate = batch / time_steps(BareStep(recipe, batch, capturable=True).capture(), 100)
    torch.cuda.empty_cache()
    return rate


def measure_layouts(batch: int) -> dict[str, float]:
    """The origin's limit in exact float32, and in the other memory layout."""
    limits = {"channels_last": measure_limit(replace(ORIGIN, channels_last=True), batch)}
    with exact_float32():
        limits["exact"] = measure_limit(ORIGIN, batch)
    return limits


def compose(recipe: Recipe, folder: Path) -> Any:
    """The config of a recipe on drawn welds, from random weights, two epochs."""
    import hydra

    from weldnet.config.build import check_nodes
    from weldnet.config.schema import TrainConfig, register_schema

    register_schema("train", TrainConfig)
    settings = ["data=synthetic", "data.num_images=960", "data.num_seams=24", "model.weights=none", "trainer=gpu"]
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", [*recipe.settings, *settings, "trainer.max_epochs=2"])
    cfg.data.cache_dir = str(folder / "cache")
    check_nodes(cfg)
    for name in {"epoch_lines", "best", "last", "dashboard"} & set(cfg.callbacks):
        cfg.callbacks[name] = None
    cfg.trainer.limit_val_batches = 1
    cfg.trainer.enable_checkpointing = cfg.trainer.enable_progress_bar = False
    return cfg


def prepare_data(cfg: Any, num_train: int) -> WeldDataModule:
    """Drawn welds whose training images are repeated until there are enough."""
    from weldnet.config.build import build_data

    data = build_data(cfg.data, cfg.seed)
    data.setup()
    train = data.table.filter(split="train")
    others = data.table.filter(pl.col("split") != "train")
    data.table = pl.concat([*[train] * -(-num_train // len(train)), others])
    return data


class Launching(Callback):
    """Milliseconds to launch a step: an epoch's until its last one is launched, waits for a full queue included."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        self.ms = (time.perf_counter() - self.started) / trainer.fit_loop.epoch_loop.batch_progress.current.ready * 1e3


def attempt(measure: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """What is measured; not numbers where it fails, with the reason printed."""
    try:
        return measure()
    except (InputError, RuntimeError):
        traceback.print_exc()
        return math.nan, math.nan


def time_ours(cfg: Any, data: WeldDataModule, folder: Path, steps: int, **settings: str) -> tuple[float, float]:
    """Images per second of the second epoch of `weldnet-train`'s own loop, and milliseconds to launch a step.

    Args:
        settings: `cuda_graphs` and `cache`.
    """
    from weldnet.config.build import build_model, build_trainer
    from weldnet.training.fit import guard_fit

    cfg = cfg.copy()
    cfg.trainer.limit_train_batches, cfg.model.cuda_graphs = steps, settings["cuda_graphs"]
    data.image_settings.cache = settings["cache"]
    model = build_model(cfg, data)
    trainer = build_trainer(cfg, folder)
    trainer.callbacks.append(launching := Launching())  # type: ignore[attr-defined]
    with guard_fit(data, trainer):
        trainer.fit(model, datamodule=data)
    torch.cuda.empty_cache()
    return float(trainer.callback_metrics["throughput/images_per_s"]), launching.ms


def compare_losses() -> float:
    """The largest relative difference of 50 losses in exact float32, of graphs from those of single steps."""
    losses = []
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    for is_graphed in (False, True):
        step = BareStep(ORIGIN, 32)
        graphed = GraphedStep(step.compute, lambda: None, step.optimizer, step.network)
        generator = torch.Generator("cuda").manual_seed(0)
        found = []
        for _ in range(NUM_LOSSES):
            step.images.copy_(torch.rand(step.images.shape, generator=generator, device="cuda") * 255)
            loss = graphed(step.images, step.labels)[0] if is_graphed else step()
            found.append(loss.detach().clone())
        losses.append(torch.stack(found))
    torch.backends.cudnn.deterministic = False
    return float(((losses[1] - losses[0]) / losses[0]).abs().max())


def measure_batch(
    recipe: Recipe, batch: int, cfg: Any, data: WeldDataModule, steps: int, folder: Path
) -> dict[str, Any]:
    """A row of the figures: bare steps and `weldnet-train`'s own loop at one batch size."""
    from weldnet.data.storage import HeldImages

    row: dict[str, Any] = {"recipe": recipe.name, "batch": batch, "limit": measure_limit(recipe, batch)}
    row["eager"] = batch / time_steps(BareStep(recipe, batch), 40)
    with Sampling() as sampling:
        row["ours"], row["launch_ms"] = attempt(
            partial(time_ours, cfg, data, folder / "on", steps, cuda_graphs="auto", cache="disk")
        )
    row["ours_eager"], _ = attempt(
        partial(time_ours, cfg, data, folder / "off", steps // 8, cuda_graphs="off", cache="disk")
    )
    rows = torch.arange(len(data.table["row"].unique())).numpy()
    data.images = HeldImages(torch.as_tensor(data.images.read(rows)))
    row["ours_on_device"], row["launch_on_device_ms"] = attempt(
        partial(time_ours, cfg, data, folder / "device", steps, cuda_graphs="auto", cache="device")
    )
    row["share_of_limit"] = row["ours"] / row["limit"]
    if (recipe, batch) == (FINETUNE, 32):
        print(sampling.describe(16), flush=True)
    return row


def run(options: Options) -> dict[str, Any]:
    """Measures both recipes at both batch sizes, and returns the figures."""
    if not torch.cuda.is_available():
        raise InputError("the benchmark `device` needs a CUDA device")
    use_tf32()
    # Bare steps see the streams of captures.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    figures: dict[str, Any] = {"rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recipe in (FINETUNE, ORIGIN):
            # Kernels are chosen once a process, for each kind of number.
            torch.backends.cudnn.benchmark = recipe.autotune
            cfg = compose(recipe, folder)
            steps = {32: 25 * options.steps, 256: 8 * options.steps}
            data = prepare_data(cfg, max(batch * number for batch, number in steps.items()))
            on_disk = data.images
            for batch in BATCHES:
                data.batch_settings.batch_size, data.images = batch, on_disk
                row = measure_batch(recipe, batch, cfg, data, steps[batch], folder)
                shown = {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
                print(shown, flush=True)
                figures["rows"].append(row)
    figures["origin_limits"] = measure_layouts(32)
    print(figures["origin_limits"], flush=True)
    with exact_float32():
        figures["loss_difference"] = compare_losses()
    return figures


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    columns = {
        "eager": "bare eager",
        "limit": "bare graph = limit",
        "ours_eager": "weldnet-train, graphs off",
        "ours": "graphs on",
        "ours_on_device": "and data.cache=device",
        "launch_ms": "ms to launch a step",
    }
    table = Table(title=f"training on {figures['device']}, images/s", title_justify="left")
    for column in ("recipe", "batch", *columns.values(), "of the limit"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in figures["rows"]:
        rates = [f"{row[key]:,.1f}" if key.endswith("ms") else f"{row[key]:,.0f}" for key in columns]
        table.add_row(row["recipe"], str(row["batch"]), *rates, f"{row['share_of_limit']:.2f}")
    print_table(table)
    origin = next((row for row in figures["rows"] if row["recipe"] == "origin"), None)
    if origin:
        print(f"the origin's job, {ORIGIN_IMAGES:,} images at batch 32: {ORIGIN_IMAGES / origin['ours']:.0f} s")
    print(f"largest relative difference of {NUM_LOSSES} losses, graph against eager: {figures['loss_difference']:.1e}")
