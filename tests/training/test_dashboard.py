"""What TensorBoard is given, and what a browser then shows."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from weldnet.commands.train import main as run_train

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

RUN = "one_run"

SCALARS = {
    "train/loss_step",
    "train/loss_epoch",
    "train/accuracy",
    "train/balanced_accuracy",
    "val/loss",
    "val/accuracy",
    "val/balanced_accuracy",
    "val_recall/crack",
    "lr-AdamW/head",
    "throughput/images_per_s",
    "throughput/wait_share",
    "final/test_accuracy",
}


# TensorBoard's pages stand in nested shadow roots.
ALL_TEXT = """const text = node => node.nodeType == 3 ? node.data
    : [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(text).join(' ');"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    small = ["experiment=demo", "model.backbone=resnet18", "data.num_images=72", "data.num_seams=12"]
    size = ["data.image_size.height=60", "data.image_size.width=12", "trainer=cpu", "trainer.max_epochs=1"]
    size += ["trainer.log_every_n_steps=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WELDNET_CACHE", str(folder / "cache"))
        patch.setattr(sys, "argv", ["weldnet-train", *small, *size, f"output_dir={folder / RUN}"])
        run_train()
    return folder


@pytest.mark.slow
def test_curves_pictures_and_tables_are_there(runs: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs / RUN))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) >= SCALARS
    at_test = {f"test/{name}" for name in ("confusion_matrix", "mistakes", "per_class", "referral", "reliability")}
    assert set(tags["images"]) == {"train/augmentation", "val/confusion_matrix", "val/worst_mistakes", *at_test}
    assert "test/crack" in tags["tensors"]
    assert "custom_scalars__config__" in tags["tensors"]
    table = events.Tensors("classes by split/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| crack | " in table
    assert "max_epochs: 1" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    metrics = json.loads((runs / RUN / "metrics.json").read_text())
    assert events.Scalars("final/test_accuracy")[0].value == pytest.approx(metrics["accuracy"], abs=1e-6)
    (epoch,) = json.loads((runs / RUN / "report.json").read_text())["history"]
    assert epoch["val/accuracy"] == pytest.approx(metrics["validation"]["accuracy"], abs=1e-6)
    share = events.Scalars("throughput/wait_share")[0].value
    assert 0 <= share < 1


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
def test_a_browser_shows_scalars_images_and_hyperparameters(tensorboard: str, tmp_path: Path) -> None:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "CI must have chromium and chromedriver"
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "window-size=1400,1000",
    ):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
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
    finally:
        browser.quit()
