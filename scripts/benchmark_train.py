"""Training beside the bare step and a plain PyTorch loop."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch
from benchmark_common import BATCH, Options, PlainImages, draw_photographs
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import models

from weldnet.console import print_table
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.sources.manifest import read_manifest

WARMUP = 3


def repeat_images(manifest: Path, folder: Path, num_train: int) -> Path:
    """A manifest with `num_train` training images, copies of the given ones in turn, and one batch for validation."""
    table = read_manifest(manifest)
    train = table.filter(split="train") if "train" in table["split"] else table
    val = table.filter(pl.col("split").is_in(["val"]) & pl.col("label").is_in(train["label"].unique().to_list()))
    rows = []
    for split, images, count in (("train", train, num_train), ("val", val if len(val) else train, BATCH)):
        for index in range(count):
            image = images.row(index % len(images), named=True)
            copy = folder / f"{split}_{index:05d}{Path(image['path']).suffix}"
            shutil.copy(image["path"], copy)
            rows.append({"path": copy.name, "label": image["label"], "split": split})
    pl.DataFrame(rows).write_csv(folder / "repeated.csv")
    return folder / "repeated.csv"


def time_steps(batches: Iterator[tuple[Tensor, Tensor]], step: Callable[[Tensor, Tensor], None], steps: int) -> float:
    """Images per second of `steps` steps after a warm-up."""
    for _ in range(WARMUP):
        step(*next(batches))
    synchronize()
    started, seen = time.perf_counter(), 0
    for _ in range(steps):
        images, labels = next(batches)
        step(images, labels)
        seen += len(labels)
    synchronize()
    return seen / (time.perf_counter() - started)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def time_plain(manifest: Path, steps: int) -> float:
    """The origin's loop: 2 workers, float32, contiguous memory, Adam, default threads."""
    table = read_manifest(manifest).filter(split="train")
    network = models.resnet50(num_classes=table["label"].n_unique()).to(device()).train()
    optimizer, criterion = torch.optim.Adam(network.parameters(), lr=0.001), nn.CrossEntropyLoss()

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        criterion(network(images.to(device())), labels.to(device())).backward()
        optimizer.step()

    loader = DataLoader(PlainImages(table), BATCH, shuffle=True, num_workers=2, drop_last=True)
    return time_steps(iter(loader), step, steps)


def compose(manifest: Path) -> Any:
    """The config of `finetune` on a manifest, from random weights, two epochs."""
    import hydra

    from weldnet.config.build import check_nodes
    from weldnet.config.schema import TrainConfig, register_schema

    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["data=manifest", "model.weights=none", "trainer.max_epochs=2"])
    cfg.data.manifest, cfg.data.cache_dir, cfg.data.allow_leak = str(manifest), str(manifest.parent), True
    check_nodes(cfg)
    return cfg


def time_bare(cfg: Any, data: WeldDataModule, steps: int) -> float:
    """Forward, backward and step of the same network and optimizer on one ready batch, nothing else."""
    from weldnet.config.build import build_model

    model = build_model(cfg, data).to(device()).train()
    optimizer = model.make_optimizer(model.network.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, 300, 30), generator=generator).float().to(device())
    labels = torch.arange(BATCH, device=device()) % len(data.classes)
    half = "bf16" in cfg.trainer.precision

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            loss = model.criterion(model.network(images), labels)
        loss.backward()
        optimizer.step()

    return time_steps(iter([(images, labels)] * (WARMUP + steps)), step, steps)


def time_ours(cfg: Any, data: WeldDataModule, steps: int, folder: Path) -> float:
    """The second epoch of `weldnet-train`'s own loop, augmentation, metrics, logger and callbacks included."""
    from weldnet.config.build import build_model, build_trainer
    from weldnet.training.fit import guard_fit

    cfg = cfg.copy()
    cfg.trainer.limit_train_batches, cfg.trainer.limit_val_batches = steps, 1
    cfg.callbacks.epoch_lines, cfg.callbacks.best, cfg.callbacks.last = None, None, None
    cfg.trainer.enable_checkpointing, cfg.trainer.enable_progress_bar = False, False
    model = build_model(cfg, data)
    trainer = build_trainer(cfg, folder)
    with guard_fit(data, trainer):
        trainer.fit(model, datamodule=data)
    return float(trainer.callback_metrics["throughput/images_per_s"])


def run(options: Options) -> dict[str, Any]:
    """Interleaves the three loops and returns the figures."""
    from weldnet.config.build import build_data

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = options.manifest or draw_photographs(folder)
        repeated = repeat_images(manifest, folder, (WARMUP + options.steps) * BATCH)
        cfg = compose(repeated)
        data = build_data(cfg.data, cfg.seed)
        data.setup()
        rates: dict[str, list[float]] = {"ours": [], "bare": [], "plain": []}
        for turn in range(options.repeats):
            rates["bare"].append(time_bare(cfg, data, options.steps))
            rates["ours"].append(time_ours(cfg, data, options.steps, folder / f"run_{turn}"))
            rates["plain"].append(time_plain(repeated, options.steps))
            print(
                f"turn {turn + 1}/{options.repeats}: " + ", ".join(f"{k} {v[-1]:.1f}" for k, v in rates.items()),
                flush=True,
            )
    figures: dict[str, Any] = {f"{name}_images_per_s": statistics.median(values) for name, values in rates.items()}
    for other in ("bare", "plain"):
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates[other], strict=True)]
        figures[f"ours_over_{other}"] = statistics.median(ratios)
        figures[f"ours_over_{other}_range"] = [min(ratios), max(ratios)]
    return figures | {"precision": cfg.trainer.precision, "images": str(options.manifest or "1920x1080 JPEG")}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    table = Table(
        title=f"training, {figures['images']}, {figures['precision']}, {figures['device']}", title_justify="left"
    )
    for column in ("loop", "images/s", "ours is", "range"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    table.add_row("ours (finetune)", f"{figures['ours_images_per_s']:.1f}", "", "")
    for other, text in (("bare", "bare step on ready tensors"), ("plain", "plain PyTorch, the origin's recipe")):
        ratio, (low, high) = figures[f"ours_over_{other}"], figures[f"ours_over_{other}_range"]
        table.add_row(text, f"{figures[f'{other}_images_per_s']:.1f}", f"{ratio:.2f} x", f"{low:.2f} to {high:.2f}")
    print_table(table)
