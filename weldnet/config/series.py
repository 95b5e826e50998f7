"""The folder of a cross-validation: a run folder for each fold, and which of them are finished."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from weldnet.config.literal import escape, map_texts, pin, read_config, to_plain
from weldnet.config.resumable import check_changes, check_words, find_changes
from weldnet.config.resume import CONFIG, StoppedRun, claim, find_folder, load_last
from weldnet.config.runs import show
from weldnet.config.schema import CrossvalConfig
from weldnet.config.trusted import check_trusted
from weldnet.errors import InputError


@dataclass(frozen=True)
class CrossvalFolder:
    """A cross-validation: what every fold trains, as `weldnet-train` takes it, without the fold; and its folder."""

    recipe: DictConfig
    num_folds: int
    folder: Path

    @classmethod
    def of(cls, cfg: DictConfig, folder: Path) -> "CrossvalFolder":
        """A cross-validation from the config of `weldnet-crossval`."""
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
        cfg, new = self.recipe.copy(), escape(str(self.fold_folder(fold)))
        cfg.data.num_folds, cfg.data.fold, cfg.output_dir = self.num_folds, fold, new
        old = re.compile(rf"^{re.escape(escape(str(self.folder)))}(?=/|\Z)")
        for group in ("callbacks", "logger"):
            cfg[group] = map_texts(OmegaConf.to_container(cfg[group]), lambda text: old.sub(lambda _: new, text))
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
        """The folds to train, of all or of `only` one."""
        if only is not None and not 0 <= only < self.num_folds:
            raise InputError(f"data.fold={only}: allowed are 0 to {self.num_folds - 1}, for num_folds={self.num_folds}")
        wanted = range(self.num_folds) if only is None else [only]
        return [fold for fold in wanted if fold not in self.finished()]

    def known_digest(self, fold: int) -> str | None:
        """The split digest with which a fold was trained; None for one without a checkpoint."""
        if fold in self.finished():
            return str(json.loads((self.fold_folder(fold) / "metrics.json").read_text("utf-8"))["split_digest"])
        stopped = self.find_stopped_fold(fold)
        return stopped.checkpoint.card.split_digest if stopped and stopped.checkpoint else None

    def find_stopped_fold(self, fold: int) -> StoppedRun | None:
        """The run of a fold to resume; None where it starts anew."""
        from weldnet.training.fit import has_ended

        folder = self.fold_folder(fold)
        try:
            checkpoint = load_last(folder)
        except InputError as error:
            raise InputError(f"{error}. To train fold {fold} anew, remove {show(folder)}") from error
        if checkpoint is None:
            return None
        return StoppedRun(self.fold_config(fold), folder, checkpoint, has_ended(folder, checkpoint.num_epochs))


def find_saved_config(ckpt_path: str, typed: list[str]) -> DictConfig:
    """The config of the cross-validation that `ckpt_path` means; nothing is made of it yet."""
    folder = find_folder(ckpt_path, Path("runs", "crossval"))
    if folder.name.startswith("fold_") and (folder.parent / CONFIG).is_file():
        raise InputError(f"{show(folder)} is one fold; to resume all of them, type ckpt_path={show(folder.parent)}")
    saved = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else DictConfig({})
    if "num_folds" not in saved:
        where = f"below {Path('runs', 'crossval').absolute()}" if ckpt_path == "last" else f"at {folder}"
        raise InputError(f"no cross-validation {where}; ckpt_path takes a folder below runs/crossval, or last")
    check_words(typed, crossval=True)
    return claim(saved, CrossvalConfig, folder)


def find_stopped_crossval(cfg: DictConfig, typed: list[str]) -> CrossvalFolder:
    """The cross-validation that `find_saved_config` found, from its own config on which what was typed is composed."""
    folder = Path(cfg.output_dir)
    pinned = to_plain(pin(cfg, folder))
    check_trusted(pinned, folder, typed)
    saved = to_plain(read_config(folder / CONFIG))
    # Which of the folds is to be trained now.
    changes = {key: values for key, values in find_changes(saved, pinned).items() if key != "data.fold"}
    check_changes(changes, saved, crossval=True)
    return CrossvalFolder.of(cfg, folder)
