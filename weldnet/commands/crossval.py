"""weldnet-crossval: every weld is held out once; mean, spread, each fold, and the pooled confusion matrix."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from weldnet.config.folds import Folds, find_saved_config, find_stopped_folds
from weldnet.config.hydra_app import command
from weldnet.config.runs import name_folder
from weldnet.config.schema import CrossvalConfig
from weldnet.config.trainings import check_alone, run_series


def run(cfg: DictConfig) -> None:
    """Trains and tests the folds from a composed config; with `ckpt_path`, those that a stopped run has left."""
    check_alone(Folds)
    is_resumed = cfg.ckpt_path is not None
    if is_resumed:
        folds = find_stopped_folds(cfg, HydraConfig.get().overrides.task)
    else:
        folds = Folds.of(cfg, name_folder("crossval", cfg.output_dir))
    run_series(folds, is_resumed=is_resumed, only=cfg.data.fold)


main = command("crossval", run, CrossvalConfig, find_saved_config)
