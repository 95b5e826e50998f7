"""Resuming a run: its folder, its config with what was typed now, and how far it has come."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from weldnet.config import resumable
from weldnet.config.literal import check_schema, escape, parse_config, pin, read_config
from weldnet.config.resumable import check_changes, check_groups, find_changes, which
from weldnet.config.runs import show
from weldnet.config.schema import TrainConfig
from weldnet.config.trusted import check_links, check_states, check_trusted
from weldnet.errors import InputError

if TYPE_CHECKING:
    from weldnet.data.datamodule import WeldDataModule
    from weldnet.inference.checkpoint import Checkpoint

CONFIG = "config.yaml"
"""In a run folder: the config in force, literally."""


@dataclass(frozen=True)
class StoppedRun:
    """A run to resume.

    Attributes:
        cfg: its config with what was typed now, pinned.
        folder: of the run.
        checkpoint: its `last.ckpt`; None where it was stopped in its first epoch, from which it starts again.
        is_trained: whether nothing is left to train.
        is_complete: whether nothing is left to do.
    """

    cfg: DictConfig
    folder: Path
    checkpoint: "Checkpoint | None"
    is_trained: bool = False
    is_complete: bool = False

    def check_data(self, data: "WeldDataModule") -> None:
        """Raises:
        InputError: the data, their split or their geometry are no longer those of the run.
        """
        if self.checkpoint is None:
            return
        record = self.checkpoint.record
        if data.geometry != self.checkpoint.geometry:
            raise InputError(
                "data.image_size, resize, orient and window are the run's own; what learned from one geometry does "
                "not work on a different one. Leave them out, or start a new run without ckpt_path"
            )
        if data.split_digest != record.split_digest or data.classes != record.classes:
            raise InputError(
                "the data are no longer those of the run: their splits differ, and welds it has trained on could stand "
                "in its test. Bring the data back as they were, or start a new run without ckpt_path"
            )


def find_saved_config(ckpt_path: str, typed: list[str]) -> DictConfig:
    """The config of the run that `ckpt_path` means, on which what was typed is composed; nothing is made of it yet.

    Args:
        ckpt_path: as typed.
        typed: the overrides.

    Raises:
        InputError: there is no such run; its config is damaged; it was moved; a group or `output_dir` was typed beside
            it.
    """
    folder, saved = _find_run(ckpt_path)
    if "num_folds" in saved:
        raise InputError(
            f"{show(folder)} is a cross-validation; resume it by weldnet-crossval ckpt_path={show(folder)}"
        )
    check_groups(typed, crossval=False)
    return place(saved, TrainConfig, folder)


def find_stopped_run(cfg: DictConfig, typed: list[str]) -> StoppedRun:
    """The run that `find_saved_config` found.

    Args:
        cfg: the run's own config with what was typed, composed.
        typed: the overrides.

    Raises:
        InputError: the run's files could run code or write elsewhere, or something was typed that a resumed run cannot
            heed.
    """
    from weldnet.inference.checkpoint import load_checkpoint

    folder = placed_folder(cfg, typed)
    cfg = pin(cfg, folder)
    cfg.ckpt_path = None
    plain = to_plain(cfg)
    check_trusted(plain, folder, typed)
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        # A run that is killed before its first last.ckpt may have a best.ckpt; one without `last` never has more.
        if not (plain.get("callbacks") or {}).get("last"):
            raise InputError(f"{show(folder)} holds no checkpoints/last.ckpt, so it cannot be resumed")
        return StoppedRun(cfg, folder, None)
    checkpoint = load_checkpoint(last)
    check_states(checkpoint.states, folder)
    saved = to_plain(parse_config(checkpoint.record.config, show(last)))
    changes = find_changes(saved, plain)
    check_changes(changes, saved, crossval=False)
    return _locate(StoppedRun(cfg, folder, checkpoint), changes)


def _locate(run: StoppedRun, changes: dict[str, tuple[Any, Any]]) -> StoppedRun:
    """The run with how far it has come.

    Raises:
        InputError: nothing is left to train, and something was typed that only further epochs would heed.
    """
    from weldnet.training.fit import has_ended, is_complete

    assert run.checkpoint is not None
    num_epochs, most = run.checkpoint.num_epochs, run.cfg.trainer.get("max_epochs")
    if "trainer.max_epochs" in changes and most is not None and 0 < most < num_epochs:
        raise InputError(
            f"trainer.max_epochs={most}: {show(run.folder)} has trained {num_epochs} epochs already; give it more, "
            f"trainer.max_epochs={2 * num_epochs}"
        )
    is_trained = (most is not None and num_epochs >= most > 0) or (
        has_ended(run.folder, num_epochs) and not which(changes, resumable.OF_LENGTH)
    )
    if is_trained and (keys := which(changes, resumable.WITHOUT_EPOCHS)):
        raise InputError(
            f"{show(run.folder)} has finished its {num_epochs} epochs, so {keys[0]} would change nothing; to train "
            f"further, add trainer.max_epochs={2 * num_epochs}"
        )
    done = is_trained and is_complete(run.folder, num_epochs) and not which(changes, resumable.OF_TEST)
    return StoppedRun(run.cfg, run.folder, run.checkpoint, is_trained, done)


def place(saved: DictConfig, schema: type, folder: Path) -> DictConfig:
    """A saved config, checked, with the folder that holds it as its `output_dir`.

    Raises:
        InputError: the config is damaged, or the folder was moved or copied, or holds a link that leads out of it.
    """
    check_schema(saved, schema, show(folder))
    made_as = str(OmegaConf.select(saved, "output_dir"))
    if Path(made_as).resolve() != folder.resolve():
        raise InputError(
            f"{show(folder)} was made as {made_as}; a moved or copied run can be tested, but not resumed. Move it "
            "back, or start a new run"
        )
    check_links(folder)
    saved.output_dir = escape(str(folder))
    return saved


def placed_folder(cfg: DictConfig, typed: list[str]) -> Path:
    """The folder of a config that `place` has returned and on which what was typed is composed.

    Raises:
        InputError: `ckpt_path` was not typed, so there is none; `output_dir` was, so it is a different one.
    """
    keys = [word.lstrip("+~").partition("=")[0] for word in typed]
    if "ckpt_path" not in keys:
        raise InputError("ckpt_path is typed, not set in a file of --config-dir")
    if "output_dir" in keys:
        raise InputError("ckpt_path resumes inside that run's own folder; leave output_dir out")
    return Path(cfg.output_dir)


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """A pinned config as dicts, lists and text."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _find_run(ckpt_path: str) -> tuple[Path, DictConfig]:
    """The folder of a run, and its saved config."""
    from weldnet.inference.checkpoint import find_checkpoint, find_newest_run, load_checkpoint
    from weldnet.inference.evaluate import run_of

    runs = Path("runs", "train")
    folder = Path(ckpt_path).expanduser().absolute()
    if ckpt_path == "last" and not folder.exists():
        folder = find_newest_run(runs) or folder
    if not (folder / CONFIG).is_file():
        file = find_checkpoint(ckpt_path, runs)
        folder = run_of(file)
        if not (folder / CONFIG).is_file():
            return folder, parse_config(load_checkpoint(file).record.config, show(file))
    return folder, read_config(folder / CONFIG)
