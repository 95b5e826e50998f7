"""weldnet-predict: a verdict for each of any number of images."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from weldnet.config.arguments import quote
from weldnet.config.endings import stop_with_signals
from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.own_data import find_origin
from weldnet.config.runs import make_folder, name_folder, propose_resuming, show, show_resume
from weldnet.config.schema import ModelKeys
from weldnet.errors import InputError, count, shorten
from weldnet.hardware import available_cores, give_memory_back
from weldnet.inference.settings import EngineSettings, NotifySettings

if TYPE_CHECKING:
    from weldnet.data.sources.found import Skipped
    from weldnet.inference.engines import Engine
    from weldnet.inference.model_card import ModelFacts
    from weldnet.inference.prediction_files import Outcome
    from weldnet.inference.prediction_run import Share
    from weldnet.inference.predictor import Predictor


@dataclass
class PredictConfig(EngineSettings, ModelKeys):
    """The keys of `weldnet-predict`; see `weldnet.inference.prediction_run`, and `folder_watch` beside it."""

    source: str = MISSING
    resume: bool = False
    explain: str = "none"
    sort_into: str | None = None
    watch: bool = False
    poll_s: float = 1.0
    notify: NotifySettings = field(default_factory=NotifySettings)


@dataclass(frozen=True)
class _Task:
    """The paths to predict (in a watch none is known yet), the folder that names them, and those for the results."""

    folder: Path
    sort_into: Path | None
    base: str
    paths: list[str]
    skipped: "Skipped"


def run(cfg: DictConfig) -> None:
    """Predicts from a composed config; exits with code 1 where a file could not be read."""
    from weldnet.inference.prediction_run import JUDGED_BY, Share, predict_into
    from weldnet.inference.predictor import Predictor, find_model, load_engine

    share = Share.of_torchrun()
    task = _plan(cfg, share)
    # The path, not the name: `best` may mean a different run by the time this one is resumed.
    model = find_model(cfg.ckpt_path)
    if cfg.explain != "none":
        find_origin(str(model), f", and explain={cfg.explain} needs gradients")
    engine = load_engine(str(model), device=share.choose_device(cfg.device), precision=cfg.precision)
    if task.sort_into:
        make_folder(task.sort_into, "sort_into")
    make_folder(task.folder)
    if share.rank == 0:
        _announce(cfg, task, f"model {show(model)}, {engine.facts.runtime}", engine.facts)
    with (
        propose_resuming(_show_resume(cfg, task, model), task.folder, JUDGED_BY),
        Predictor(engine, max(1, available_cores() // share.local_world)) as predictor,
    ):
        if cfg.watch:
            _watch(cfg, task, predictor)
            return
        outcome = predict_into(task.folder, predictor, task.paths, task.base, sort_into=task.sort_into, share=share)
        if outcome is None:
            return
        _print_outcome(outcome, task.folder)
        if cfg.explain != "none":
            explained = task.paths if cfg.explain == "all" else outcome.worst
            _explain(engine, explained, task.base, task.folder / "explained")
    if outcome.num_unreadable:
        num_files = sum(outcome.verdicts.values())
        summary = f"{outcome.num_unreadable:,} of {num_files:,} files could not be read; see the column error"
        print(*outcome.unreadable, summary, sep="\n", file=sys.stderr)
        sys.exit(1)


def _plan(cfg: DictConfig, share: "Share") -> _Task:
    """Checks what is asked for, and finds what to predict; makes nothing."""
    from weldnet.data.sources.found import Skipped
    from weldnet.data.sources.selection import find_base, find_images, refuse_inside
    from weldnet.inference.prediction_run import JUDGED_BY, check_request

    skipped = Skipped()
    sort_into = None if cfg.sort_into is None else Path(cfg.sort_into).expanduser().absolute()
    folder = _find_folder(cfg.output_dir, cfg.resume, share)
    if share.rank == 0:
        check_request(cfg.explain, sort_into, cfg.resume and (folder / JUDGED_BY).is_file())
    if cfg.watch:
        _check_watch(cfg, share)
    else:
        notify = [f"notify.{key}" for key in cfg.notify]
        warn_of_no_effect(["poll_s", *notify], "watch=false")
    paths = [] if cfg.watch else find_images(cfg.source, skipped)
    if sort_into:
        refuse_inside("sort_into", sort_into, cfg.source)
    if cfg.explain != "none":
        refuse_inside("output_dir", folder, cfg.source)
    return _Task(folder, sort_into, find_base(cfg.source, paths), paths, skipped)


def _check_watch(cfg: DictConfig, share: "Share") -> None:
    from weldnet.inference.notifier import check_notify, check_seconds

    if not os.path.isdir(os.path.expanduser(cfg.source)):
        raise InputError(f"source={cfg.source}: watch=true needs a folder that is there")
    if cfg.explain != "none":
        raise InputError(f"explain={cfg.explain} draws at the end, which a watch does not have; type explain=none")
    if share.world > 1:
        raise InputError("watch=true is for one process; start it without torchrun")
    check_seconds("poll_s", cfg.poll_s)
    notify: Any = OmegaConf.to_object(cfg.notify)
    check_notify(notify)
    if not notify.command and notify.url is None:
        warn_of_no_effect(["notify.timeout_s"], "notify.command=[] and notify.url=null")


def _announce(cfg: DictConfig, task: _Task, model: str, facts: "ModelFacts") -> None:
    what = f"watching {show(Path(task.base))} (Ctrl-C ends it)" if cfg.watch else count(len(task.paths), "image")
    print(f"{what}, {model}, output {show(task.folder)}", flush=True)
    for reason in facts.point.reasons if facts.calibrated else ():
        print(reason, flush=True)
    if task.skipped:
        print(task.skipped.describe(task.base), flush=True)


def _show_resume(cfg: DictConfig, task: _Task, model: Path) -> str:
    keys = ("source", "explain", "sort_into", "device", "precision")
    settings: dict[str, object] = {"ckpt_path": model} | {key: cfg[key] for key in keys}
    if cfg.watch:
        command = f"[{','.join(map(quote, cfg.notify.command))}]" if cfg.notify.command else None
        notify = {"command": command, "url": cfg.notify.url, "timeout_s": cfg.notify.timeout_s}
        settings |= {"watch": "true", "poll_s": cfg.poll_s} | {f"notify.{key}": notify[key] for key in notify}
    return show_resume("weldnet-predict", task.folder, settings | {"resume": "true"})


def _watch(cfg: DictConfig, task: _Task, predictor: "Predictor") -> None:
    from weldnet.inference.folder_watch import FolderWatch
    from weldnet.inference.notifier import CALLS

    notify: Any = OmegaConf.to_object(cfg.notify)
    give_memory_back()
    with (
        stop_with_signals() as stop,
        FolderWatch(task.folder, predictor, task.base, notify, sort_into=task.sort_into) as watch,
    ):
        watched = watch.run(stop, cfg.poll_s)
    _print_outcome(watched.outcome, task.folder)
    if notify.command or notify.url:
        calls = f"{count(watched.made, 'verdict')} passed on, {count(watched.failed, 'call')} failed"
        owed = f", {watched.owed:,} left for the next start" if watched.owed else ""
        print(f"{calls}{owed}: {show(task.folder / CALLS)}")
    if watched.incomplete:
        print(f"not complete, so not judged: {shorten([show(Path(path)) for path in watched.incomplete])}")


def _find_folder(output_dir: str | None, resume: bool, share: "Share") -> Path:
    """The run folder: a new one or, with `resume`, one that holds predictions already."""
    from weldnet.inference.prediction_run import JUDGED_BY, can_resume

    if output_dir is None and (resume or share.world > 1):
        reason = "resume=true needs the folder of the run" if resume else "several processes need one folder"
        raise InputError(f"{reason}: output_dir=DIR")
    if output_dir is not None:
        folder = Path(output_dir).expanduser().absolute()
        # Without anything to resume, the same command starts a new run.
        if share.rank or (resume and can_resume(folder)):
            return folder
        if not resume and (folder / JUDGED_BY).is_file():
            raise InputError(f"output_dir={folder} is not empty; resume=true resumes there, or name a different folder")
    return name_folder("predict", output_dir)


def _print_outcome(outcome: "Outcome", folder: Path) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from weldnet.console import print_table
    from weldnet.evaluation.verdicts import VERDICTS
    from weldnet.inference.prediction_files import UNREADABLE

    if not (total := sum(outcome.verdicts.values())):
        print("no photograph was judged", flush=True)
        return
    table = Table("predicted", *(Column(name, justify="right") for name in (*VERDICTS, "all", "share")))
    judged = {name: number for name, number in outcome.verdicts.items() if name != UNREADABLE}
    for name, verdicts in (*outcome.classes.items(), ("all", judged)):
        number = sum(verdicts.values())
        cells = (f"{verdicts.get(verdict, 0):,}" for verdict in VERDICTS)
        table.add_row(escape(name), *cells, f"{number:,}", f"{number / total:.1%}")
    table.rows[-2].end_section = True
    print_table(table)
    if outcome.num_unreadable:
        print(f"without a verdict, because unreadable: {outcome.num_unreadable:,}")
    if outcome.unlike_training:
        print(f"unlike anything in training, and therefore referred: {outcome.unlike_training:,}")
    if outcome.damaged:
        print(f"damaged, and therefore referred: {outcome.damaged:,}")
    print(f"one by one: {show(folder / 'predictions.csv')}, {show(folder / 'predictions.jsonl')}", flush=True)


def _explain(engine: "Engine", paths: Sequence[str], base: str, folder: Path) -> None:
    from weldnet.inference.torch_engine import TorchEngine
    from weldnet.report.explained import explain_files

    assert isinstance(engine, TorchEngine)
    explain_files(engine, paths, [os.path.relpath(path, base) for path in paths], folder)
    if (page := folder / "index.html").is_file():
        print(f"explained:  {show(page)}")


main = command("predict", run, PredictConfig)
