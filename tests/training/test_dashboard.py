"""What TensorBoard is given, and what a browser then shows."""

import hashlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import torch
from calling import call
from PIL import Image
from torch import Tensor
from trained import TINY
from training_runs import DEMO, quiet

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.report.album import Pixels
from weldnet.training import dashboard
from weldnet.training.loggers import BoardLogger, Outcome, name_curve

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

RUN = "one_run"

SCALARS = {
    "1_loss/train_step",
    *(f"1_loss/{stage}" for stage in ("train", "val")),
    *(f"2_accuracy/{name}/{stage}" for name in ("accuracy", "balanced_accuracy") for stage in ("train", "val")),
    "2_accuracy/balanced_accuracy_by_group/val",
    *(f"3_recall/{name}" for name in ("burn_through", "crack", "no_defect", "spatter", "surface_pore", "undercut")),
    *(f"4_more/{name}/{stage}" for name in ("macro_f1", "kappa") for stage in ("train", "val")),
    "learning_rate/all",
    "throughput/images_per_s",
    "throughput/wait_share",
}


# TensorBoard's pages stand in nested shadow roots.
ALL_TEXT = """const text = node => node.nodeType == 3 ? node.data
    : [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(text).join(' ');"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    shown, pair = [], dashboard._pair

    def pair_and_check(data: WeldDataModule, split: str, rows: list[int], images: Tensor) -> list[Pixels]:
        shown.append(split)
        if split != "train":
            assert torch.equal(images, torch.from_numpy(data.dataset(split).pictures(rows))), "of one photograph"
        return pair(data, split, rows, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboard, "_pair", pair_and_check)
        patch.setenv("WELDNET_CACHE", str(folder / "cache"))
        call("train", *DEMO, f"output_dir={folder / RUN}")
    assert shown == ["train", "select"]
    return folder


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_photograph_stands_beside_what_the_network_sees(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (40, 20)).save(file := tmp_path / "weld.png")
    table = pl.DataFrame({"path": [str(file)], "digest": [hashlib.sha256(file.read_bytes()).hexdigest()]})
    data: Any = SimpleNamespace(samples=lambda split: table, geometry=Geometry(30, 30))
    (pair,) = dashboard._pair(data, "train", [0], torch.full((1, 3, 30, 30), 7, dtype=torch.uint8))
    assert pair.shape == (dashboard.PAIR_PX, 2 * (dashboard.PAIR_PX + 4), 3)
    assert (pair[5, 5].tolist(), pair[5, dashboard.PAIR_PX + 10].tolist()) == ([0] * 3, [7] * 3)


@pytest.mark.parametrize(
    ("stages", "curves"),
    [
        ({"head": 1e-3, "head_vectors": 1e-3, "stem": 1e-3}, {"all"}),
        ({"head": 1e-3, "head_vectors": 1e-3, "stem": 7e-4}, {"head", "stem"}),
        ({"head": 1e-3, "head-momentum": 0.9, "head-weight_decay": 0.1}, {"all"}),
    ],
)
def test_learning_rates_that_are_the_same_are_one_curve(
    stages: dict[str, float], curves: set[str], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = BoardLogger(str(tmp_path), name="", version="")
    logger.log_metrics({f"lr-AdamW/{name}": rate for name, rate in stages.items()} | {"epoch": 0.0}, 3)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    logged = {name for name in events.Tags()["scalars"] if name.startswith("learning_rate/")}
    assert logged == {f"learning_rate/{name}" for name in curves}


@pytest.mark.parametrize("is_closed", [False, True])
def test_an_outcome_needs_no_other_log(is_closed: bool, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = BoardLogger(str(tmp_path), name="", version="")
    if is_closed:
        logger.log_metrics({"val/loss": 1.0}, 3)
        logger.finalize("success")
    logger.log_outcome(Outcome({"seed": 1}, {"final/test_accuracy": 0.5}))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert b"final/test_accuracy" in events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


def test_a_class_may_be_named_as_a_metric() -> None:
    assert [name_curve(f"val_recall/{name}") for name in ("loss", "accuracy")] == ["3_recall/loss", "3_recall/accuracy"]


@pytest.mark.slow
def test_curves_pictures_and_tables_are_there(runs: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(runs / RUN))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == SCALARS
    steps = {
        event.step for name in SCALARS - {"1_loss/train_step", "learning_rate/all"} for event in events.Scalars(name)
    }
    steps |= {event.step for name in ("val/worst_mistakes", "test/mistakes") for event in events.Images(name)}
    assert len(steps) == 1, "one epoch is one place on the axis"
    at_test = {f"test/{name}" for name in ("confusion_matrix", "mistakes", "per_class", "referral", "reliability")}
    assert set(tags["images"]) == {"train/augmentation", "val/confusion_matrix", "val/worst_mistakes", *at_test}
    assert "test/crack" in tags["tensors"]
    assert "custom_scalars__config__" in tags["tensors"]
    table = events.Tensors("classes by split/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| crack | " in table
    assert "max_epochs: 1" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    metrics = json.loads((runs / RUN / "metrics.json").read_text())
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    listed = HParamsPluginData.FromString(content).session_start_info.hparams
    assert listed["final/test_accuracy"].number_value == pytest.approx(metrics["accuracy"], abs=1e-6)
    assert listed["2_optimizer.lr"].number_value == 3e-3
    assert not any(name.startswith(("data.root", "data.cache", "model.cuda_graphs")) for name in listed)
    (epoch,) = json.loads((runs / RUN / "report.json").read_text())["history"]
    for name, curve in (("val/loss", "1_loss/val"), ("train/loss_epoch", "1_loss/train")):
        assert epoch[name] == pytest.approx(events.Scalars(curve)[0].value, abs=1e-6)
    share = events.Scalars("throughput/wait_share")[0].value
    assert 0 <= share < 1


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@quiet
@pytest.mark.parametrize(
    ("max_share", "typed", "drawn"),
    [
        (0, [], [2]),
        (1, [], [0, 1, 2]),
        # The epoch after the only validation is not validated.
        (0, ["trainer.check_val_every_n_epoch=2"], [0]),
        (1, ["trainer.limit_val_batches=0", "callbacks=keep_last"], []),
    ],
)
def test_drawing_takes_its_share_of_the_time_and_the_last_validation_is_drawn(
    welds_here: None, here: Path, max_share: int, typed: list[str], drawn: list[int]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    keys = [key for key in TINY if not key.startswith("callbacks.dashboard")]
    call("train", *keys, f"+callbacks.dashboard.max_share={max_share}", "output_dir=run", *typed)
    events = EventAccumulator(str(here / "run"))
    events.Reload()
    tags: Any = events.Tags()
    assert ("val/confusion_matrix" in tags["images"]) == bool(drawn)
    if drawn:
        epochs = [event.step for event in events.Scalars("1_loss/val")]
        assert [event.step for event in events.Images("val/confusion_matrix")] == [epochs[each] for each in drawn]


@pytest.fixture
def tensorboard(runs: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", str(runs), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(120):
            try:
                with urllib.request.urlopen(address + "data/plugin/scalars/tags") as answer:
                    if RUN in json.load(answer):
                        break
            except OSError:
                pass
            time.sleep(0.25)
        yield address
        server.terminate()


def shows(words: str, browser: "WebDriver") -> bool:
    return words in browser.execute_script(f"{ALL_TEXT} return text(document.body)")


@pytest.mark.slow
def test_a_browser_shows_scalars_images_and_hyperparameters(tensorboard: str, browser: "WebDriver") -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    for tab, words in (
        ("scalars", "throughput"),
        ("images", "test/confusion_matrix"),
        ("pr_curves", "test/crack"),
        ("custom_scalars", "recall of each class"),
        ("hparams", "data.augmentation"),
        ("hparams", "final/test_accuracy"),
    ):
        browser.get(f"{tensorboard}#{tab}")
        browser.refresh()
        WebDriverWait(browser, 40).until(partial(shows, words))
