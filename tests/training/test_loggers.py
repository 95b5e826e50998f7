"""What each logger is given: CSV files, and MLflow in an SQLite file; TensorBoard has tests of its own."""

import csv
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from calling import call, refuse
from omegaconf import OmegaConf
from training_runs import DEMO

from weldnet.errors import propose_extra
from weldnet.evaluation.metrics import METRICS
from weldnet.report.charts import draw_charts

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that the test trains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WELDNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "run"


def read_final(run: Path) -> dict[str, float]:
    """The final metrics, as a logger should have them."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        f"final/{split}_{metric.key}": figures[metric.key]
        for split, figures in (("test", metrics), ("val", metrics["validation"]))
        for metric in METRICS
    }


def read_csv(file: Path) -> dict[str, float]:
    """The last value of each column."""
    with file.open(newline="") as lines:
        return {name: float(value) for row in csv.DictReader(lines) for name, value in row.items() if value}


@pytest.mark.slow
def test_csv_holds_curves_settings_and_the_outcome_and_is_resumed(run: Path) -> None:
    call("train", *DEMO, "output_dir=run", "logger=csv")
    figures = read_csv(run / "csv" / "version_0" / "metrics.csv")
    assert read_final(run).items() <= figures.items()
    assert {f"val/{metric.key}" for metric in METRICS} | {"val_recall/crack", "lr-AdamW/head"} <= set(figures)
    settings: Any = OmegaConf.load(run / "csv" / "version_0" / "hparams.yaml")
    assert (settings["model.backbone"], settings["trainer.max_epochs"]) == ("test_resnet", 1)
    log = (run / "train.log").read_text()
    assert log.count("CSVLogger takes no pictures, texts or curves") == 1
    assert not list(run.rglob("events.out.tfevents.*"))
    # A resumed run keeps the file so far.
    call("train", "ckpt_path=run", "trainer.max_epochs=2")
    resumed = read_csv(run / "csv" / "version_1" / "metrics.csv")
    assert (resumed["epoch"], figures["epoch"]) == (1, 0)
    assert read_final(run).items() <= resumed.items()
    assert read_csv(run / "csv" / "version_0" / "metrics.csv") == figures


@pytest.mark.slow
# SQLAlchemy's, of MLflow's own code.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_keeps_all_in_the_run_folder_and_calls_nobody(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    called: list[Any] = []

    def refuse_call(*address: Any, **_: Any) -> None:
        called.append(address)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", refuse_call)
    monkeypatch.setattr(socket.socket, "connect", refuse_call)
    monkeypatch.setattr("weldnet.training.dashboard.draw_charts", draw_charts)
    call("train", *DEMO, "output_dir=run", "logger=mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "weldnet"]
    (logged,) = client.search_runs([experiment.experiment_id])
    assert read_final(run) == pytest.approx({name: logged.data.metrics[name] for name in read_final(run)})
    assert logged.data.params["model.backbone"] == "test_resnet"
    assert (logged.info.run_name, logged.info.status) == ("run", "FINISHED")
    files = {
        file.relative_to(run / "mlflow" / logged.info.run_id / "artifacts") for file in run.rglob("artifacts/**/*")
    }
    names = {str(file) for file in files}
    assert {"config.md", "train/augmentation_0.png", "test"} <= names
    assert any(name.startswith("val/confusion_matrix_") for name in names)
    assert any(name.startswith("test/reliability_") for name in names)
    assert (run / "train.log").read_text().count("MLflowLogger takes no precision-recall curves") == 1
    assert not called


def test_a_logger_that_is_not_installed_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("weldnet.training.loggers.find_spec", lambda name: None)
    assert propose_extra("mlflow") in refuse(capsys, "train", *DEMO, "output_dir=run", "logger=mlflow")
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    assert "logger.wandb: " in refuse(capsys, "train", *DEMO, "output_dir=run", "logger=wandb")
    assert not run.exists()
