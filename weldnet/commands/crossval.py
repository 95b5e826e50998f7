"""weldnet-crossval: every weld is held out once; mean, spread, each fold, and the pooled confusion matrix."""

import gc

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from weldnet.commands.train import prepare_trainer, train_run
from weldnet.config.series import CrossvalFolder, find_saved_config, find_stopped_crossval
from weldnet.config.hydra_app import command
from weldnet.config.runs import is_leader, make_absolute, name_folder, show, show_command, stop_here, work_alone
from weldnet.config.schema import CrossvalConfig
from weldnet.errors import InputError


def run(cfg: DictConfig) -> None:
    """Trains and tests the folds from a composed config; with `ckpt_path`, those that a stopped run has left."""
    if not is_leader():
        raise InputError("weldnet-crossval runs in one process; start it without torchrun, or with one task")
    stopped = None
    if cfg.ckpt_path is not None:
        stopped = find_stopped_crossval(cfg, HydraConfig.get().overrides.task)
    crossval = stopped or CrossvalFolder.of(cfg, name_folder("crossval", cfg.output_dir))
    make_absolute(crossval.recipe.data)
    only = cfg.data.fold
    resume = f"{show_command('weldnet-crossval')} ckpt_path={show(crossval.folder)}"
    unfinished = crossval.unfinished(only)
    if stopped and not unfinished and (only is not None or crossval.is_complete()):
        which = show(crossval.folder) if only is None else f"fold {only} of {show(crossval.folder)}"
        print(f"{which} is complete: trained, tested, reported; nothing was done")
        _print_outcome(crossval, resume, save=False)
        return
    _check(crossval)
    only_this = "" if only is None else f" data.fold={only}"
    try:
        with work_alone(crossval.folder):
            crossval.save_config()
            # Another command may have finished some of them while the data were set up.
            for fold in crossval.unfinished(only):
                _train_fold(crossval, fold, resume + only_this)
            _print_outcome(crossval, resume)
    except KeyboardInterrupt:
        stop_here(resume + only_this)


def _check(crossval: CrossvalFolder) -> None:
    """Raises everything that could stop a later fold before the first one is trained."""
    from weldnet.config.build import build_data, build_model
    from weldnet.training.monitors import check_fit

    first = crossval.fold_config(0)
    trainer = prepare_trainer(first, crossval.fold_folder(0))
    if trainer.world_size > 1:
        raise InputError("weldnet-crossval runs in one process; take trainer.devices=1")
    # Whatever this machine's precision is, a run that is resumed elsewhere keeps it.
    crossval.recipe.trainer.precision = first.trainer.precision
    for fold in range(crossval.num_folds):
        settings = crossval.fold_config(fold).data
        if settings.cache != "none":
            # The images are decoded once for all folds; here they need not be copied.
            settings.cache = "disk"
        data = build_data(settings, first.seed)
        data.setup()
        check_fit(data, trainer)
        if fold == 0:
            build_model(first, data)
        if crossval.known_digest(fold) not in (None, data.split_digest):
            raise InputError(
                f"the data are no longer those of {show(crossval.folder)}: fold {fold} now holds out other images. "
                "Bring the data back as they were, or start a new cross-validation without ckpt_path"
            )


def _train_fold(crossval: CrossvalFolder, fold: int, resume: str) -> None:
    from weldnet.evaluation.metrics import METRICS, show_figure

    folder = crossval.fold_folder(fold)
    with work_alone(folder):
        stopped = crossval.find_stopped_fold(fold)
        print(f"\nfold_{fold}, {fold + 1} of {crossval.num_folds}{': resumed' if stopped else ''}", flush=True)
        reports = train_run(crossval.fold_config(fold), folder, stopped, resume)
    assert reports is not None
    metrics = reports["test"].metrics()
    figures = "  ".join(f"{metric.key} {show_figure(metrics[metric.key])}" for metric in METRICS)
    print(f"fold_{fold}: {metrics['num_images']} images held out: {figures}", flush=True)
    # Model and trainer hold each other; the next fold may need the device's memory.
    gc.collect()


def _print_outcome(crossval: CrossvalFolder, resume: str, *, save: bool = True) -> None:
    from weldnet.console import print_table
    from weldnet.training.crossval_report import read_folds

    folder, report = crossval.folder, read_folds(crossval.finished(), crossval.num_folds)
    print()
    if len(report.folds) < crossval.num_folds:
        print_table(report.table(report.metrics()))
        print(f"folds:      {show(folder)}")
        print(f"next:       {resume}")
        return
    if save:
        report.save(folder)
    for table in report.tables():
        print_table(table)
    print(f"figures:    {show(folder / 'crossval.json')}, {show(folder / 'confusion_matrix.png')}")
    print(f"one by one: {show(folder / 'predictions.csv')}")
    print(f"a fold:     {show_command('weldnet-test')} ckpt_path={show(folder / 'fold_0')}")
    print("next:       train the one classifier to use, on all images, with the same keys")


main = command("crossval", run, CrossvalConfig, find_saved_config)
