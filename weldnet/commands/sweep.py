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
    """The search.

    Attributes:
        space: for each key that is searched, as nested keys, `low`, `high`, `log` and `step`, or `choices`.
        trials: how many trainings, of all processes together.
        monitor: the validation figure that judges a trial; auto for that of `callbacks.best`, or for balanced accuracy
            where the last epoch is kept.
        prune: end a trial that is worse than the median of the others after as many validations.
        storage: URL of the database that holds the study; null for `study.db` in the sweep's folder.
        name: of the study in the database.
        heartbeat: seconds between a trial's signs of life; without one for three times as long, it is made again.
    """

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
