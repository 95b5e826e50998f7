"""A run folder from elsewhere runs no code and writes nowhere else when it is resumed."""

import importlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import call, refuse
from lightning import Callback, Trainer
from lightning.pytorch import callbacks, loggers
from stopped import change, compose, find_stopped, write_stopped

from weldnet.config import trusted
from weldnet.config.resume import StoppedRun
from weldnet.errors import InputError

CALLBACKS = "lightning.pytorch.callbacks"
BUILTIN = f"{CALLBACKS}.model_checkpoint.torch"


class Touch:
    """Makes the file `ran` when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def here(here: Path) -> Path:
    """A folder with what the hostile configs use: a pickle, and a module for torch.hub."""
    # The name that a config from elsewhere can guess.
    (here / "evil.pkl").write_bytes(pickle.dumps(Touch(here / "ran")))
    (here / "hub").mkdir()
    (here / "hub" / "hubconf.py").write_text(f"open({str(here / 'ran')!r}, 'w')\ndef x(): pass\n")
    (here / "source").touch()
    return here


TOUCH = {"_target_": "builtins.open", "file": "ran", "mode": "w"}

CODE: dict[str, tuple[str, Any]] = {
    "pickle": ("callbacks.x", {"_target_": f"{BUILTIN}.load", "f": "evil.pkl", "weights_only": False}),
    "hub": ("callbacks.x", {"_target_": "torch.optim.adam.torch.hub.load", "repo_or_dir": "hub", "model": "x"}),
    "copy": (
        "callbacks.x",
        {"_target_": f"{CALLBACKS}.model_checkpoint.shutil.copyfile", "src": "source", "dst": "ran"},
    ),
    "logging": ("callbacks.x", {"_target_": "weldnet.training.progress.logging.FileHandler", "filename": "ran"}),
    "shell": ("callbacks.x", {"_target_": f"{CALLBACKS}.model_checkpoint.os.system", "command": "touch ran"}),
    "open": ("callbacks.x", TOUCH),
    "builtin through a module": ("callbacks.x", TOUCH | {"_target_": f"{CALLBACKS}.timer.__builtins__.open"}),
    "partial": ("callbacks.x", {"_target_": "functools.partial", "_args_": ["print"]}),
    "_partial_": ("callbacks.x", {"_target_": f"{CALLBACKS}.Timer", "_partial_": True}),
    "_args_": ("callbacks.x", {"_target_": f"{CALLBACKS}.Timer", "_args_": ["00:00:00:01"]}),
    "_recursive_": ("callbacks.best._recursive_", False),
    "_convert_": ("optimizer._convert_", "object"),
    "nested in a callback": ("callbacks.best.every_n_epochs", TOUCH),
    "nested in a list": ("trainer.plugins", [TOUCH]),
    "nested in lists": ("optimizer.betas", [[TOUCH], 0.9]),
    "nested in a strategy": ("trainer.strategy", TOUCH),
    "nested in a profiler": ("trainer.profiler", {"_target_": "lightning.pytorch.profilers.SimpleProfiler"}),
    "a logger of the trainer": ("trainer.logger", TOUCH),
    "a callback of the trainer": ("trainer.callbacks", [{"_target_": f"{CALLBACKS}.Timer"}]),
    "in the data": ("data.window", TOUCH),
    "a module": ("model._target_", "builtins.open"),
    "a module of a different package": ("model._target_", "test_untrusted_runs.Ran"),
    "a source": ("data._target_", "builtins.open"),
    "a source through a module": ("data._target_", "weldnet.data.sources.found.os.walk"),
    "no source": ("data._target_", "weldnet.data.sources.found.Skipped"),
    "a source of a different package": ("data._target_", "test_untrusted_runs.Ran"),
    "a source's function": ("data._target_", "weldnet.data.sources.folders.scan_folder"),
    "nested in a source": ("data.root", TOUCH),
    "a transform": ("data.augmentation", {"_target_": "torchvision.transforms.v2.Lambda", "lambd": "ran"}),
    "a transform of our own": ("data.augmentation", {"_target_": "weldnet.data.augmentation.EachImage"}),
    "nested in strengths": ("data.augmentation", {"_target_": "weldnet.data.augmentation.Strengths", "flip": TOUCH}),
    "nested in a transform": ("data.augmentation", {"transforms": [TOUCH]}),
    "in the group itself": ("callbacks._target_", "builtins.open"),
    "a method": ("callbacks.x", {"_target_": f"{CALLBACKS}.ModelCheckpoint.load_from_checkpoint"}),
    "a function as a class": ("callbacks.x", {"_target_": "weldnet.training.fit.train"}),
    "a lazy name": ("callbacks.x", {"_target_": "weldnet.train"}),
    "no callback": ("callbacks.x", {"_target_": "weldnet.training.fit.WeldDataModule"}),
    "a class of a different kind": ("optimizer._target_", "torch.optim.lr_scheduler.StepLR"),
    "a re-export of an optimizer": ("optimizer._target_", "lightning.pytorch.core.module.Optimizer"),
    "not below torch.optim": ("optimizer._target_", "torch.optimize.Evil"),
    "a scheduler's module": ("scheduler._target_", "torch.optim.lr_scheduler.torch.load"),
    "no trainer": ("trainer._target_", "lightning.pytorch.trainer.trainer.torch.load"),
    "no name": ("optimizer._target_", 7),
    "a different package": ("callbacks.x", {"_target_": "test_untrusted_runs.Ran"}),
    "a logger that sends": ("logger.x", {"_target_": "lightning.pytorch.loggers.MLFlowLogger"}),
}

TEXT: dict[str, tuple[str, Any]] = {
    "environment": ("data.cache_dir", "${oc.env:HOME}"),
    "decode": ("optimizer.lr", "${oc.decode:'1e-3'}"),
    "hydra": ("logger.tensorboard.name", "${hydra:runtime.cwd}"),
    "in a key": ("callbacks.best", {"${oc.env:HOME}": 1}),
    "after an even number of backslashes": ("data.root", "a\\\\${oc.env:HOME}"),
}

PATHS: dict[str, tuple[str, Any]] = {
    "elsewhere": ("callbacks.best.dirpath", "/elsewhere"),
    "up": ("callbacks.best.dirpath", "{run}/../elsewhere"),
    "relative": ("callbacks.best.dirpath", "elsewhere"),
    "home": ("callbacks.best.dirpath", "~/elsewhere"),
    "a variable in a name": ("logger.tensorboard.name", ".$CUDA_VISIBLE_DEVICES./elsewhere/$SECRET"),
    "a variable in a version": ("logger.tensorboard.version", "$HOME"),
    "a variable in a folder": ("logger.tensorboard.save_dir", "{run}/$HOME"),
    "fsspec": ("callbacks.best.dirpath", "memory://elsewhere"),
    "fsspec file": ("callbacks.best.dirpath", "file:///elsewhere"),
    "a file's name": ("callbacks.best.filename", "../../elsewhere"),
    "an absolute name": ("callbacks.last.filename", "/elsewhere"),
    "a name with slashes filled in": ("callbacks.last.filename", "{epoch:/>9}"),
    "save_dir": ("logger.tensorboard.save_dir", "/elsewhere"),
    "name": ("logger.tensorboard.name", ".."),
    "version": ("logger.tensorboard.version", "a/../../b"),
    "sub_dir": ("logger.tensorboard.sub_dir", "/elsewhere"),
    "root of the trainer": ("trainer.default_root_dir", "/elsewhere"),
    "a folder of MLflow": (
        "logger.x",
        {"_target_": "weldnet.training.loggers.MLflowLogger", "save_dir": "/elsewhere"},
    ),
    "uploads": ("trainer.model_registry", "somebody/model"),
    "a null byte": ("callbacks.best.dirpath", "{run}/a\0b"),
    "an exception's checkpoint": (
        "callbacks.x",
        {"_target_": f"{CALLBACKS}.OnExceptionCheckpoint", "dirpath": "/elsewhere"},
    ),
}

ROUTES = CODE | TEXT | PATHS


class Ran(Callback):
    def __init__(self) -> None:
        Path("ran").touch()


def write_hostile(command: str, route: str, here: Path) -> None:
    """Writes the stopped run `here/run` with one of the routes in its config."""
    key, value = ROUTES[route]
    if isinstance(value, str):
        value = value.replace("{run}", str(here / "run"))
    write_stopped(here / "run", change(compose(command, here / "run"), key, value))


def list_all(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.parametrize(
    ("command", "route"),
    [*(("train", route) for route in ROUTES), *(("crossval", route) for route in list(ROUTES)[::8])],
)
def test_a_hostile_config_is_refused(command: str, route: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    write_hostile(command, route, here)
    before = list_all(here)
    with pytest.raises(InputError, match="config") as refusal:
        find_stopped(command, here / "run")
    key, value = ROUTES[route]
    if route in CODE and "_target_" not in str(value):
        assert key in str(refusal.value)
    assert list_all(here) == before, "nothing ran, nothing was written"


@pytest.mark.parametrize(
    ("command", "route"),
    [
        *(("train", route) for route in ("pickle", "hub", "copy", "environment", "up")),
        *(("crossval", route) for route in ("pickle", "hydra", "save_dir")),
    ],
)
def test_commands_refuse_a_hostile_config(
    command: str, route: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hostile(command, route, here)
    before = list_all(here)
    assert "config" in refuse(capsys, command, "ckpt_path=run")
    assert list_all(here) == before, "nothing ran, nothing was written"


STATES: list[Callable[[str], Any]] = [
    lambda path: {"best_model_path": path},
    lambda path: {"kth_best_model_path": path, "best_k_models": {path: torch.zeros(())}},
    lambda path: {"last_model_path": [path]},
]


@pytest.mark.parametrize("route", [route for route, (key, _) in CODE.items() if key == "data._target_"])
def test_a_test_makes_no_hostile_source(
    route: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    write_stopped(here / "run", change(compose("train", here / "run"), *CODE[route]))
    assert "data._target_" in refuse(capsys, "test", "ckpt_path=run")
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    "path", ["/elsewhere", "{run}/checkpoints/../../elsewhere", "memory://elsewhere", "data:elsewhere"]
)
@pytest.mark.parametrize("states", STATES)
def test_a_hostile_state_is_refused(path: str, states: Callable[[str], Any], here: Path) -> None:
    state = {"ModelCheckpoint{'monitor': 'val/balanced_accuracy'}": states(path.replace("{run}", str(here / "run")))}
    write_stopped(here / "run", compose("train", here / "run"), state)
    with pytest.raises(InputError, match="state of a callback"):
        find_stopped("train", here / "run")


def test_training_refuses_a_hostile_state(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stopped(here / "run", compose("train", here / "run"), {"ModelCheckpoint{}": STATES[0]("/elsewhere")})
    assert "state of a callback" in refuse(capsys, "train", "ckpt_path=run")


@pytest.mark.parametrize("command", ["train", "crossval"])
def test_a_link_out_of_the_run_is_refused(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_stopped(here / "run", compose(command, here / "run"))
    (here / "log").touch()
    (run / "inside").symlink_to(run / "config.yaml")
    (run / "train.log").symlink_to(here / "log")
    assert "train.log is a link that leads out" in refuse(capsys, command, "ckpt_path=run")


OPTIONS = [
    *(f"optimizer={name}" for name in ("adam", "adamw", "sgd")),
    *(f"scheduler={name}" for name in ("constant", "warmup_cosine")),
    *(f"callbacks={name}" for name in ("default", "keep_last", "early_stopping")),
    *(f"data={name}" for name in ("folder", "manifest", "synthetic")),
    *(f"experiment={name}" for name in ("demo", "finetune", "origin")),
    "optimizer._target_=torch.optim.rmsprop.RMSprop",
    "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
    f"+callbacks.timer._target_={CALLBACKS}.Timer",
    f"+callbacks.average._target_={CALLBACKS}.EMAWeightAveraging",
    "callbacks.last.filename='{epoch:02d}-{val/loss:.3f}'",
    "logger.tensorboard._target_=lightning.pytorch.loggers.CSVLogger",
    "trainer._target_=lightning.pytorch.Trainer",
    "logger=tensorboard",
    "logger=csv",
    "logger=mlflow",
]


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[StoppedRun]:
    """The runs that would be trained now."""
    runs: list[StoppedRun] = []
    module = importlib.import_module("weldnet.config.trainings")
    monkeypatch.setattr(module, "train_run", lambda cfg, folder, stopped, resume: runs.append(stopped))
    return runs


def write_honest(here: Path, option: str) -> None:
    """Writes the stopped run `here/run` of a recipe with one option."""
    typed = [] if option.startswith(("experiment", "scheduler")) else ["scheduler=constant"]
    write_stopped(here / "run", compose("train", here / "run", option, *typed, "trainer.max_epochs=3"))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_honest_run_is_found(option: str, here: Path) -> None:
    write_honest(here, option)
    assert find_stopped("train", here / "run").folder == here / "run"


@pytest.mark.parametrize("option", ["experiment=finetune", "callbacks.last.filename='{epoch:02d}-{val/loss:.3f}'"])
def test_an_honest_run_is_resumed(option: str, here: Path, resumed: list[StoppedRun]) -> None:
    write_honest(here, option)
    call("train", "ckpt_path=run")
    assert [run.folder for run in resumed] == [here / "run"]


@pytest.fixture
def own_callback(here: Path) -> str:
    """The name of a callback of one's own, which a stopped run has as `callbacks.x`."""
    name = "test_untrusted_runs.Ran"
    config = compose("train", here / "run", "trainer.max_epochs=3")
    write_stopped(here / "run", change(config, "callbacks.x", {"_target_": name}))
    return name


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_what_is_typed_again_is_trusted(plus: str, own_callback: str, here: Path) -> None:
    for other in (f"{own_callback}2", "Ran"):
        with pytest.raises(InputError, match=r"callbacks\.x"):
            find_stopped("train", here / "run", f"{plus}callbacks.x._target_={other}")
    assert find_stopped("train", here / "run", f"{plus}callbacks.x._target_={own_callback}").folder == here / "run"


def test_what_is_proposed_to_trust_works(
    own_callback: str, here: Path, resumed: list[StoppedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    again = f"+callbacks.x._target_={own_callback}"
    assert f"type it again: {again}" in refuse(capsys, "train", "ckpt_path=run")
    call("train", "ckpt_path=run", again)
    assert len(resumed) == 1


@pytest.mark.parametrize("address", ["databricks", "http://elsewhere:5000"])
def test_a_tracking_server_is_called_only_once_typed_again(
    address: str, here: Path, resumed: list[StoppedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    typed = f"logger.mlflow.tracking_uri={address}"
    write_stopped(here / "run", compose("train", here / "run", "trainer.max_epochs=3", "logger=mlflow", typed))
    assert f"type it again: +{typed}" in refuse(capsys, "train", "ckpt_path=run")
    assert not resumed
    call("train", "ckpt_path=run", typed)
    assert len(resumed) == 1


def test_every_argument_that_is_a_folder_is_known() -> None:
    """Of Lightning's callbacks and loggers that a checkpoint may name; the others are refused by their class."""
    parts = [Trainer, *(vars(callbacks)[name] for name in callbacks.__all__)]
    parts += [
        vars(loggers)[name]
        for name in loggers.__all__
        if trusted.RULES["logger.*"].allows(f"{loggers.__name__}.{name}")
    ]
    assert loggers.TensorBoardLogger in parts
    assert loggers.MLFlowLogger not in parts
    for part in parts:
        for name, parameter in inspect.signature(part).parameters.items():
            if "path" in str(parameter.annotation).lower():
                # `sub_dir` is joined to the logger's folder.
                assert name in (*trusted.PATHS, "sub_dir"), f"{part.__name__}.{name}"
