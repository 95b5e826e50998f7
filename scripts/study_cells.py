"""The cells of a study: each one recipe, trained on one set of images with one seed, and measured."""

import gc
import hashlib
import json
import shlex
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import hydra
import numpy as np
import polars as pl
import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from scipy.special import softmax
from torch.utils.flop_counter import FlopCounterMode

from weldnet.config.arguments import quote_verbatim
from weldnet.config.build import build_data, build_model, check_nodes
from weldnet.config.hydra_app import MISTAKES
from weldnet.config.literal import pin
from weldnet.config.mistakes import check_keys, explain
from weldnet.config.runs import keep_log, make_absolute
from weldnet.config.schema import TrainConfig, register_schema, take
from weldnet.config.trainings import prepare_data, prepare_trainer
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.sources.manifest import SCHEMA, SPLITS, read_manifest, write_manifest
from weldnet.data.splits.rules import split_digest
from weldnet.errors import InputError, MachineError, check_choice
from weldnet.evaluation.arrays import Floats
from weldnet.files import lock_folder, write_json, write_parquet
from weldnet.inference.checkpoint import Checkpoint, load_checkpoint
from weldnet.inference.evaluate import evaluate, predict
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.finished_runs import kept_checkpoint
from weldnet.inference.trained_card import current_commit
from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings
from weldnet.training.fit import describe, guard_fit

RESULT, PREDICTIONS, CHECKPOINTS = "cell.json", "predictions.parquet", "checkpoints"

QUIET = ("logger.tensorboard=null", "callbacks.dashboard=null", "trainer.enable_progress_bar=false")
"""What a cell leaves out of a training run; it changes nothing that is measured."""

STEP = 3
"""A training step in times of the forward pass: the gradients of the activations and of the weights cost as much."""

WARM_UP, TIMED = 1, 3

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
"""The dimensions of (B, C, H, W) that a flip at prediction turns round."""


def flatten(entry: Any) -> Any:
    """The overrides of a recipe, which may hold the lists of others, in one list."""
    if not isinstance(entry, list):
        return entry
    return [part for each in entry for part in (flatten(each) if isinstance(each, list) else [each])]


def merge(*parts: Sequence[str]) -> list[str]:
    """Overrides one after the other; a later one takes the place of an earlier one of the same key."""
    merged: dict[str, str] = {}
    for override in (each for part in parts for each in part):
        merged[override.partition("=")[0].lstrip("+")] = override
    return list(merged.values())


Overrides = Annotated[list[str], BeforeValidator(flatten)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSet(_Entry):
    """Images with fixed splits; a training seed changes none of them.

    Attributes:
        data: overrides that name them; `data=manifest` takes the manifest from the command line.
        num_folds, folds: folds of whole groups, and those that are held out, one after the other; their measured
            images are pooled.
        split: which images are measured. With `val` no image of test is ever read.
        chooses: whether a recipe is chosen by this set; else it is only reported.
        seeds: instead of the round's.
        split_seed: of the splits, and of what is drawn.
    """

    data: list[str]
    num_folds: int | None = None
    folds: list[int] = []
    split: Literal["val", "test"] = "test"
    chooses: bool = True
    seeds: list[int] | None = None
    split_seed: int = 0


class Round(_Entry):
    """What is trained together: each recipe, after the overrides in common, on each set with each seed.

    More seeds of the baseline show what chance alone does.
    """

    common: Overrides
    sets: dict[str, ImageSet]
    seeds: list[int] = [0]
    baseline_seeds: list[int] | None = None
    recipes: list[str] | None = None


class Study(_Entry):
    """A table of recipes: lists of overrides as `weldnet-train` takes them, or of such lists."""

    baseline: str
    rounds: dict[str, Round]
    recipes: dict[str, Overrides]


def read_study(file: Path) -> Study:
    """Reads and checks a table of recipes.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    try:
        study = Study.model_validate(OmegaConf.to_container(OmegaConf.load(file)))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InputError(f"{file}: {'; '.join(faults)}") from error
    # A YAML reader fails in many ways; each means the same to the user.
    except Exception as error:
        raise InputError(f"{file} is no YAML: {error}") from error
    for name in (study.baseline, *(each for part in study.rounds.values() for each in part.recipes or ())):
        check_choice("recipe", name, list(study.recipes))
    return study


@dataclass(frozen=True)
class Cell:
    """One recipe on one set (of a fold) with one seed.

    Attributes:
        overrides: as `weldnet-train` takes them.
        split: the images that are measured.
        num_train: training images.
        operations: floating-point operations of one image's forward pass.
        work: those of training, validation and measuring, roughly.
        folder: named by the recipe and by a digest of all that decides the result.
    """

    round: str
    recipe: str
    set: str
    fold: int | None
    seed: int
    overrides: tuple[str, ...]
    split: str
    num_train: int
    operations: float
    work: float
    folder: Path

    def __str__(self) -> str:
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"{self.recipe}, {self.set}{fold}, seed {self.seed}"

    def read(self) -> dict[str, Any] | None:
        """What was measured; None where it has not been yet."""
        try:
            result: dict[str, Any] = json.loads((self.folder / RESULT).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return result


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of `weldnet-train` with these overrides, its keys checked."""
    register_schema("train", TrainConfig)
    try:
        with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
            cfg = hydra.compose("train", [quote_verbatim(override) for override in overrides])
        check_keys(cfg)
    except MISTAKES as error:
        raise InputError(f"{' '.join(overrides)}: {explain(error, 'train')}") from error
    make_absolute(cfg.data)
    return cfg


def split_images(file: Path, images: ImageSet, fold: int | None, manifest: Path | None, cache: Path) -> None:
    """Writes the splits of a set, the same for all recipes and seeds, as a manifest.

    Raises:
        InputError: the manifest is there, and the images are others by now.
    """
    folds = [] if fold is None else [f"data.num_folds={images.num_folds}", f"data.fold={fold}"]
    given = [] if manifest is None else [f"data.manifest={manifest}"]
    cfg = compose([*images.data, *given, *folds, f"seed={images.split_seed}", f"data.cache_dir={cache}"])
    table = build_data(cfg.data, cfg.seed).split()
    if images.split == "val":
        table = table.filter(pl.col("split") != "test")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(table, file)
    elif not read_manifest(file).equals(table.select(list(SCHEMA))):
        raise InputError(f"the images are no longer those of {file}; name a different output folder")


def plan_cells(
    study: Study, round_name: str, recipes: Sequence[str], manifests: dict[str, Path], output: Path
) -> list[Cell]:
    """All cells of a round: those of the baseline, then of the others those of the first seed, and so on.

    Each recipe is checked before anything is trained. A set whose manifest was not given is left out.
    """
    part, cache = study.rounds[round_name], output / "cache"
    there = {name: each for name, each in part.sets.items() if name in manifests or "data=manifest" not in each.data}
    if not there:
        raise InputError(f"no set is left; give the manifest of one: {', '.join(part.sets)}")
    configs = {name: check_recipe(merge(part.common, study.recipes[name])) for name in recipes}
    operations = {name: count_operations(cfg) for name, cfg in configs.items()}
    files = _split_sets(there, manifests, output / "sets" / round_name, cache)
    tables = {key: read_manifest(file) for key, file in files.items()}
    usual = dict.fromkeys(recipes, part.seeds) | {study.baseline: part.baseline_seeds or part.seeds}
    wanted = [
        (seed, recipe, name, fold)
        for recipe in recipes
        for name, fold in files
        for seed in there[name].seeds or usual[recipe]
    ]
    cells = []
    for seed, recipe, name, fold in sorted(wanted, key=lambda each: (each[1] != study.baseline, each[0])):
        own, split, table = merge(part.common, study.recipes[recipe]), there[name].split, tables[name, fold]
        decisive = json.dumps([own, seed, split_digest(table), split])
        digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
        sizes = {each: len(table.filter(split=each)) for each in SPLITS}
        seen = configs[recipe].trainer.max_epochs * (STEP * sizes["train"] + sizes["val"] / 2) + sizes[split]
        given = ["data=manifest", f"data.manifest={files[name, fold]}", f"data.cache_dir={cache}"]
        cell = Cell(
            round=round_name,
            recipe=recipe,
            set=name,
            fold=fold,
            seed=seed,
            overrides=(*own, f"seed={seed}", *given),
            split=split,
            num_train=sizes["train"],
            operations=operations[recipe],
            work=seen * operations[recipe],
            folder=output / "cells" / f"{recipe}-{files[name, fold].stem}-seed_{seed}-{digest}",
        )
        cells.append(cell)
    return cells


def _split_sets(
    sets: Mapping[str, ImageSet], manifests: Mapping[str, Path], folder: Path, cache: Path
) -> dict[tuple[str, int | None], Path]:
    """Splits sets; returns the manifest of each, or of each fold, by the set's name and the fold."""
    files: dict[tuple[str, int | None], Path] = {}
    for name, images in sets.items():
        folds: list[int | None] = [*images.folds] or [None]
        for fold in folds:
            file = folder / f"{name}{'' if fold is None else f'_{fold}'}.csv"
            split_images(file, images, fold, manifests.get(name), cache)
            files[name, fold] = file
    return files


def check_recipe(overrides: Sequence[str]) -> DictConfig:
    """The config of a recipe, every node and number of it checked, without images."""
    cfg = pin(compose(overrides), Path("study"))
    check_nodes(cfg)
    build_data(cfg.data, cfg.seed)
    return cfg


def count_operations(cfg: DictConfig) -> float:
    """The floating-point operations of one image's forward pass."""
    size = cfg.data.image_size
    settings = replace(take(ModelSettings, cfg.model), weights="none")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = WeldClassifier(["", ""], settings, size=(size.height, size.width)).network.eval()
        network(torch.empty(1, 3, size.height, size.width))
    return float(counter.get_total_flops())


def find_clock() -> Callable[[], float]:
    """Seconds of the processor, which other work on the machine does not count in; with a GPU those of the wall."""
    if not torch.cuda.is_available():
        return time.process_time

    def wait_and_read() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return wait_and_read


class EpochTimes(Callback):
    """Notes the seconds of each training epoch, validation left out."""

    def __init__(self) -> None:
        self.clock, self.seconds = find_clock(), list[float]()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(-self.clock())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seconds[-1] += self.clock()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seconds[-1] -= self.clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds[-1] += self.clock()


def time_operations(cell: Cell) -> float:
    """The seconds of a floating-point operation, by a few steps of a cell's network on its own images."""
    cfg = pin(compose([*cell.overrides, *QUIET]), cell.folder)
    prepare_trainer(cfg, cell.folder)
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, clock = build_model(cfg, data).to(device).train(), find_clock()
    optimizer = model.make_optimizer(model.network.parameters())
    images, labels = (each.to(device) for each in next(iter(data.train_dataloader())))
    is_half = "bf16" in str(cfg.trainer.precision)
    started = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            started = clock()
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if is_half else nullcontext():
            loss = model.criterion(model.network(images), labels)
        loss.backward()
        optimizer.step()
    return (clock() - started) / (TIMED * STEP * len(labels) * count_operations(cfg))


def run_cell(cell: Cell) -> dict[str, Any] | None:
    """Trains and measures a cell, or reads what was measured before; None where another process is at work on it."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(cell.folder))
        except InputError:
            return None
        return cell.read() or _measure(cell)


def _measure(cell: Cell) -> dict[str, Any]:
    clock, times = find_clock(), EpochTimes()
    started, began = clock(), time.perf_counter()
    # Of a process that was killed.
    shutil.rmtree(cell.folder / CHECKPOINTS, ignore_errors=True)
    result: dict[str, Any] = {
        "round": cell.round,
        "recipe": cell.recipe,
        "set": cell.set,
        "fold": cell.fold,
        "seed": cell.seed,
        "split": cell.split,
        "command": shlex.join(["weldnet-train", *cell.overrides]),
        "commit": current_commit(),
        "date": str(date.today()),
    }
    try:
        report, kept_epoch, flipped = _train(cell, times)
    except MachineError:
        # No fault of the recipe.
        raise
    except InputError as error:
        result["error"] = str(error)
    else:
        metrics, predictions = report.metrics(), report.samples.select("path", "label", "group")
        predictions = predictions.with_columns(logits=report.logits, flipped=flipped.argmax(axis=1))
        write_parquet(cell.folder / PREDICTIONS, predictions)
        result["classes"] = list(report.classes)
        result |= {key: metrics[key] for key in ("balanced_accuracy", "accuracy", "loss", "num_images")}
        result |= {"num_epochs": len(times.seconds), "kept_epoch": kept_epoch}
        result |= {"epoch_s": statistics.median(times.seconds), "training_s": sum(times.seconds)}
        result["images_per_s"] = cell.num_train / result["epoch_s"]
    shutil.rmtree(cell.folder / CHECKPOINTS, ignore_errors=True)
    # Model and trainer hold each other.
    gc.collect()
    result |= {"cost_s": clock() - started, "wall_s": time.perf_counter() - began}
    write_json(cell.folder / RESULT, result)
    return result


def _train(cell: Cell, times: EpochTimes) -> tuple[EvaluationReport, int, Floats]:
    """Trains a cell as `weldnet-train` does; what the kept epoch is worth, which one it is, from 1, and the
    probabilities of `average_flips`."""
    cfg = pin(compose([*cell.overrides, *QUIET]), cell.folder)
    with keep_log(cell.folder / "train.log"):
        data, trainer = prepare_data(cfg, cell.folder, prepare_trainer(cfg, cell.folder))
        model = build_model(cfg, data)
        model.record = describe(data, model, OmegaConf.to_yaml(cfg)).to_plain()
        # First of all, so that the checkpoints' writing is no part of an epoch.
        trainer.callbacks.insert(0, times)  # type: ignore[attr-defined]
        with guard_fit(data, trainer):
            trainer.fit(model, datamodule=data)
        checkpoint = load_checkpoint(kept_checkpoint(cell.folder))
        flipped = average_flips(checkpoint, data, cell.split)
        return evaluate(checkpoint, data, cell.split), checkpoint.num_epochs, flipped


def average_flips(checkpoint: Checkpoint, data: WeldDataModule, split: str) -> Floats:
    """Probabilities (images, classes), each the mean over an image, its two mirror images and its half turn."""
    probabilities: list[Floats] = []
    for dims in FLIPS:
        classifier = checkpoint.classifier()
        classifier.network.trunk.register_forward_pre_hook(lambda _, given, dims=dims: given[0].flip(dims))
        probabilities.append(softmax(predict(classifier, data, split, "auto").logits, axis=1))
    mean: Floats = np.mean(probabilities, axis=0)
    return mean
