"""What `weldnet-train` checks before it writes anything, by its functions: Hydra composes once for many cases."""

from pathlib import Path

from omegaconf import OmegaConf
from stopped import compose
from trained import SMALL

from weldnet.config.build import build_data
from weldnet.config.trainings import prepare_trainer
from weldnet.training.monitors import check_fit


def check_training(folder: Path, *typed: str) -> None:
    """Checks a run of `SMALL` in a folder.

    Args:
        typed: groups, and keys whose values are as YAML has them; a key that does not exist is added.

    Raises:
        InputError: it is refused.
    """
    words = [word.lstrip("+") for word in typed]
    groups = [word for word in words if "." not in word.partition("=")[0]]
    cfg = OmegaConf.create(compose("train", folder, *SMALL, *groups))
    cfg.merge_with_dotlist([word for word in words if word not in groups])
    trainer = prepare_trainer(cfg, folder)
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    check_fit(data, trainer)
