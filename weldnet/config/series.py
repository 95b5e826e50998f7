"""A series: trainings that differ in one number, in a folder that holds a run folder for each."""

import gc
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from omegaconf import DictConfig, OmegaConf

from weldnet.config.literal import escape, map_texts, pin, read_config, to_plain
from weldnet.config.resumable import Alike, check_changes, find_changes
from weldnet.config.resume import CONFIG, StoppedRun, load_last
from weldnet.config.runs import (
    is_leader,
    make_absolute,
    name_folder,
    remove_lock,
    show,
    show_command,
    stop_here,
    work_alone,
)
from weldnet.config.trainings import prepare_data, prepare_trainer, train_run
from weldnet.config.trusted import check_trusted
from weldnet.console import print_table
from weldnet.errors import InputError
from weldnet.evaluation.metrics import METRICS, show_figure
from weldnet.files import write_text
from weldnet.training.crossval_report import CrossvalReport
from weldnet.training.fit import has_ended, is_complete
from weldnet.training.seeds_report import SeedsReport


@dataclass(frozen=True)
class Series(ABC):
    """Trainings that differ in one number, and their folder.

    Attributes:
        command: the command that trains and resumes the series.
        size_key: the key that sets how many trainings there are.
        made: the files for all trainings together; the first one has their figures.
        alike: the names in messages and of run folders, and which keys may be typed on resume.
        recipe: the config of every training, apart from its number and its folder.
        size: how many trainings there are.
        folder: holds the run folders.
    """

    command: ClassVar[str]
    size_key: ClassVar[str]
    made: ClassVar[tuple[str, ...]]
    alike: ClassVar[Alike]

    recipe: DictConfig
    size: int
    folder: Path

    @classmethod
    def open(cls, cfg: DictConfig, typed: list[str]) -> Self:
        """A new series, or the one that `ckpt_path` resumes: its own config, over which the typed keys are composed."""
        if not is_leader():
            raise InputError(f"a {cls.alike.what} runs in one process; start it without torchrun, or with one task")
        if cfg.ckpt_path is None:
            folder = name_folder(cls.command.removeprefix("weldnet-"), cfg.output_dir)
        else:
            folder = Path(cfg.output_dir)
            pinned = to_plain(pin(cfg, folder))
            check_trusted(pinned, folder, typed)
            saved = to_plain(read_config(folder / CONFIG))
            # `alike.own` may change: which fold to train now, or how many seeds.
            changes = {key: values for key, values in find_changes(saved, pinned).items() if key != cls.alike.own}
            check_changes(changes, saved, cls.alike)
            size, before = cfg[cls.size_key], saved[cls.size_key]
            if size is None or size < before:
                raise InputError(f"{cls.size_key}={size}: {show(folder)} has {before} already; type a larger number")
        cls.check(cfg)
        recipe = pin(cfg, folder)
        size = recipe.pop(cls.size_key)
        recipe.ckpt_path = recipe.output_dir = None
        return cls(recipe, size, folder)

    @staticmethod
    @abstractmethod
    def check(cfg: DictConfig) -> None:
        """Checks a config, and makes it one for all trainings."""

    @property
    def numbers(self) -> range:
        """The numbers of the trainings."""
        return range(self.size)

    @abstractmethod
    def set_number(self, cfg: DictConfig, number: int) -> None:
        """Writes the number of one training into its config."""

    @abstractmethod
    def list_files(self) -> dict[str, str]:
        """The lines to print once all trainings are finished: where each result is, by its label."""

    @abstractmethod
    def read_report(self) -> CrossvalReport | SeedsReport:
        """The report of the finished trainings."""

    def save(self) -> None:
        """Writes the files for all trainings together, once they are finished."""
        self.read_report().save(self.folder)

    def member_folder(self, number: int) -> Path:
        """The run folder of a training."""
        return self.folder / f"{self.alike.member}_{number}"

    def member_config(self, number: int) -> DictConfig:
        """The config of one training, as `weldnet-train` takes it; paths in the series' folder move to the member's."""
        cfg, member_folder = self.recipe.copy(), escape(str(self.member_folder(number)))
        self.set_number(cfg, number)
        cfg.output_dir = member_folder
        prefix = re.compile(rf"^{re.escape(escape(str(self.folder)))}(?=/|\Z)")
        for group in ("callbacks", "logger"):
            plain = OmegaConf.to_container(cfg[group])
            cfg[group] = map_texts(plain, lambda text: prefix.sub(lambda _: member_folder, text))
        return cfg

    def finished(self) -> dict[int, Path]:
        """The run folders of the trainings that are trained, tested and reported, by number."""
        folders = {number: self.member_folder(number) for number in self.numbers}
        return {number: folder for number, folder in folders.items() if is_complete(folder)}

    def is_complete(self) -> bool:
        """Whether every training is finished and the files for all of them are written."""
        return len(self.finished()) == self.size and all((self.folder / name).is_file() for name in self.made)

    def unfinished(self, only: int | None = None) -> list[int]:
        """The numbers of the unfinished trainings; with `only`, at most that number."""
        finished = self.finished()
        return [number for number in self.numbers if number not in finished and only in (None, number)]

    def known_digest(self, number: int) -> str | None:
        """The split digest of the data that one training was trained on; None without a checkpoint."""
        if number in self.finished():
            metrics = json.loads((self.member_folder(number) / "metrics.json").read_text("utf-8"))
            return str((metrics if "split" in metrics else metrics["validation"])["split_digest"])
        stopped = self.find_stopped_member(number)
        return stopped.checkpoint.card.split_digest if stopped and stopped.checkpoint else None

    def find_stopped_member(self, number: int) -> StoppedRun | None:
        """The run to resume for one training; None without a checkpoint."""
        folder = self.member_folder(number)
        try:
            checkpoint = load_last(folder)
        except InputError as error:
            raise InputError(f"{error}. To train {self.alike.member} {number} anew, remove {show(folder)}") from error
        if checkpoint is None:
            return None
        return StoppedRun(self.member_config(number), folder, checkpoint, has_ended(folder, checkpoint.num_epochs))

    def run(self, only: int | None = None) -> None:
        """Trains and tests what is left, or `only` one of it, and reports the series."""
        make_absolute(self.recipe.data)
        resume = f"{show_command(self.command)} ckpt_path={show(self.folder)}"
        if not self.unfinished(only) and (only is not None or self.is_complete()):
            which = "" if only is None else f"{self.alike.member} {only} of "
            print(f"{which}{show(self.folder)} is complete: trained, tested, reported; nothing was done")
            remove_lock(self.folder)
            self._print_outcome(resume, save=False)
            return
        if self.unfinished(only):
            self._check(only)
        only_this = "" if only is None else f" {self.alike.own}={only}"
        try:
            with work_alone(self.folder):
                own = {self.size_key: self.size, "output_dir": escape(str(self.folder))}
                write_text(self.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.merge(self.recipe, own)))
                if self.unfinished():
                    # Those of a shorter series are out of date.
                    for name in self.made:
                        (self.folder / name).unlink(missing_ok=True)
                # Another command may have finished some of them while the data were set up.
                for number in self.unfinished(only):
                    self._train(number, resume + only_this)
                self._print_outcome(resume)
        except KeyboardInterrupt:
            stop_here(resume + only_this)

    def _check(self, only: int | None) -> None:
        """Raises everything that could stop a later training before the first one is trained."""
        first = self.numbers[0]
        cfg = self.member_config(first)
        trainer = prepare_trainer(cfg, self.member_folder(first))
        if trainer.world_size > 1:
            raise InputError(f"a {self.alike.what} runs in one process; take trainer.devices=1")
        # Whatever this machine's precision is, a run that is resumed elsewhere keeps it.
        self.recipe.trainer.precision = cfg.trainer.precision
        begins = any(self.find_stopped_member(number) is None for number in self.unfinished(only))
        for number in self.numbers:
            member = self.member_config(number)
            if member.data.cache != "none":
                # The images are decoded once for all of them; here they need not be copied.
                member.data.cache = "disk"
            needs_weights = begins and number == first
            data, trainer = prepare_data(member, self.member_folder(number), trainer, needs_weights=needs_weights)
            if self.known_digest(number) not in (None, data.split_digest):
                raise InputError(
                    f"the data are no longer those of {show(self.folder)}: {self.alike.member} {number} now has a "
                    f"different split. Bring the data back as they were, or start a new {self.alike.what} without "
                    "ckpt_path"
                )

    def _train(self, number: int, resume: str) -> None:
        folder = self.member_folder(number)
        with work_alone(folder):
            stopped = self.find_stopped_member(number)
            position = f"{self.numbers.index(number) + 1} of {self.size}"
            print(f"\n{folder.name}, {position}{': resumed' if stopped else ''}", flush=True)
            reports = train_run(self.member_config(number), folder, stopped, resume)
        assert reports is not None
        split, report = list(reports.items())[-1]
        metrics = report.metrics()
        figures = "  ".join(f"{metric.key} {show_figure(metrics[metric.key])}" for metric in METRICS)
        print(f"{folder.name}: {metrics['num_images']:,} {split} images: {figures}", flush=True)
        # Model and trainer hold each other; the next one may need the device's memory.
        gc.collect()

    def _print_outcome(self, resume: str, *, save: bool = True) -> None:
        report, is_whole = self.read_report(), len(self.finished()) == self.size
        if save and is_whole:
            self.save()
        print()
        for table in report.tables():
            print_table(table)
        lines = self.list_files() if is_whole else {f"{self.alike.member}s": show(self.folder), "next": resume}
        for what, line in lines.items():
            print(f"{what + ':':<11} {line}")
