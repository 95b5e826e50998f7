"""Every argument of the trainer that the config lists takes effect, or is refused with words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from boards import read_scalars
from calling import call, refuse
from checking import check_training
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from trained import SMALL, TINY

from weldnet.errors import InputError

pytestmark = pytest.mark.usefixtures("welds_here", "undrawn")

CONFIGS = Path(__file__).parents[2] / "configs"
TWO_EPOCHS = ["output_dir=run", "test=false", "trainer.max_epochs=2"]
RUN = [*TINY, *TWO_EPOCHS]
NOTE = "+callbacks.note._target_=test_trainer_arguments.Note"


class Note(Callback):
    """Notes what a training does, in `Note.seen`."""

    seen: ClassVar[dict[str, Any]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Note.seen = {"steps": [], "validations": 0, "sanity": 0, "val_images": 0, "loaders": set()}
        Note.seen["deterministic"] = torch.are_deterministic_algorithms_enabled()
        Note.seen["benchmark"] = torch.backends.cudnn.benchmark
        Note.seen["trainer"] = trainer

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        Note.seen["anomaly"] = torch.is_anomaly_enabled()
        Note.seen["autocast"] = trainer.precision
        Note.seen["loaders"].add(id(trainer.train_dataloader))
        Note.seen.setdefault("kept", []).append(trainer.train_dataloader)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        Note.seen["steps"].append(trainer.current_epoch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *others: Any) -> None:
        # After the step, gradients are still as it took them.
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        Note.seen["norm"] = float(torch.stack([each.norm() for each in gradients]).norm())
        Note.seen["largest"] = max(float(each.abs().max()) for each in gradients)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Note.seen["sanity" if trainer.sanity_checking else "validations"] += 1

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *others: Any, **more: Any
    ) -> None:
        Note.seen["val_images"] += 0 if trainer.sanity_checking else len(batch[1])


def is_profiled(seen: dict[str, Any], run: Path) -> bool:
    return "run_training_epoch" in (run / "fit-profile.txt").read_text()


def count_logged(run: Path) -> int:
    return len(read_scalars(run, "train/loss_step"))


def list_bars(seen: dict[str, Any]) -> list[str]:
    shown = seen["trainer"].progress_bar_callback
    return [task.description for task in shown.progress.tasks] if shown else []


# The training split has 56 images: 4 batches of 16, and 8 steps in two epochs.
EFFECTS: dict[str, tuple[str, Any]] = {
    "accelerator": ("accelerator=cpu", lambda seen, run: seen["trainer"].accelerator.name() == "cpu"),
    "precision": ("precision=bf16-mixed", lambda seen, run: seen["autocast"] == "bf16-mixed"),
    "fast_dev_run": (
        "fast_dev_run=2",
        lambda seen, run: len(seen["steps"]) == 2 and not (run / "checkpoints").exists(),
    ),
    "max_epochs": ("max_epochs=3", lambda seen, run: seen["steps"] == [0] * 4 + [1] * 4 + [2] * 4),
    "max_steps": ("max_steps=6", lambda seen, run: seen["steps"] == [0] * 4 + [1] * 2),
    "limit_train_batches": ("limit_train_batches=0.5", lambda seen, run: len(seen["steps"]) == 4),
    "limit_val_batches": ("limit_val_batches=1 data.batch_size=4", lambda seen, run: seen["val_images"] == 8),
    "val_check_interval": ("val_check_interval=2", lambda seen, run: seen["validations"] == 4),
    "check_val_every_n_epoch": ("check_val_every_n_epoch=2", lambda seen, run: seen["validations"] == 1),
    "num_sanity_val_steps": ("num_sanity_val_steps=1", lambda seen, run: seen["sanity"] == 1),
    "log_every_n_steps": ("log_every_n_steps=2", lambda seen, run: count_logged(run) == 4),
    "enable_progress_bar": ("enable_progress_bar=true", lambda seen, run: "epoch 2/2" in list_bars(seen)),
    "enable_model_summary": (
        "enable_model_summary=true",
        lambda seen, run: any(type(each).__name__.endswith("ModelSummary") for each in seen["trainer"].callbacks),
    ),
    "accumulate_grad_batches": ("accumulate_grad_batches=2", lambda seen, run: len(seen["steps"]) == 4),
    "gradient_clip_val": (
        "gradient_clip_val=0.01 optimizer.fused=false",
        lambda seen, run: seen["norm"] == pytest.approx(0.01, rel=1e-2),
    ),
    "gradient_clip_algorithm": (
        "gradient_clip_algorithm=value trainer.gradient_clip_val=0.001",
        lambda seen, run: seen["largest"] == pytest.approx(0.001),
    ),
    "deterministic": ("deterministic=true", lambda seen, run: seen["deterministic"]),
    "benchmark": ("benchmark=true", lambda seen, run: seen["benchmark"]),
    "profiler": ("profiler=simple", is_profiled),
    "detect_anomaly": ("detect_anomaly=true", lambda seen, run: seen["anomaly"]),
    "plugins": (
        "plugins._target_=lightning.pytorch.plugins.io.AsyncCheckpointIO",
        lambda seen, run: type(seen["trainer"].strategy.checkpoint_io).__name__ == "AsyncCheckpointIO",
    ),
    "reload_dataloaders_every_n_epochs": (
        "reload_dataloaders_every_n_epochs=1",
        lambda seen, run: len(seen["loaders"]) == 2,
    ),
}

TOGETHER = [
    ("fast_dev_run", "accelerator"),
    ("max_epochs", "check_val_every_n_epoch", "num_sanity_val_steps", "gradient_clip_val", "deterministic"),
    ("max_steps", "gradient_clip_algorithm", "profiler", "reload_dataloaders_every_n_epochs"),
    ("limit_train_batches", "enable_progress_bar", "enable_model_summary", "plugins"),
    ("accumulate_grad_batches", "val_check_interval", "detect_anomaly"),
    ("log_every_n_steps", "benchmark"),
    ("limit_val_batches", "precision"),
]
"""Arguments whose effects one run shows."""

ELSEWHERE = {
    "devices": "test_a_killed_process_ends_the_training",
    "strategy": "test_a_killed_process_ends_the_training",
    "min_epochs": "test_a_training_that_ends_early_says_when_and_why",
    "min_steps": "test_min_steps_hold_a_training_back_from_stopping",
    "max_time": "test_a_training_that_ends_early_says_when_and_why",
}
"""Their effect takes more to see than one run."""

REFUSED = {
    "limit_test_batches=2": "a test counts every image",
    "limit_test_batches=1": "a test counts every image",
    "limit_test_batches=1.0": "a test counts every image",
    "limit_predict_batches=2": "weldnet-predict",
    "overfit_batches=2": "trainer.limit_train_batches=N",
    "enable_checkpointing=false": "the checkpoint that it keeps",
    "barebones=true": "keeps no checkpoint",
    "inference_mode=false": "always made in inference mode",
    "use_distributed_sampler=false": "always share out",
    "enable_autolog_hparams=false": "changes nothing here",
    "model_registry=mine": "stay in its folder",
    "sync_batchnorm=true": "several GPUs",
    "num_nodes=2": "torchrun or SLURM",
    "num_nodes=0": "allowed are 1 to",
    "devices=99999999999": "for each core",
    "devices=99": "for each core",
    "devices=0": "trainer",
    "devices=[0,1]": "trainer",
    "max_epochs=0": "allowed are 1 to",
    "max_epochs=null": "trainer.max_epochs is not given",
    "min_epochs=9": "more than trainer.max_epochs=2",
    "max_steps=0": "trains nothing",
    "max_steps=-2": "allowed are -1 to",
    "max_time=soon": "DD:HH:MM:SS",
    "val_check_interval=99": "an epoch has 4 batches",
    "val_check_interval=1.5": "1.5",
    "check_val_every_n_epoch=0": "allowed are 1 to",
    "check_val_every_n_epoch=null": "val_check_interval=100",
    "num_sanity_val_steps=-2": "allowed are -1 to",
    "log_every_n_steps=-1": "allowed are 0 to",
    "limit_train_batches=0": "leaves none",
    "limit_train_batches=0.01": "leaves none",
    "limit_val_batches=-1": "limit_val_batches",
    "gradient_clip_algorithm=value": "no effect without trainer.gradient_clip_val",
    "gradient_clip_val=nan": "allowed are 0 to",
    "profiler=simpel": "did you mean 'simple'",
    "precision=17": "precision",
    "accelerator=tpux": "accelerator",
    "strategy=ddpp": "strategy",
    "plugins=[mine]": "plugins",
    "fast_dev_run=-1": "fast_dev_run",
    "reload_dataloaders_every_n_epochs=-1": "allowed are 0 to",
}


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    yield here
    # Lightning sets them for the whole process.
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def test_no_argument_is_forgotten() -> None:
    listed = set(map(str, OmegaConf.load(CONFIGS / "trainer" / "auto.yaml"))) - {"_target_"}
    refused = {typed.partition("=")[0] for typed in REFUSED}
    assert listed == {*EFFECTS, *ELSEWHERE, *refused}
    assert sorted(name for names in TOGETHER for name in names) == sorted(EFFECTS)


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("names", TOGETHER, ids=" ".join)
def test_arguments_take_effect(here: Path, names: tuple[str, ...]) -> None:
    typed = " ".join(f"{'+' if name == 'plugins' else ''}trainer.{EFFECTS[name][0]}" for name in names)
    call("train", *RUN, NOTE, *typed.split())
    assert [name for name in names if not EFFECTS[name][1](Note.seen, here / "run")] == []


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_without_them_there_is_no_effect(here: Path) -> None:
    call("train", *RUN, NOTE, "optimizer.lr=1e-2")
    run = here / "run"
    wrong = [name for name in EFFECTS if name not in ("accelerator", "profiler")]
    wrong = [name for name in wrong if EFFECTS[name][1](Note.seen, run)]
    assert wrong == []
    assert not (run / "fit-profile.txt").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_min_steps_hold_a_training_back_from_stopping(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = ["callbacks=early_stopping", "+callbacks.early_stopping.stopping_threshold=0.1"]
    call("train", *RUN, *stopping, "trainer.max_epochs=9", "trainer.min_steps=12")
    assert "after epoch 3 of 9" in capsys.readouterr().out


@pytest.mark.parametrize("typed", REFUSED)
def test_an_argument_is_refused(here: Path, typed: str) -> None:
    with pytest.raises(InputError, match=re.escape(REFUSED[typed])):
        check_training(here / "run", "trainer.max_epochs=2", f"trainer.{typed}")


@pytest.mark.parametrize(
    "typed", ["limit_test_batches=2", "limit_predict_batches=2", "devices=99", "max_epochs=0", "val_check_interval=99"]
)
def test_an_argument_is_refused_with_words(here: Path, capsys: pytest.CaptureFixture[str], typed: str) -> None:
    message = refuse(capsys, "train", *SMALL, *TWO_EPOCHS, f"trainer.{typed}")
    assert REFUSED[typed] in message
    assert not (here / "run").exists()


@pytest.mark.parametrize("typed", ["logger=false", "callbacks=[]", "default_root_dir=x"])
def test_arguments_that_are_groups_of_their_own(here: Path, capsys: pytest.CaptureFixture[str], typed: str) -> None:
    assert "is not for weldnet" in refuse(capsys, "train", *SMALL, *TWO_EPOCHS, f"+trainer.{typed}")
