"""Logs pictures and tables beside the curves, to every logger that takes them."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.leaks import fingerprints
from weldnet.data.splits.rules import count_by_split
from weldnet.errors import InputError
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.model.classifier import WeldClassifier
from weldnet.report.album import Pixels, draw_gallery
from weldnet.report.charts import draw_charts
from weldnet.report.confusion_chart import draw_confusion
from weldnet.report.photographs import read_photograph
from weldnet.training.loggers import LAYOUT, BoardLogger, Curve, can_draw, last_step, log_extra, report_limits

PAIR_PX = 200
"""The long side of each half of a picture in a gallery."""


class Dashboard(Callback):
    """Draws, after validation, a confusion matrix and the worst mistakes; before training, what the network sees.

    Goes to the run's loggers, see `weldnet.training.loggers`; what they cannot take is reported once.

    Args:
        num_mistakes: validation images in the gallery of mistakes: the wrong ones with the highest losses.
        num_augmented: training images in the gallery of augmented images.
        max_share: the largest share of the time to spend on drawing; a validation that comes too soon for it is not
            drawn, unless it is the last.
    """

    def __init__(self, num_mistakes: int = 12, num_augmented: int = 24, max_share: float = 0.1) -> None:
        if not 0 <= max_share <= 1:
            raise InputError(f"max_share={max_share} of the dashboard: allowed are 0 to 1")
        self.num_mistakes, self.num_augmented, self.max_share = num_mistakes, num_augmented, max_share
        self.started = self.drawing_s = 0.0
        self.title, self.step = "", 0
        self.counts: Tensor | None = None
        self.worst: list[Tensor] = []
        self.num_seen = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            report_limits(trainer)
        if not can_draw(trainer):
            return
        data, model = _data_and_model(trainer, pl_module)
        self.started, self.drawing_s, self.title = perf_counter(), 0.0, ""
        for logger in trainer.loggers:
            if isinstance(logger, BoardLogger):
                logger.experiment.add_custom_scalars(LAYOUT)
        if trainer.ckpt_path is None:
            if "config" in model.record:
                log_extra(trainer, "config", "```yaml\n" + str(model.record["config"]) + "\n```")
            log_extra(trainer, "classes by split", _class_table(data))
        dataset = data.dataset("train")
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(data.seed))[: self.num_augmented]
        plain, labels = torch.from_numpy(dataset.pictures(chosen.tolist())), dataset.labels[chosen]
        images, _ = data.augmented((plain, labels), 0, 0, 0)
        pictures = _pair(data, "train", chosen.tolist(), images.round().to(torch.uint8))
        title = "training images, each beside what the network sees of it"
        log_extra(
            trainer, "train/augmentation", draw_gallery(pictures, [model.classes[each] for each in labels], title)
        )
        self.drawing_s = perf_counter() - self.started

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.worst, self.num_seen = [], 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, ...],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images, labels, *_ = batch
        logits = outputs["logits"]
        predicted = logits.argmax(1)
        losses = functional.cross_entropy(logits, labels, reduction="none").masked_fill(predicted == labels, -1)
        rows = torch.arange(self.num_seen, self.num_seen + len(labels), device=labels.device) * trainer.world_size
        self.num_seen += len(labels)
        found = [losses, predicted, labels, logits.softmax(1).amax(1), rows, images]
        if self.worst:
            found = [torch.cat(both) for both in zip(self.worst, found, strict=True)]
        # Those with the largest losses stay, on the device, so memory does not grow with the data.
        kept = found[0].topk(min(self.num_mistakes, len(found[0]))).indices
        self.worst = [each[kept] for each in found]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not can_draw(trainer):
            return
        self.title, self.step = f"validation after epoch {trainer.current_epoch + 1}", last_step(trainer)
        # The counts of this process: computing the metric would wait for the other processes, which never get here.
        # Cloned, because the metric is reset before a later drawing.
        self.counts = _data_and_model(trainer, pl_module)[1].val_sums.confusion.counts.clone()
        if self.drawing_s <= self.max_share * (perf_counter() - self.started):
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.title:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last validation."""
        began, title, self.title = perf_counter(), self.title, ""
        data, model = _data_and_model(trainer, pl_module)
        assert self.counts is not None
        matrix, good = self.counts.view(len(model.classes), -1).cpu().numpy(), model.record.get("good_classes", ())
        confusion = draw_confusion(matrix, model.classes, title, good)
        log_extra(trainer, "val/confusion_matrix", confusion, self.step)
        _, predicted, actual, certainty, rows, images = (each.cpu() for each in self.worst)
        wrong = predicted != actual
        captions = [
            f"{model.classes[label]}\npredicted {model.classes[guess]}\n{share:.0%}"
            for label, guess, share in zip(actual[wrong], predicted[wrong], certainty[wrong], strict=True)
        ]
        if captions:
            pictures = _pair(data, "select", rows[wrong].tolist(), images[wrong])
            gallery = draw_gallery(pictures, captions, f"worst mistakes, {title}")
            log_extra(trainer, "val/worst_mistakes", gallery, self.step)
        self.drawing_s += perf_counter() - began


def draw_test(trainer: Trainer, tested: EvaluationReport, report: Mapping[str, Any], gallery: Figure | None) -> None:
    """Draws the final test: precision-recall curves, the charts of the report, confusion matrix, and mistakes."""
    if not can_draw(trainer):
        return
    split = tested.facts["split"]
    probabilities = softmax(tested.logits, axis=1) if tested.judgement is None else tested.judgement.probabilities
    for number, name in enumerate(tested.classes):
        if (tested.labels == number).any():
            log_extra(trainer, f"{split}/{name}", Curve(tested.labels == number, probabilities[:, number]))
    # The loggers already have the learning curves.
    charts = {name: figure for name, figure in draw_charts(report).items() if not name.startswith("history")}
    matrix = np.array(report["confusion_matrix"])
    charts["confusion_matrix"] = draw_confusion(matrix, tested.classes, tested.title(), tested.good_classes)
    if gallery is not None:
        charts["mistakes"] = gallery
    for name, figure in charts.items():
        log_extra(trainer, f"{split}/{name}", figure)


def _pair(data: WeldDataModule, split: str, rows: list[int], images: Tensor) -> list[Pixels]:
    """Each photograph, if its file is still there, beside the image uint8 (3, H, W) that the network sees."""
    table = data.samples(split)[rows]
    pictures = []
    for path, known, image in zip(table["path"], fingerprints(table["digest"]), images, strict=True):
        sides = [Image.fromarray(image.permute(1, 2, 0).numpy())]
        if (photograph := read_photograph(path, known, data.geometry.window, PAIR_PX)) is not None:
            # Of a grey file it is grey.
            sides.insert(0, photograph.convert("RGB"))
        fitted = [np.asarray(ImageOps.contain(side, (PAIR_PX, PAIR_PX))) for side in sides]
        height = max(len(side) for side in fitted)
        margins = [((0, height - len(side)), (0, 4), (0, 0)) for side in fitted]
        pictures.append(
            np.hstack([np.pad(side, margin, constant_values=255) for side, margin in zip(fitted, margins, strict=True)])
        )
    return pictures


def _data_and_model(trainer: Trainer, pl_module: LightningModule) -> tuple[WeldDataModule, WeldClassifier]:
    data = getattr(trainer, "datamodule", None)
    assert isinstance(data, WeldDataModule)
    assert isinstance(pl_module, WeldClassifier)
    return data, pl_module


def _class_table(data: WeldDataModule) -> str:
    leaks = [f"**LEAK: {leak}**\n" for leak in data.leaks]
    lines = [*leaks, "| class | train | val | test |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {n['train']} | {n['val']} | {n['test']} |" for name, n in count_by_split(data.table).items()]
    return "\n".join(lines)
