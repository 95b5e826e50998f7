"""A sweep: its search space, the config of each trial, and the best one as an experiment for weldnet-train."""

import json
import math
import shlex
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from weldnet.config import arguments
from weldnet.config.literal import pin
from weldnet.config.resumable import GROUPS, OF_MACHINE, find_among, find_changes
from weldnet.config.run_table import print_sweep
from weldnet.config.runs import label_overrides, make_absolute, make_folder, name_folder, show, show_command
from weldnet.config.sweep_settings import check_key, check_settings, list_ends, read_space, settle_monitor
from weldnet.config.trainings import prepare_data, prepare_trainer, show_notes, train_run
from weldnet.errors import InputError, MachineError, MemoryShortageError, propose_extra
from weldnet.files import write_text

if TYPE_CHECKING:
    from optuna import Trial

OF_PROCESS = ("trials", "storage", "name", "heartbeat")
"""Keys of `sweep` that processes with one study need not have in common."""

OF_MEMORY = (
    *("data.batch_size", "data.image_size", "trainer.precision"),
    *(f"model.{name}" for name in ("backbone", "freeze_through", "unfreeze_at_epoch", "cuda_graphs")),
)
"""Keys by which one trial needs more memory than another."""

LOCK = ".study.lock"
"""Of a folder whose sweep can be joined: two processes at once would both make the tables, or both write the report."""


@dataclass(frozen=True)
class Search:
    """A sweep: the config of every trial, not resolved, the choices or range of each key, the folder of all trials."""

    cfg: DictConfig
    space: dict[str, dict[str, Any]]
    folder: Path

    @classmethod
    def of(cls, cfg: DictConfig) -> "Search":
        """Checks the config of `weldnet-sweep`, without data."""
        try:
            import optuna
        except ImportError as error:
            raise InputError(f"a sweep needs optuna; type {propose_extra('sweep')}") from error
        # Optuna has had its heartbeats, retries and charts for years, and still warns of them.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_settings(cfg)
        space = dict(read_space(OmegaConf.to_container(cfg.sweep.space)))
        if not space:
            raise InputError("sweep.space is empty; type 'sweep.space.optimizer.lr={low:1e-5,high:1e-2,log:true}'")
        if cfg.data.seed is None:
            # Of the splits, which all trials share.
            cfg.data.seed = cfg.seed
        make_absolute(cfg.data)
        for key in space:
            check_key(cfg, key)
        folder = Path(cfg.output_dir or "").expanduser().absolute()
        if cfg.output_dir is None or not (folder / LOCK).exists():
            folder = name_folder("sweep", cfg.output_dir)
        return cls(cfg, space, folder)

    def check(self) -> None:
        """Refuses, before the first trial, what would stop each of them; settles by which figure they are judged."""
        for position in (0, -1):
            cfg = self.config_of({key: list_ends(each)[position] for key, each in self.space.items()}, self.folder)
            trainer = prepare_trainer(cfg, self.folder)
        if trainer.world_size > 1:
            raise InputError(
                "a trial trains in one process; take trainer.devices=1, and start the command several times"
            )
        data, _ = prepare_data(cfg, self.folder, trainer)
        show_notes(data)
        settle_monitor(self.cfg, data.validation_groups, set(data.samples("val")["label"]))

    def config_of(self, values: Mapping[str, Any], folder: Path) -> DictConfig:
        """The pinned config of a trial in a folder, as `weldnet-train` has it."""
        cfg = self._with(values)
        cfg.test = False
        pinned = pin(cfg, folder)
        del pinned["sweep"]
        return pinned

    def _with(self, values: Mapping[str, Any]) -> DictConfig:
        cfg = self.cfg.copy()
        for key, value in values.items():
            try:
                OmegaConf.update(cfg, key, value)
            except OmegaConfBaseException as error:
                raise InputError(f"sweep.space.{key}: {value} is not allowed: {str(error).splitlines()[0]}") from error
        return cfg

    def run(self) -> None:
        """Makes trials, with all processes that share the study, until there are enough; then reports them."""
        from weldnet.training.trials import make_trials, open_study, report_study

        make_folder(self.folder)
        settings, recipe = self.cfg.sweep, self._list_recipe()
        # As a URI, since a question mark in the path would begin a query.
        url = settings.storage or f"sqlite:///file:{quote(str(self.folder / 'study.db'))}?uri=true"
        lock = FileLock(self.folder / LOCK)
        with lock:
            study = open_study(url, settings.name, settings.monitor, settings.heartbeat, prune=settings.prune)
            known = json.loads(study.user_attrs.get("recipe", "{}")) or recipe
            changes = find_changes(known, recipe)
            if changed := [key for key in changes if key not in find_among(changes, OF_MACHINE)]:
                raise InputError(
                    f"{', '.join(changed)}: not as in the trials of this study; type what was typed for them, or begin "
                    "a new one by a different output_dir (with sweep.storage, sweep.name)"
                )
            study.set_user_attr("recipe", json.dumps(known))
        print(f"sweep in {show(self.folder)}; the same command continues it, also beside this one: {self._resume()}")
        make_trials(study, self._train, settings.trials, settings.heartbeat, self.cfg.seed)
        with lock:
            best = report_study(study, settings.monitor, self.folder)
            self._write_experiment(best.params)
        print_sweep([path for path in self.folder.iterdir() if path.is_dir()])
        print(f"best:       trial {best.number}, {show(self._trial_folder(best.number, best.params))}")
        command = f"{show_command('weldnet-train')} --config-dir {show(self.folder)} experiment=best"
        for source in HydraConfig.get().runtime.config_sources:
            if source.provider == "command-line":
                # Hydra takes one --config-dir, and the experiment names groups of this one.
                own = arguments.quote(f"file://{Path(source.path).absolute()}")
                command += f" {shlex.quote(f'hydra.searchpath=[{own}]')}"
        print(f"train it:   {command}")

    def _list_recipe(self) -> dict[str, Any]:
        """What all trials share, unresolved."""
        plain: Any = OmegaConf.to_container(self.cfg)
        plain["sweep"] = {key: value for key, value in plain["sweep"].items() if key not in OF_PROCESS}
        return {str(key): value for key, value in plain.items()}

    def _trial_folder(self, number: int, values: Mapping[str, Any]) -> Path:
        """The run folder of a trial."""
        shown = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in sorted(values.items())}
        overrides = ",".join(f"{key}={value}" for key, value in shown.items())
        return self.folder / f"trial_{number:04}{label_overrides(overrides)}"

    def _resume(self) -> str:
        typed = [word for word in sys.argv[1:] if not word.startswith("output_dir=")]
        return f"{show_command('weldnet-sweep')} {shlex.join(typed)} output_dir={show(self.folder)}"

    def _train(self, trial: "Trial") -> float:
        """Trains one trial; returns its figure."""
        from optuna import TrialPruned

        from weldnet.training.trials import ReportTrial, retry, suggest

        values = {key: suggest(trial, key, each) for key, each in self.space.items()}
        folder = name_folder("train", str(self._trial_folder(trial.number, values)))
        print(f"\ntrial {trial.number}: {'  '.join(f'{key}={value}' for key, value in values.items())}", flush=True)
        report = ReportTrial(trial, self.cfg.sweep.monitor, is_best_kept=bool(self.cfg.callbacks.get("best")))
        try:
            train_run(self.config_of(values, folder), folder, None, self._resume(), [report])
        except TrialPruned:
            raise
        except InputError as error:
            # By its own values a trial may need more memory than there is.
            is_too_large = isinstance(error, MemoryShortageError) and find_among(self.space, OF_MEMORY)
            if isinstance(error, MachineError) and not is_too_large:
                retry(trial)
                raise MachineError(f"{error}. The same command makes this trial again: {self._resume()}") from error
            # Such as a learning rate with which it diverges: worth knowing, and no reason to end the sweep.
            trial.set_user_attr("error", str(error))
            raise TrialPruned(str(error)) from error
        except Exception:
            # Such as a full disk, or a device that is gone: the next trial would fare no better.
            retry(trial)
            raise
        except (KeyboardInterrupt, SystemExit) as stop:
            # Interrupted: what was begun is made again first.
            trial.study.enqueue_trial(trial.params)
            raise KeyboardInterrupt from stop
        if math.isnan(figure := report.figure()):
            # Optuna would make it again and again.
            trial.set_user_attr("error", f"{self.cfg.sweep.monitor} is no number")
            raise TrialPruned
        return figure

    def _write_experiment(self, values: Mapping[str, Any]) -> None:
        """Writes `experiment/best.yaml`, with which `weldnet-train` trains as the best trial, and tests."""
        choices = HydraConfig.get().runtime.choices
        defaults = [{f"override /{group}": choices[group]} for group in GROUPS if group != "experiment"]
        plain: Any = OmegaConf.to_container(self._with(values))
        for key in ("sweep", "output_dir", "ckpt_path", "test"):
            del plain[key]
        text = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **plain}))
        make_folder(self.folder / "experiment")
        write_text(self.folder / "experiment" / "best.yaml", f"# @package _global_\n{text}")
