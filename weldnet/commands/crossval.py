"""weldnet-crossval: every weld is held out once; mean, spread, each fold, and the pooled confusion matrix."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.resume import find_saved_crossval
from weldnet.config.schema import CrossvalConfig


def run(cfg: DictConfig) -> None:
    """Trains and tests the folds from a composed config; with `ckpt_path`, those that a stopped run has left."""
    from weldnet.config.folds import Folds

    only = cfg.data.fold
    Folds.open(cfg, HydraConfig.get().overrides.task).run(only)


main = command("crossval", run, CrossvalConfig, find_saved_crossval)
