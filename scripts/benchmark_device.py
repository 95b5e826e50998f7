"""Training beside the GPU's own limit: one CUDA graph of a whole step on ready tensors, nothing else."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from benchmark_common import Options
from rich.table import Table
from sampling import Sampling
from torch import Tensor, nn

from weldnet.console import print_table
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.hardware import use_tf32
from weldnet.model.cuda_graph import GraphedNetwork
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


RECIPES = (
    Recipe("origin", False, False, ("experiment=origin",)),
    Recipe("finetune", True, True, ("experiment=finetune", "callbacks=averaging", "trainer.precision=bf16-mixed")),
)


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
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3, fused=True, capturable=capturable)
        self.criterion = nn.CrossEntropyLoss()
        self.images = torch.rand(batch, 3, *SIZE, device="cuda") * 255
        self.labels = torch.arange(batch, device="cuda") % NUM_CLASSES
        self.run: Callable[[Tensor], Tensor] = self.network

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.half, cache_enabled=False):
            loss: Tensor = self.criterion(self.run(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss

    def graph_network(self) -> "BareStep":
        """The same with the network as a graph, as training has it."""
        self.run = GraphedNetwork(self.network)
        return self

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


def measure_bare(recipe: Recipe, batch: int) -> dict[str, float]:
    """Images per second of the eager step, of the step with a graphed network, and of the whole step as a graph."""
    rates = {
        "eager": batch / time_steps(BareStep(recipe, batch), 60),
        "graphed_network": batch / time_steps(BareStep(recipe, batch).graph_network(), 150),
        "limit": batch / time_steps(BareStep(recipe, batch, capturable=True).capture(), 150),
    }
    torch.backends.cudnn.benchmark = True
    rates["limit_autotuned"] = batch / time_steps(BareStep(recipe, batch, capturable=True).capture(), 150)
    torch.backends.cudnn.benchmark = False
    torch.cuda.empty_cache()
    return rates


def compose(recipe: Recipe, folder: Path) -> Any:
    """The config of a recipe on drawn welds, from random weights, two epochs."""
    import hydra

    from weldnet.config.build import check_nodes
    from weldnet.config.schema import register_schemas

    register_schemas()
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


def time_ours(cfg: Any, data: WeldDataModule, folder: Path, steps: int, **settings: str) -> float:
    """Images per second of the second epoch of `weldnet-train`'s own loop.

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
    with guard_fit(data, trainer):
        trainer.fit(model, datamodule=data)
    torch.cuda.empty_cache()
    return float(trainer.callback_metrics["throughput/images_per_s"])


def compare_losses(recipe: Recipe) -> float:
    """The largest relative difference of 50 losses, of graphs from those of single steps."""
    losses = []
    torch.backends.cudnn.deterministic = True
    for step in (BareStep(recipe, 32), BareStep(recipe, 32).graph_network()):
        generator = torch.Generator("cuda").manual_seed(0)
        found = []
        for _ in range(NUM_LOSSES):
            step.images.copy_(torch.rand(step.images.shape, generator=generator, device="cuda") * 255)
            found.append(step().detach().clone())
        losses.append(torch.stack(found))
    torch.backends.cudnn.deterministic = False
    return float(((losses[1] - losses[0]) / losses[0]).abs().max())


def run(options: Options) -> dict[str, Any]:
    """Measures both recipes at both batch sizes, and returns the figures."""
    from weldnet.data.storage import HeldImages

    if not torch.cuda.is_available():
        raise InputError("the benchmark `device` needs a CUDA device")
    use_tf32()
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    figures: dict[str, Any] = {"rows": []}
    figures["loss_difference"] = compare_losses(RECIPES[0])
    print(f"losses of {NUM_LOSSES} steps, graph against eager: {figures['loss_difference']:.1e}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recipe in RECIPES:
            cfg = compose(recipe, folder)
            steps = {32: 25 * options.steps, 256: 10 * options.steps}
            data = prepare_data(cfg, max(batch * number for batch, number in steps.items()))
            on_disk = data.images
            for batch in BATCHES:
                row: dict[str, Any] = {"recipe": recipe.name, "batch": batch, **measure_bare(recipe, batch)}
                print(row, flush=True)
                data.batch_settings.batch_size = batch
                data.images = on_disk
                row["ours_eager"] = time_ours(
                    cfg, data, folder / "off", steps[batch] // 3, cuda_graphs="off", cache="disk"
                )
                with Sampling() as sampling:
                    row["ours"] = time_ours(cfg, data, folder / "on", steps[batch], cuda_graphs="on", cache="disk")
                rows = torch.arange(len(data.table["row"].unique())).numpy()
                data.images = HeldImages(torch.as_tensor(on_disk.read(rows)))
                row["ours_on_device"] = time_ours(
                    cfg, data, folder / "device", steps[batch], cuda_graphs="on", cache="device"
                )
                row["share_of_limit"] = max(row["ours"], row["ours_on_device"]) / row["limit"]
                print(row, flush=True)
                print(sampling.describe(12), flush=True)
                figures["rows"].append(row)
    return figures


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    columns = {
        "eager": "bare eager",
        "graphed_network": "bare, network graphed",
        "limit": "bare graph = limit",
        "limit_autotuned": "autotuned",
        "ours_eager": "weldnet-train, graphs off",
        "ours": "graphs on",
        "ours_on_device": "and data.cache=device",
    }
    table = Table(title=f"training on {figures['device']}, images/s", title_justify="left")
    for column in ("recipe", "batch", *columns.values(), "of the limit"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in figures["rows"]:
        rates = [f"{row[key]:,.0f}" for key in columns]
        table.add_row(row["recipe"], str(row["batch"]), *rates, f"{row['share_of_limit']:.2f}")
    print_table(table)
    origin = next((row for row in figures["rows"] if row["recipe"] == "origin"), None)
    if origin:
        print(f"the origin's job, {ORIGIN_IMAGES:,} images at batch 32: {ORIGIN_IMAGES / origin['ours']:.0f} s")
    print(f"largest relative difference of {NUM_LOSSES} losses, graph against eager: {figures['loss_difference']:.1e}")
