"""weldnet-sweep: search for better settings: trainings judged by validation, shared by any number of processes."""

from dataclasses import dataclass, field

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.runs import is_leader
from weldnet.config.schema import Node, RecipeConfig
from weldnet.errors import InputError


@dataclass
class SweepKeys:
    """The search; the help of `weldnet-sweep` explains each key."""

    space: Node = field(default_factory=dict)
    trials: int = 20
    monitor: str = "auto"
    prune: bool = True
    storage: str | None = None
    name: str = "weldnet"
    heartbeat: int = 60


@dataclass
class SweepConfig(RecipeConfig):
    """What `weldnet-sweep` takes: the recipe, and the search."""

    sweep: SweepKeys = field(default_factory=SweepKeys)


def run(cfg: DictConfig) -> None:
    """Makes what is left of a sweep's trials from a composed config, and reports all of them."""
    from weldnet.config.search import Search

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("a sweep makes its trials itself; leave -m out")
    if not is_leader():
        raise InputError("a trial trains in one process; start the same command several times, without torchrun")
    if cfg.ckpt_path is not None:
        raise InputError("a sweep is resumed by the same command with its output_dir; leave ckpt_path out")
    search = Search.of(cfg)
    search.check()
    search.run()


main = command("sweep", run, SweepConfig)
