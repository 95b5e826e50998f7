"""A cross-validation as a series: one training for each fold."""

from omegaconf import DictConfig

from weldnet.config.resumable import OF_FOLDS
from weldnet.config.runs import make_folder, show, show_command
from weldnet.config.series import Series
from weldnet.data.splits.folds import MOST_FOLDS
from weldnet.errors import InputError
from weldnet.training.crossval_report import CrossvalReport, read_folds
from weldnet.training.fold_ensemble import write_ensemble


class Folds(Series):
    """A cross-validation: one training for each fold."""

    command, size_key, alike = "weldnet-crossval", "num_folds", OF_FOLDS
    made = ("crossval.json", "crossval.html", "checkpoints/ensemble.ckpt")

    @staticmethod
    def check(cfg: DictConfig) -> None:
        if not 2 <= cfg.num_folds <= MOST_FOLDS:
            raise InputError(f"num_folds={cfg.num_folds}: allowed are whole numbers from 2 to {MOST_FOLDS}")
        if cfg.data.num_folds is not None:
            raise InputError(f"data.num_folds is a key of weldnet-train; type num_folds={cfg.data.num_folds}")
        if cfg.data.fold is not None and not 0 <= cfg.data.fold < cfg.num_folds:
            raise InputError(
                f"data.fold={cfg.data.fold}: allowed are 0 to {cfg.num_folds - 1}, for num_folds={cfg.num_folds}"
            )
        if not cfg.test:
            raise InputError("a cross-validation always tests; leave test=false out")
        if cfg.trainer.get("fast_dev_run"):
            raise InputError(
                "trainer.fast_dev_run keeps no checkpoint to test; try one fold with weldnet-train data.num_folds="
                f"{cfg.num_folds} data.fold=0"
            )
        cfg.data.fold = None

    def set_number(self, cfg: DictConfig, number: int) -> None:
        cfg.data.num_folds, cfg.data.fold = self.size, number

    def list_files(self) -> dict[str, str]:
        return {
            "the page": show(self.folder / self.made[1]),
            "figures": f"{show(self.folder / self.made[0])}, {show(self.folder / 'confusion_matrix.png')}",
            "one by one": show(self.folder / "predictions.csv"),
            "a fold": f"{show_command('weldnet-test')} ckpt_path={show(self.member_folder(0))}",
            "ensemble": f"{show_command('weldnet-predict')} ckpt_path={show(self.folder)} source=DIR",
            "labels": f"{show_command('weldnet-audit')} with the same data keys and crossval={show(self.folder)} lists "
            "those that may be wrong",
            "or": f"train one classifier on all images, with the same keys; it predicts {self.size} times as fast",
        }

    def read_report(self) -> CrossvalReport:
        return read_folds(self.finished(), self.size)

    def save(self) -> None:
        report, ensemble = self.read_report(), self.folder / self.made[-1]
        report.save(self.folder)
        make_folder(ensemble.parent)
        write_ensemble(report, self.finished(), ensemble)
