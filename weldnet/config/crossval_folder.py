"""The folder of a cross-validation: a run folder for each fold, and which of them are finished."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from weldnet.config.literal import escape, pin, read_config
from weldnet.config.resumable import check_changes, check_groups, find_changes
from weldnet.config.resume import CONFIG, StoppedRun, place, placed_folder, to_plain
from weldnet.config.runs import show
from weldnet.config.schema import CrossvalConfig
from weldnet.config.trusted import check_states, check_trusted
from weldnet.config.upgrade import map_texts
from weldnet.errors import InputError


@dataclass(frozen=True)
class CrossvalFolder:
    """A cross-validation: what every fold trains, as `weldnet-train` takes it, without the fold; and its folder."""

    recipe: DictConfig
    num_folds: int
    folder: Path

    @classmethod
    def of(cls, cfg: DictConfig, folder: Path) -> "CrossvalFolder":
        """A cross-validation from the config of `weldnet-crossval`.

        Raises:
            InputError: a setting does not go with a cross-validation.
        """
        from weldnet.data.splits.folds import MOST_FOLDS

        if not 2 <= cfg.num_folds <= MOST_FOLDS:
            raise InputError(f"num_folds={cfg.num_folds}: allowed are whole numbers from 2 to {MOST_FOLDS}")
        if cfg.data.num_folds is not None:
            raise InputError(f"data.num_folds is weldnet-train's; type num_folds={cfg.data.num_folds}")
        if not cfg.test:
            raise InputError("a cross-validation is its tests; leave test=false out")
        if cfg.trainer.get("fast_dev_run"):
            raise InputError(
                "trainer.fast_dev_run keeps no checkpoint to test; try one fold with weldnet-train data.num_folds="
                f"{cfg.num_folds} data.fold=0"
            )
        recipe = pin(cfg, folder)
        del recipe["num_folds"]
        recipe.data.fold = recipe.ckpt_path = recipe.output_dir = None
        return cls(recipe, cfg.num_folds, folder)

    def fold_folder(self, fold: int) -> Path:
        """The run folder of a fold."""
        return self.folder / f"fold_{fold}"

    def fold_config(self, fold: int) -> DictConfig:
        """What `weldnet-train` would take to train one fold."""
        cfg = self.recipe.copy()
        cfg.data.num_folds, cfg.data.fold = self.num_folds, fold
        old, new = escape(str(self.folder)), escape(str(self.fold_folder(fold)))
        cfg.output_dir = new

        def move(text: str) -> str:
            return new + text.removeprefix(old) if text == old or text.startswith(f"{old}/") else text

        for group in ("callbacks", "logger"):
            cfg[group] = map_texts(OmegaConf.to_container(cfg[group]), move)
        return cfg

    def save_config(self) -> None:
        """Writes `config.yaml`, used to resume."""
        from weldnet.files import write_text

        saved = OmegaConf.merge({"num_folds": self.num_folds}, self.recipe, {"output_dir": escape(str(self.folder))})
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(saved))

    def finished(self) -> dict[int, Path]:
        """The run folders of the folds that are trained, tested and reported, by their numbers."""
        from weldnet.training.fit import is_complete

        folders = {fold: self.fold_folder(fold) for fold in range(self.num_folds)}
        return {fold: folder for fold, folder in folders.items() if is_complete(folder)}

    def is_complete(self) -> bool:
        """Whether every fold is finished, and their figures are there."""
        return len(self.finished()) == self.num_folds and (self.folder / "crossval.json").is_file()

    def unfinished(self, only: int | None) -> list[int]:
        """The folds to train.

        Args:
            only: the one that is wanted; None for all.

        Raises:
            InputError: there is no such fold.
        """
        if only is None:
            return [fold for fold in range(self.num_folds) if fold not in self.finished()]
        if not 0 <= only < self.num_folds:
            raise InputError(f"data.fold={only}: allowed are 0 to {self.num_folds - 1}, for num_folds={self.num_folds}")
        return [] if only in self.finished() else [only]

    def known_digest(self, fold: int) -> str | None:
        """The split digest with which a fold was trained; None for one without a checkpoint.

        Raises:
            InputError: its last checkpoint cannot be loaded.
        """
        if fold in self.finished():
            metrics: dict[str, Any] = json.loads((self.fold_folder(fold) / "metrics.json").read_text("utf-8"))
            return str(metrics["split_digest"])
        stopped = self.find_stopped_fold(fold)
        return stopped.checkpoint.record.split_digest if stopped and stopped.checkpoint else None

    def find_stopped_fold(self, fold: int) -> StoppedRun | None:
        """The run of a fold to resume; None where it starts anew.

        Raises:
            InputError: its last checkpoint cannot be loaded.
        """
        from weldnet.inference.checkpoint import load_checkpoint
        from weldnet.training.fit import has_ended

        folder = self.fold_folder(fold)
        last = folder / "checkpoints" / "last.ckpt"
        if not last.is_file():
            return None
        try:
            checkpoint = load_checkpoint(last)
            check_states(checkpoint.states, folder)
        except InputError as error:
            raise InputError(f"{error}. To train fold {fold} anew, remove {show(folder)}") from error
        return StoppedRun(self.fold_config(fold), folder, checkpoint, has_ended(folder, checkpoint.num_epochs))


def find_saved_config(ckpt_path: str, typed: list[str]) -> DictConfig:
    """The config of the cross-validation that `ckpt_path` means; nothing is made of it yet.

    Args:
        ckpt_path: as typed.
        typed: the overrides.

    Raises:
        InputError: there is none; its config is damaged; it was moved; a group or `output_dir` was typed beside it.
    """
    folder = _find_folder(ckpt_path)
    check_groups(typed, crossval=True)
    return place(read_config(folder / CONFIG), CrossvalConfig, folder)


def find_stopped_crossval(cfg: DictConfig, typed: list[str]) -> CrossvalFolder:
    """The cross-validation that `find_saved_config` found, to resume.

    Args:
        cfg: its own config with what was typed, composed.
        typed: the overrides.

    Raises:
        InputError: its files could run code or write elsewhere, or something was typed that would make the folds
            differ.
    """
    folder = placed_folder(cfg, typed)
    pinned = to_plain(pin(cfg, folder))
    check_trusted(pinned, folder, typed)
    saved = to_plain(read_config(folder / CONFIG))
    changes = find_changes(saved, pinned)
    # Which of the folds is to be trained now.
    changes.pop("data.fold", None)
    check_changes(changes, saved, crossval=True)
    return CrossvalFolder.of(cfg, folder)


def _find_folder(ckpt_path: str) -> Path:
    from weldnet.inference.checkpoint import find_newest_run

    runs = Path("runs", "crossval").absolute()
    folder = Path(ckpt_path).expanduser().absolute()
    if ckpt_path == "last" and not folder.exists():
        if newest := find_newest_run(runs):
            return newest
        raise InputError(f"ckpt_path=last: no cross-validation below {runs}")
    if folder.name.startswith("fold_") and (folder.parent / CONFIG).is_file():
        raise InputError(f"{show(folder)} is one fold; to resume all of them, type ckpt_path={show(folder.parent)}")
    config = folder / CONFIG
    if not config.is_file() or "num_folds" not in read_config(config):
        raise InputError(f"no cross-validation at {folder}; ckpt_path takes a folder below runs/crossval, or last")
    return folder
