"""The folder of a cross-validation: a run folder for each fold, which of them are finished, and how to go on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from weldnet.commands.resume import GROUPS, StoppedRun, check_saved
from weldnet.commands.runs import apply_overrides, make_folder, show
from weldnet.errors import InputError

CHANGEABLE = (
    "ckpt_path",
    "data.fold",
    *("data.root", "data.manifest", "data.cache", "data.cache_dir", "data.num_workers"),
    *("trainer.accelerator", "trainer.devices", "trainer.enable_progress_bar", "callbacks.dashboard"),
)
"""What may be typed when going on: what a fold is worth does not depend on it."""


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
        from weldnet.data.folds import MOST_FOLDS

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
        # Unresolved: each fold has its own ${output_dir}.
        recipe = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
        assert isinstance(recipe, DictConfig)
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
        return cfg

    def save_config(self) -> None:
        """Writes `config.yaml`, from which it is gone on with."""
        from weldnet.files import write_text

        saved = OmegaConf.merge({"num_folds": self.num_folds}, self.recipe, {"output_dir": str(self.folder)})
        write_text(self.folder / "config.yaml", OmegaConf.to_yaml(saved))

    def finished(self) -> dict[int, Path]:
        """The run folders of the folds that are trained and tested, by their numbers."""
        from weldnet.evaluation.crossval import is_tested

        folders = {fold: self.fold_folder(fold) for fold in range(self.num_folds)}
        return {fold: folder for fold, folder in folders.items() if is_tested(folder)}

    def unfinished(self, only: int | None) -> list[int]:
        """The folds to train.

        Args:
            only: the one that is wanted; None for all.

        Raises:
            InputError: there is no such fold, or it is finished.
        """
        if only is None:
            return [fold for fold in range(self.num_folds) if fold not in self.finished()]
        if not 0 <= only < self.num_folds:
            raise InputError(f"data.fold={only}: allowed are 0 to {self.num_folds - 1}, for num_folds={self.num_folds}")
        if only in self.finished():
            raise InputError(f"fold {only} of {show(self.folder)} is finished; leave data.fold={only} out")
        return [only]

    def known_digest(self, fold: int) -> str | None:
        """The split digest with which a fold was trained; None for one without a checkpoint.

        Raises:
            InputError: its last checkpoint cannot be loaded.
        """
        if fold in self.finished():
            metrics: dict[str, Any] = json.loads((self.fold_folder(fold) / "metrics.json").read_text("utf-8"))
            return str(metrics["split_digest"])
        stopped = self._load_last(fold)
        return stopped.record.split_digest if stopped else None

    def find_stopped_fold(self, fold: int) -> StoppedRun | None:
        """The run of a fold to go on with; None, and a clean folder, where it starts anew.

        Raises:
            InputError: its last checkpoint cannot be loaded.
        """
        stopped = self._load_last(fold)
        folder = self.fold_folder(fold)
        if stopped is None and folder.exists():
            # Left by a kill within the first epoch: without a last.ckpt there is nothing in it to go on from.
            shutil.rmtree(folder)
        return stopped

    def _load_last(self, fold: int) -> StoppedRun | None:
        from weldnet.checkpoint import load_checkpoint

        folder = self.fold_folder(fold)
        last = folder / "checkpoints" / "last.ckpt"
        if not last.is_file():
            return None
        try:
            return StoppedRun(self.fold_config(fold), folder, last, load_checkpoint(last).record)
        except InputError as error:
            raise InputError(f"{error}. To train fold {fold} anew, remove {show(folder)}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the folder; within it, no other process trains there.

        Raises:
            InputError: another one does.
        """
        from filelock import FileLock, Timeout

        make_folder(self.folder)
        file = self.folder / ".lock"
        try:
            with FileLock(file, timeout=0):
                yield
                file.unlink(missing_ok=True)
        except Timeout as error:
            raise InputError(f"another weldnet-crossval is at work in {show(self.folder)}") from error


def find_stopped_crossval(cfg: DictConfig, overrides: list[str]) -> CrossvalFolder:
    """The cross-validation that `cfg.ckpt_path` means, to go on with.

    Args:
        cfg: composed from what was typed.
        overrides: what was typed.

    Raises:
        InputError: there is no such cross-validation, it has finished or was moved, or something was typed that would
            make the folds differ.
    """
    if cfg.output_dir is not None:
        raise InputError("ckpt_path goes on inside that cross-validation's own folder; leave output_dir out")
    folder = _find_folder(cfg.ckpt_path)
    if (folder / "crossval.json").is_file():
        raise InputError(f"{show(folder)} has finished; its figures are in {show(folder / 'crossval.json')}")
    saved = OmegaConf.load(folder / "config.yaml")
    assert isinstance(saved, DictConfig)
    check_saved(saved, folder, overrides)
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        same = key not in GROUPS and OmegaConf.select(saved, key) == OmegaConf.select(cfg, key)
        if key not in CHANGEABLE and not same:
            raise InputError(
                f"{key} would make the folds differ, and they are trained alike; leave it out, or start a new "
                f"cross-validation. Beside ckpt_path there may be {', '.join(CHANGEABLE[1:])}"
            )
    return CrossvalFolder.of(apply_overrides(saved, cfg, overrides), folder)


def _find_folder(ckpt_path: str) -> Path:
    runs = Path("runs", "crossval").absolute()
    folder = Path(ckpt_path).expanduser().absolute()
    if ckpt_path == "last" and not folder.exists():
        newest = sorted(runs.glob("*/config.yaml"), key=lambda file: file.stat().st_mtime_ns)
        if not newest:
            raise InputError(f"ckpt_path=last: no cross-validation below {runs}")
        return newest[-1].parent
    if folder.name.startswith("fold_") and (folder.parent / "config.yaml").is_file():
        raise InputError(f"{show(folder)} is one fold; to go on with all of them, type ckpt_path={show(folder.parent)}")
    config = folder / "config.yaml"
    if not config.is_file() or "num_folds" not in (OmegaConf.load(config) or {}):
        raise InputError(f"no cross-validation at {folder}; ckpt_path takes a folder below runs/crossval, or last")
    return folder
