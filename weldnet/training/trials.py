"""A study of Optuna's: trials that any number of processes share, and what came of them."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import polars as pl
from lightning import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import BaseTrial, FrozenTrial, TrialState
from optuna.visualization import matplotlib as charts
from sqlalchemy.exc import SQLAlchemyError

from weldnet.errors import InputError, MachineError, count, first_line
from weldnet.files import write_csv
from weldnet.report.charts import save_chart
from weldnet.training.monitors import find_mode

MAX_RETRIES = 3
"""How often a trial is made again that its process or its machine has ended."""

BEATS = 3
"""Without so many signs of life in a row, a trial counts as killed."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class ReportTrial(Callback):
    """Reports a figure of each validation to its trial, and ends the training where the study prunes it."""

    def __init__(self, trial: optuna.Trial, monitor: str, *, is_best_kept: bool) -> None:
        self.trial, self.monitor, self.is_best_kept = trial, monitor, is_best_kept
        self.figures: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.figures.append(float(trainer.callback_metrics[self.monitor]))
        self.trial.report(self.figures[-1], len(self.figures))
        if self.trial.should_prune():
            raise optuna.TrialPruned

    def figure(self) -> float:
        """What the trial is judged by: the figure of the epoch that its run keeps."""
        better = max if find_mode(self.monitor) == "max" else min
        return better(self.figures) if self.is_best_kept else self.figures[-1]


def open_study(url: str, name: str, monitor: str, heartbeat: int, *, prune: bool) -> optuna.Study:
    """The study of this name in a database, made if it is not there."""
    try:
        storage = RDBStorage(
            url,
            # Processes wait for one another.
            {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
            heartbeat_interval=heartbeat,
            grace_period=BEATS * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
        )
        return optuna.create_study(
            storage=storage,
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
            study_name=name,
            direction="maximize" if find_mode(monitor) == "max" else "minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, ValueError, StorageInternalError) as error:
        raise InputError(
            f"sweep.storage cannot be opened: {first_line(error)}; a file is sqlite:///FILE.db, and PostgreSQL "
            "postgresql+psycopg://USER@HOST/DATABASE, after pip install psycopg"
        ) from error


def suggest(trial: BaseTrial, key: str, spec: Mapping[str, Any]) -> Any:
    """The trial's value for a key, among its `choices` or from `low` to `high`, both included."""
    if "choices" in spec:
        return trial.suggest_categorical(key, spec["choices"])
    is_whole = isinstance(spec["low"], int) and isinstance(spec["high"], int)
    return (trial.suggest_int if is_whole else trial.suggest_float)(key, **spec)


def retry(trial: optuna.Trial) -> None:
    """Has a trial made again that is about to fail by no fault of its values, unless it was so often already."""
    RetryHeartbeatStaleTrialCallback(MAX_RETRIES)(trial.study, trial.study.get_trials(deepcopy=False)[trial.number])


def make_trials(
    study: optuna.Study, objective: Callable[[optuna.Trial], float], num_trials: int, heartbeat: int, seed: int
) -> None:
    """Makes trials until the study has this many, together with the other processes; waits for theirs at the end."""

    def print_trial(_: optuna.Study, trial: FrozenTrial) -> None:
        done = [each for each in study.get_trials(deepcopy=False) if each.state in DONE]
        is_there = any(each.state == TrialState.COMPLETE for each in done)
        best = f"; the best so far {study.best_value:.4f}, trial {study.best_trial.number}" if is_there else ""
        print(f"trial {trial.number}: {_describe(trial)}{best}; {len(done)} of {num_trials} trials done", flush=True)

    has_reported = False
    while True:
        fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        states = Counter(trial.state for trial in trials)
        num_done = sum(states[state] for state in DONE)
        if num_done >= num_trials:
            return
        if num_done + states[TrialState.RUNNING] < num_trials:
            study.sampler = optuna.samplers.TPESampler(seed=(seed + len(trials)) % 2**32)
            try:
                study.optimize(objective, n_trials=1, callbacks=[print_trial], gc_after_trial=True)
            except StorageInternalError as error:
                raise MachineError(
                    f"sweep.storage cannot be written ({first_line(error.__cause__ or error)}); make room for it, or "
                    "bring the database back, and type the same command: it makes again what was under way"
                ) from error
            continue
        if not has_reported:
            print(
                f"waiting for {count(states[TrialState.RUNNING], 'trial')} of other processes; one without a sign of "
                f"life for {BEATS * heartbeat} s is made again",
                flush=True,
            )
        has_reported = True
        time.sleep(min(heartbeat, 5))


def _describe(trial: FrozenTrial) -> str:
    if "error" in trial.user_attrs:
        return str(trial.user_attrs["error"])
    value = "" if trial.value is None or math.isnan(trial.value) else f"{trial.value:.4f}"
    if trial.state == TrialState.PRUNED:
        return f"{value}, pruned after {count(len(trial.intermediate_values), 'validation')}"
    return value or trial.state.name.lower()


def report_study(study: optuna.Study, monitor: str, folder: Path) -> FrozenTrial:
    """Writes `trials.csv`, the best ones first, and the charts; returns the best one."""
    trials = [trial for trial in study.get_trials() if trial.state.is_finished()]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise InputError(f"no trial has finished its training; the last one: {_describe(trials[-1])}")
    is_max = study.direction == optuna.study.StudyDirection.MAXIMIZE
    ordered = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=is_max)
    ordered += [trial for trial in trials if trial.state != TrialState.COMPLETE]
    keys = sorted({key for trial in trials for key in trial.params})
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), monitor: trial.value}
        | {key: str(trial.params.get(key, "")) for key in keys}
        | {"error": trial.user_attrs.get("error")}
        for trial in ordered
    ]
    write_csv(folder / "trials.csv", pl.DataFrame(rows, infer_schema_length=None))
    with matplotlib.rc_context():
        _save(charts.plot_optimization_history(study), folder / "history.png")
        if len({trial.value for trial in complete}) > 1:
            _save(charts.plot_param_importances(study), folder / "importance.png")
    return study.best_trial


def _save(axes: Axes, file: Path) -> None:
    assert isinstance(axes.figure, Figure)
    save_chart(axes.figure, file)
