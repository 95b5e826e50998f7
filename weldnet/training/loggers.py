"""What goes beyond curves, to whichever loggers a run has; and a logger to MLflow."""

import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams

from weldnet.errors import InputError, propose_extra
from weldnet.evaluation.metrics import BY_GROUP

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Curve:
    """A precision-recall curve of one class: whether each of N images is of it, and the probability that it is."""

    positive: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """The settings of a run, and the metrics to which they led."""

    settings: dict[str, str | int | float | bool]
    metrics: dict[str, float]


LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["1_loss/(train|val)$"]],
        "accuracy": ["Multiline", ["2_accuracy/accuracy"]],
        "balanced accuracy": ["Multiline", ["2_accuracy/balanced_accuracy"]],
        "recall of each class": ["Multiline", ["3_recall/"]],
        "learning rate": ["Multiline", ["learning_rate/"]],
    }
}
"""TensorBoard's page of custom scalars: several curves in one chart, by the names that `name_curve` gives."""


SHOWN_FIRST = dict.fromkeys(("final/val_balanced_accuracy", "final/test_balanced_accuracy"), "1_") | dict.fromkeys(
    ("optimizer.lr", "trainer.max_epochs", "model.backbone"), "2_"
)
"""What HPARAMS shows first: it sorts by name, and of many columns shows a few until it is asked for more."""


def name_curve(metric: str) -> str | None:
    """The name of a metric in TensorBoard, where groups are sorted by name; None for what needs no chart."""
    stage, _, name = metric.partition("/")
    # First: a class may have any name.
    if stage == "val_recall":
        return f"3_recall/{name}"
    if name in ("loss_step", "loss_epoch", "loss"):
        return f"1_loss/{stage}{'_step' if name == 'loss_step' else ''}"
    if re.fullmatch("lr-[^-]+", stage) and not name.endswith(("-momentum", "-weight_decay")):
        # Biases and norms learn at the same rate as the rest of their stage.
        return None if name.endswith("_vectors") else f"learning_rate/{name or 'all'}"
    if name in ("accuracy", "balanced_accuracy", BY_GROUP):
        return f"2_accuracy/{name}/{stage}"
    if stage in ("train", "val"):
        return f"4_more/{name}/{stage}"
    return None if metric == "epoch" else metric


class BoardLogger(TensorBoardLogger):
    """Logs to TensorBoard, what matters first; its arguments are those of Lightning's own."""

    has_one_rate = True
    """Whether all stages have learned at one rate so far."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's own, by other names; stages that learn at one rate share a curve."""
        named = {name_curve(name): value for name, value in metrics.items()}
        rates = {value for name, value in named.items() if name and name.startswith("learning_rate/")}
        self.has_one_rate = self.has_one_rate and len(rates) <= 1
        if rates and self.has_one_rate:
            named = {name: value for name, value in named.items() if not (name or "").startswith("learning_rate/")}
            named["learning_rate/all"] = rates.pop()
        super().log_metrics({name: value for name, value in named.items() if name}, step)

    @rank_zero_only
    def log_outcome(self, outcome: Outcome) -> None:
        """Lists settings and final figures under HPARAMS alone: TensorBoard draws a chart of each metric it takes."""
        named = {
            f"{SHOWN_FIRST.get(name, '')}{name}": value for name, value in (outcome.settings | outcome.metrics).items()
        }
        # A file of its own: that of the curves may be closed.
        writer = FileWriter(self.log_dir)
        for summary in hparams(named, {}):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        writer.close()


class MLflowLogger(Logger):
    """Logs to MLflow, each start of a run as an MLflow run; unlike Lightning's, opens nothing before the first figure.

    Without a `tracking_uri`, to `mlflow.db` and the folder `mlflow`, both in `save_dir`, the run folder.
    """

    def __init__(self, save_dir: str, experiment_name: str, tracking_uri: str | None = None) -> None:
        super().__init__()
        if not find_spec("mlflow"):
            raise InputError(f"MLflow is not installed; type {propose_extra('mlflow')}")
        if not tracking_uri and "?" in save_dir:
            raise InputError(f"MLflow cannot keep its file in {save_dir}; choose an output_dir without ?")
        self.folder, self.experiment_name, self.tracking_uri = Path(save_dir).absolute(), experiment_name, tracking_uri

    @property
    def name(self) -> str:
        return self.experiment_name

    @property
    def version(self) -> str:
        return self.folder.name

    @cached_property
    def client(self) -> "MlflowClient":
        # MLflow reports its use to a server of its makers.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(self.tracking_uri or f"sqlite:///{self.folder / 'mlflow.db'}")

    @cached_property
    def run_id(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment_name)
        pictures = None if self.tracking_uri else (self.folder / "mlflow").as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment(self.experiment_name, pictures)
        return str(self.client.create_run(experiment, run_name=self.folder.name).info.run_id)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(_make_name(name), float(value), now, step or 0) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=rows)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        from mlflow.entities import Param

        rows = [Param(_make_name(str(name)), str(value)) for name, value in dict(params).items()]
        self.client.log_batch(self.run_id, params=rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if "run_id" in vars(self):
            self.client.set_terminated(self.run_id, "FINISHED" if status == "success" else "FAILED")


def _make_name(name: str) -> str:
    """A name as MLflow takes it: the names of classes may hold other characters."""
    return re.sub(r"[^/\w.\- :]", "_", name)


DRAWING = (TensorBoardLogger, MLflowLogger, WandbLogger)
"""The loggers that take pictures and texts."""


def can_draw(trainer: Trainer) -> bool:
    """Whether any logger takes pictures and texts."""
    return trainer.is_global_zero and any(isinstance(each, DRAWING) for each in trainer.loggers)


def report_limits(trainer: Trainer) -> None:
    """Reports once, at the start of a run, what its loggers leave out."""
    for each in trainer.loggers:
        if not isinstance(each, TensorBoardLogger):
            lacking = "precision-recall curves" if isinstance(each, DRAWING) else "pictures, texts or curves"
            log.warning("%s takes no %s; report.html has those of the test", type(each).__name__, lacking)


def last_step(trainer: Trainer) -> int:
    """The step, from 0, beside which Lightning logs the metrics of an epoch after its end."""
    return max(trainer.global_step - 1, 0)


def log_extra(trainer: Trainer, name: str, extra: Figure | str | Curve | Outcome, step: int | None = None) -> None:
    """Gives a picture, text, curve or outcome to every logger that takes it, beside `step`, by default the last one."""
    step = last_step(trainer) if step is None else step
    for logger in trainer.loggers if trainer.is_global_zero else ():
        match logger, extra:
            case TensorBoardLogger(), Figure():
                logger.experiment.add_figure(name, extra, step, close=False)
            case TensorBoardLogger(), str():
                logger.experiment.add_text(name, extra)
            case TensorBoardLogger(), Curve():
                logger.experiment.add_pr_curve(name, extra.positive, extra.probabilities)
            case BoardLogger(), Outcome():
                logger.log_outcome(extra)
                logger.finalize("success")
            case TensorBoardLogger(), Outcome():
                logger.log_hyperparams(extra.settings, extra.metrics)
                logger.finalize("success")
            case MLflowLogger(), Figure():
                logger.client.log_figure(logger.run_id, extra, f"{name}_{step}.png")
            case MLflowLogger(), str():
                logger.client.log_text(logger.run_id, extra, f"{name}.md")
            case WandbLogger(), Figure():
                logger.log_image(name, [extra])
            case WandbLogger(), str():
                logger.log_text(name, columns=["text"], data=[[extra]])
            case _, Outcome():
                logger.log_hyperparams(extra.settings)
                logger.log_metrics(extra.metrics, step)
                logger.finalize("success")
