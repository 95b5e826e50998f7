"""Finds the run to resume: its folder, its config with the keys typed now, and how far it has trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from weldnet.config.literal import escape, parse_config, pin, read_config, to_plain
from weldnet.config.resumable import (
    OF_FOLDS,
    OF_LENGTH,
    OF_SEEDS,
    OF_TEST,
    WITHOUT_EPOCHS,
    check_changes,
    check_words,
    find_among,
    find_changes,
)
from weldnet.config.runs import show
from weldnet.config.schema import CrossvalConfig, TrainConfig
from weldnet.config.trusted import check_links, check_states, check_trusted
from weldnet.errors import InputError, first_line
from weldnet.inference.finished_runs import RUNS, find_checkpoint, find_newest_run, run_of

if TYPE_CHECKING:
    from weldnet.data.datamodule import WeldDataModule
    from weldnet.inference.checkpoint import Checkpoint

CONFIG = "config.yaml"
"""In a run folder: the config of the run, every interpolation resolved."""


@dataclass(frozen=True)
class StoppedRun:
    """A run to resume.

    Attributes:
        cfg: its saved config with the keys typed now, every interpolation resolved.
        checkpoint: its `last.ckpt`; None if it was stopped before one was written.
        is_trained: whether it has no epoch left.
        is_complete: whether it is also tested and reported, so that nothing is left to do.
    """

    cfg: DictConfig
    folder: Path
    checkpoint: "Checkpoint | None"
    is_trained: bool = False
    is_complete: bool = False

    def check_data(self, data: "WeldDataModule") -> None:
        """Raises an InputError unless geometry, splits and classes are those that the run trained on."""
        if self.checkpoint is None:
            return
        card = self.checkpoint.card
        now = (data.geometry, data.split_digest, data.classes)
        if now != (self.checkpoint.geometry, card.split_digest, card.classes):
            raise InputError(
                "the data are no longer those of the run: its splits, classes or image geometry have changed, so its "
                "test could hold welds that it has trained on. Restore the data, or start a new run without ckpt_path"
            )


def find_saved_config(ckpt_path: str, typed: list[str]) -> DictConfig:
    """The saved config of the run at `ckpt_path`, for Hydra to compose `typed` over; no object is built from it yet."""
    folder, saved = _find_run(ckpt_path)
    if "num_folds" in saved:
        raise InputError(
            f"{show(folder)} is a cross-validation; resume it by weldnet-crossval ckpt_path={show(folder)}"
        )
    check_words(typed, OF_SEEDS if saved.get("seeds") is not None else None)
    return check_saved(saved, TrainConfig, folder)


def find_saved_crossval(ckpt_path: str, typed: list[str]) -> DictConfig:
    """The saved config of the cross-validation at `ckpt_path`; no object is built from it yet."""
    folder = find_folder(ckpt_path, Path("runs", "crossval"))
    if folder.name.startswith("fold_") and (folder.parent / CONFIG).is_file():
        raise InputError(f"{show(folder)} is one fold; to resume all of them, type ckpt_path={show(folder.parent)}")
    saved = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else DictConfig({})
    if "num_folds" not in saved:
        where = f"below {Path('runs', 'crossval').absolute()}" if ckpt_path == "last" else f"at {folder}"
        raise InputError(f"no cross-validation {where}; ckpt_path takes a folder below runs/crossval, or last")
    check_words(typed, OF_FOLDS)
    return check_saved(saved, CrossvalConfig, folder)


def holds_seeds(folder: Path) -> bool:
    """Whether a folder holds the runs of several seeds."""
    return (folder / CONFIG).is_file() and read_config(folder / CONFIG).get("seeds") is not None


def find_stopped_run(cfg: DictConfig, typed: list[str]) -> StoppedRun:
    """The run that `find_saved_config` found; `cfg` is its saved config with the keys of `typed` composed over it."""
    from weldnet.training.fit import has_ended, is_complete

    folder = Path(cfg.output_dir)
    cfg = pin(cfg, folder)
    cfg.ckpt_path = None
    plain = to_plain(cfg)
    check_trusted(plain, folder, typed)
    checkpoint = load_last(folder)
    if checkpoint is None:
        # Killed before it wrote its first last.ckpt, unless its config never writes one: then it cannot be resumed.
        if not (plain.get("callbacks") or {}).get("last"):
            raise InputError(f"{show(folder)} holds no checkpoints/last.ckpt, so it cannot be resumed")
        return StoppedRun(cfg, folder, None)
    saved = to_plain(parse_config(checkpoint.card.config, show(checkpoint.path)))
    changes = find_changes(saved, plain)
    check_changes(changes, saved)
    num_epochs, most = checkpoint.num_epochs, cfg.trainer.get("max_epochs") or 0
    if "trainer.max_epochs" in changes and 0 < most < num_epochs:
        raise InputError(
            f"trainer.max_epochs={most}: {show(folder)} has already trained {num_epochs} epochs; type a larger "
            f"number, such as trainer.max_epochs={2 * num_epochs}"
        )
    is_trained = num_epochs >= most > 0 or (has_ended(folder, num_epochs) and not find_among(changes, OF_LENGTH))
    if is_trained and (keys := find_among(changes, WITHOUT_EPOCHS)):
        raise InputError(
            f"{show(folder)} has finished its {num_epochs} epochs, so {keys[0]} would change nothing; to train "
            f"further, add trainer.max_epochs={2 * num_epochs}"
        )
    is_done = is_trained and is_complete(folder, num_epochs) and not find_among(changes, OF_TEST)
    return StoppedRun(cfg, folder, checkpoint, is_trained, is_done)


def load_last(folder: Path) -> "Checkpoint | None":
    """`last.ckpt` of a run folder, its states checked; None where there is none yet."""
    from weldnet.inference.checkpoint import load_checkpoint

    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return None
    checkpoint = load_checkpoint(last)
    check_states(checkpoint.states, folder)
    return checkpoint


def check_saved(saved: DictConfig, schema: type, folder: Path) -> DictConfig:
    """Checks a saved config and the folder that holds it, and returns it with `output_dir` as a literal path."""
    try:
        OmegaConf.merge(OmegaConf.structured(schema), saved)
    except OmegaConfBaseException as error:
        raise InputError(f"{show(folder)}: the config in it is damaged: {first_line(error)}") from error
    created_as = str(OmegaConf.select(saved, "output_dir"))
    if Path(created_as).resolve() != folder.resolve():
        raise InputError(
            f"{show(folder)} was created as {created_as}; a moved or copied run can be tested, but not resumed. Move "
            "it back, or start a new run"
        )
    check_links(folder)
    saved.output_dir = escape(str(folder))
    return saved


def find_folder(ckpt_path: str, runs: Path) -> Path:
    """The folder that `ckpt_path` names; `last` is the newest of the runs."""
    folder = Path(ckpt_path).expanduser().absolute()
    newest = find_newest_run(runs) if ckpt_path == "last" and not folder.exists() else None
    return newest or folder


def _find_run(ckpt_path: str) -> tuple[Path, DictConfig]:
    """The folder of the run at `ckpt_path`, a folder or a checkpoint file, and the run's saved config."""
    folder = find_folder(ckpt_path, RUNS)
    if not (folder / CONFIG).is_file():
        file = find_checkpoint(ckpt_path)
        folder = run_of(file)
        if not (folder / CONFIG).is_file():
            from weldnet.inference.checkpoint import load_checkpoint

            saved = parse_config(load_checkpoint(file).card.config, show(file))
            if not saved:
                raise InputError(f"{show(file)} was not trained by a command, so no command can resume it")
            return folder, saved
    return folder, read_config(folder / CONFIG)
