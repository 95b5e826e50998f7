"""A trial of a sweep: what it is judged by, and when it is ended early."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from weldnet.training.trials import ReportTrial


def train(study: optuna.Study, figures: list[float], *, is_best_kept: bool = True) -> float:
    """Reports these figures, an epoch each, as a training would."""
    trial = study.ask()
    report = ReportTrial(trial, "val/accuracy", is_best_kept=is_best_kept)
    for figure in figures:
        trainer: Any = SimpleNamespace(sanity_checking=False, callback_metrics={"val/accuracy": figure})
        report.on_validation_end(trainer, None)  # type: ignore[arg-type]
    study.tell(trial, report.figure())
    return report.figure()


def test_a_trial_is_judged_by_the_epoch_that_is_kept() -> None:
    study = optuna.create_study(direction="maximize")
    assert train(study, [0.5, 0.9, 0.7]) == 0.9
    assert train(study, [0.5, 0.9, 0.7], is_best_kept=False) == 0.7


def test_a_trial_worse_than_the_median_is_pruned() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    for better in (0.0, 0.1, 0.2):
        train(study, [0.5 + better, 0.6 + better])
    train(study, [0.65, 0.75])
    with pytest.raises(optuna.TrialPruned):
        train(study, [0.4, 0.9])
