"""Pictures and tables beside the curves, for every logger that takes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn import functional

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.splits.rules import count_by_split
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.model.classifier import WeldClassifier
from weldnet.report.charts import draw_charts, draw_confusion, draw_gallery
from weldnet.training.loggers import Curve, can_draw, log_extra, report_limits


class Dashboard(Callback):
    """Draws, after each validation, a confusion matrix and the worst mistakes; before training, what the network sees.

    Goes to the run's loggers, see `weldnet.training.loggers`; what they cannot take is reported once.

    Args:
        num_mistakes: pictures in the gallery of the validation images with the highest loss among the wrong ones.
        num_augmented: training images on the augmentation sheet.
    """

    def __init__(self, num_mistakes: int = 12, num_augmented: int = 24) -> None:
        self.num_mistakes, self.num_augmented = num_mistakes, num_augmented
        self.worst: list[Tensor] = []
        self.predicted: list[Tensor] = []
        self.labels: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            report_limits(trainer)
        if not can_draw(trainer):
            return
        data, model = _parts(trainer, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                layout = {"recall of each class": {"validation": ["Multiline", ["val_recall/.*"]]}}
                logger.experiment.add_custom_scalars(layout)
        if trainer.ckpt_path is None:
            if "config" in model.record:
                log_extra(trainer, "config", "```yaml\n" + str(model.record["config"]) + "\n```")
            log_extra(trainer, "classes by split", _class_table(data))
        dataset = data.dataset("train")
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(data.seed))[: self.num_augmented]
        plain, labels = dataset.pictures(chosen.tolist()), dataset.labels[chosen]
        images, _ = data.augmented((torch.from_numpy(plain), labels), 0, 0, 0)
        shown = np.concatenate([plain, images.round().to(torch.uint8).numpy()])
        names = [model.classes[label] for label in labels]
        captions = names + [f"{name}\naugmented" for name in names]
        order = [
            i + half * len(names)
            for start in range(0, len(names), 12)
            for half in (0, 1)
            for i in range(start, min(start + 12, len(names)))
        ]
        figure = draw_gallery(
            shown[order], [captions[i] for i in order], "training images, and what the network sees of them"
        )
        log_extra(trainer, "train/augmentation", figure)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.worst, self.predicted, self.labels = [], [], []

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
        self.predicted.append(predicted)
        self.labels.append(labels)
        losses = functional.cross_entropy(logits, labels, reduction="none").masked_fill(predicted == labels, -1)
        found = [losses, predicted, labels, logits.softmax(1).amax(1), images]
        if self.worst:
            found = [torch.cat(both) for both in zip(self.worst, found, strict=True)]
        # Those with the largest losses stay, on the device, so memory does not grow with the data.
        kept = found[0].topk(min(self.num_mistakes, len(found[0]))).indices
        self.worst = [each[kept] for each in found]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not can_draw(trainer):
            return
        _, model = _parts(trainer, pl_module)
        predicted, labels = torch.cat(self.predicted).cpu().numpy(), torch.cat(self.labels).cpu().numpy()
        matrix = confusion_matrix(labels, predicted, labels=range(len(model.classes)))
        title = f"validation after epoch {trainer.current_epoch + 1}"
        log_extra(trainer, "val/confusion_matrix", draw_confusion(matrix, model.classes, title))
        _, predicted, labels, probabilities, images = (each.cpu().numpy() for each in self.worst)
        wrong = predicted != labels
        captions = [
            f"{model.classes[actual]}\npredicted {model.classes[answer]}\n{probability:.0%}"
            for actual, answer, probability in zip(labels[wrong], predicted[wrong], probabilities[wrong], strict=True)
        ]
        if captions:
            log_extra(trainer, "val/worst_mistakes", draw_gallery(images[wrong], captions, f"worst mistakes, {title}"))


def draw_test(trainer: Trainer, tested: EvaluationReport, report: Mapping[str, Any], gallery: Figure | None) -> None:
    """Draws the final test: precision-recall curves, the charts of the report, confusion matrix, and mistakes.

    Args:
        tested: the outcome.
        report: the keys of `report.json`.
        gallery: mistakes with their heatmaps.
    """
    if not can_draw(trainer):
        return
    split = tested.facts["split"]
    probabilities = softmax(tested.logits, axis=1) if tested.judgement is None else tested.judgement.probabilities
    for number, name in enumerate(tested.classes):
        if (tested.labels == number).any():
            log_extra(trainer, f"{split}/{name}", Curve(tested.labels == number, probabilities[:, number]))
    charts = draw_charts(report)
    charts["confusion_matrix"] = draw_confusion(np.array(report["confusion_matrix"]), tested.classes, tested.title())
    if gallery is not None:
        charts["mistakes"] = gallery
    for name, figure in charts.items():
        log_extra(trainer, f"{split}/{name}", figure)


def _parts(trainer: Trainer, pl_module: LightningModule) -> tuple[WeldDataModule, WeldClassifier]:
    data = getattr(trainer, "datamodule", None)
    assert isinstance(data, WeldDataModule)
    assert isinstance(pl_module, WeldClassifier)
    return data, pl_module


def _class_table(data: WeldDataModule) -> str:
    leaks = [f"**LEAK: {leak}**\n" for leak in data.leaks]
    lines = [*leaks, "| class | train | val | test |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {n['train']} | {n['val']} | {n['test']} |" for name, n in count_by_split(data.table).items()]
    return "\n".join(lines)
