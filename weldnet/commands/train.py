"""weldnet-train: fine-tune, keep the best, test it."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.literal import pin
from weldnet.config.resume import StoppedRun, find_saved_config, find_stopped_run, holds_seeds
from weldnet.config.runs import name_folder, remove_lock, show, show_command, work_alone
from weldnet.config.schema import TrainConfig
from weldnet.errors import InputError

if TYPE_CHECKING:
    from weldnet.inference.evaluation_report import EvaluationReport


def run(cfg: DictConfig) -> Path:
    """Trains from a composed config, once or with several seeds, or resumes a run; returns the run folder."""
    from weldnet.config.seeds import Seeds
    from weldnet.config.trainings import train_run

    stopped, typed, is_new = None, HydraConfig.get().overrides.task, cfg.ckpt_path is None
    if not is_new and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("--multirun starts new runs; leave ckpt_path out, or -m")
    if cfg.seeds is not None if is_new else holds_seeds(Path(cfg.output_dir)):
        seeds = Seeds.open(cfg, typed)
        seeds.run()
        return seeds.folder
    if is_new:
        folder = name_folder("train", cfg.output_dir)
        cfg = pin(cfg, folder)
    else:
        stopped = find_stopped_run(cfg, typed)
        cfg, folder = stopped.cfg, stopped.folder
        if stopped.is_complete:
            remove_lock(folder)
            _print_complete(stopped)
            return folder
    # Before the data: while they are set up, another command could change what was found.
    with work_alone(folder) if stopped else nullcontext():
        reports = train_run(cfg, folder, stopped, f"{show_command('weldnet-train')} ckpt_path={show(folder)}")
    if reports:
        _print_outcome(folder, reports)
    return folder


def _end_sweep(folders: list[Path]) -> None:
    from weldnet.config.run_table import print_sweep

    print_sweep(folders)


def _print_outcome(folder: Path, reports: "dict[str, EvaluationReport]") -> None:
    from weldnet.console import print_table
    from weldnet.report.headline import list_lines

    for each in reports.values():
        print_table(each.table())
    report = json.loads((folder / "report.json").read_text("utf-8"))
    print("\n".join(list_lines(report)))
    print(f"the page:   {show(folder / 'report.html')}")
    print(f"new photos: {show_command('weldnet-predict')} DIR ckpt_path={show(folder)}")
    if reasons := report["headline"]["reasons"]:
        # The first weighs most.
        print(f"to improve: {reasons[0]['action']}")


def _print_complete(run: StoppedRun) -> None:
    assert run.checkpoint is not None
    num_epochs = run.checkpoint.num_epochs
    print(f"{show(run.folder)} is complete: trained for {num_epochs} epochs, tested, reported; nothing was done")
    print(f"the page:   {show(run.folder / 'report.html')}")
    print(f"next:       {show_command('weldnet-test')} ckpt_path={show(run.folder)}")
    print("more epochs, at the learning rate with which it ended:")
    print(
        f"            {show_command('weldnet-train')} ckpt_path={show(run.folder)} trainer.max_epochs={2 * num_epochs}"
    )


main = command("train", run, TrainConfig, find_saved_config, _end_sweep)
