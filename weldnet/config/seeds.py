"""Several seeds as a series: one training for each, on the same data and splits."""

from omegaconf import DictConfig

from weldnet.config.resumable import OF_SEEDS
from weldnet.config.runs import show, show_command
from weldnet.config.series import Series
from weldnet.errors import InputError
from weldnet.training.seeds_report import SeedsReport, read_seeds

MOST_SEEDS = 100


class Seeds(Series):
    """One training for each of several seeds, on the same data and splits."""

    command, size_key, made, alike = "weldnet-train", "seeds", ("seeds.json",), OF_SEEDS

    @staticmethod
    def check(cfg: DictConfig) -> None:
        if not 2 <= cfg.seeds <= MOST_SEEDS:
            raise InputError(
                f"seeds={cfg.seeds}: allowed are whole numbers from 2 to {MOST_SEEDS}, or null for one training"
            )
        if cfg.trainer.get("fast_dev_run"):
            raise InputError("trainer.fast_dev_run keeps no checkpoint to test; try it without seeds")
        if cfg.data.seed is None:
            cfg.data.seed = cfg.seed

    @property
    def numbers(self) -> range:
        return range(self.recipe.seed, self.recipe.seed + self.size)

    def set_number(self, cfg: DictConfig, number: int) -> None:
        cfg.seed = number

    def list_files(self) -> dict[str, str]:
        return {
            "figures": show(self.folder / self.made[0]),
            "a seed": f"{show_command('weldnet-test')} ckpt_path={show(self.member_folder(self.numbers[0]))}",
        }

    def read_report(self) -> SeedsReport:
        return read_seeds(self.finished(), self.size)
