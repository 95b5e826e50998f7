"""weldnet-predict: a verdict for each of any number of images."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING, DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.runs import make_folder, name_folder, propose_resuming, show, show_resume
from weldnet.config.schema import ModelKeys
from weldnet.errors import InputError, count
from weldnet.inference.settings import EngineSettings

if TYPE_CHECKING:
    from weldnet.inference.engines import Engine
    from weldnet.inference.prediction_files import Outcome
    from weldnet.inference.processes import Share


@dataclass
class PredictConfig(EngineSettings, ModelKeys):
    """The keys of `weldnet-predict`; see `weldnet.inference.prediction_run`."""

    source: str = MISSING
    resume: bool = False
    explain: str = "none"
    sort_into: str | None = None


def run(cfg: DictConfig) -> None:
    """Predicts from a composed config; exits with code 1 where a file could not be read."""
    from weldnet.data.sources.discovery import Skipped
    from weldnet.data.sources.selection import find_base, find_images, refuse_inside
    from weldnet.hardware import available_cores
    from weldnet.inference.prediction_run import JUDGED_BY, check_request, predict_into
    from weldnet.inference.predictor import Predictor, find_model, load_engine
    from weldnet.inference.processes import Share

    share, skipped = Share.of_torchrun(), Skipped()
    sort_into = None if cfg.sort_into is None else Path(cfg.sort_into).expanduser().absolute()
    folder = _find_folder(cfg.output_dir, cfg.resume, share)
    if share.rank == 0:
        check_request(cfg.explain, sort_into, cfg.resume and (folder / JUDGED_BY).is_file())
    paths = find_images(cfg.source, skipped)
    base = find_base(cfg.source, paths)
    if sort_into:
        refuse_inside("sort_into", sort_into, cfg.source)
    if cfg.explain != "none":
        refuse_inside("output_dir", folder, cfg.source)
    # The path, not the name: `best` may mean a different run by the time this one is resumed.
    model = find_model(cfg.ckpt_path)
    engine = load_engine(str(model), device=share.choose_device(cfg.device), precision=cfg.precision)
    if cfg.explain != "none" and not engine.has_gradients:
        raise InputError(
            f"explain={cfg.explain} needs gradients, which an export does not have; give the checkpoint it was made "
            f"from (SHA-256 {engine.facts.checkpoint_digest[:12]}), or explain=none"
        )
    if sort_into:
        make_folder(sort_into, "sort_into")
    make_folder(folder)
    if share.rank == 0:
        facts = engine.facts
        print(f"{count(len(paths), 'image')}, model {show(model)}, {facts.runtime}, output {show(folder)}", flush=True)
        for reason in facts.point.reasons if facts.calibrated else ():
            print(reason, flush=True)
        if skipped:
            print(skipped.describe(base), flush=True)
    keys = ("source", "explain", "sort_into", "device", "precision")
    resume_settings = {"ckpt_path": model} | {key: cfg[key] for key in keys} | {"resume": "true"}
    with propose_resuming(show_resume("weldnet-predict", folder, resume_settings), folder, JUDGED_BY):
        with Predictor(engine, max(1, available_cores() // share.local_world)) as predictor:
            outcome = predict_into(folder, predictor, paths, base, sort_into=sort_into, share=share)
        if outcome is None:
            return
        _print_outcome(outcome, folder)
        if cfg.explain != "none":
            _explain(engine, paths if cfg.explain == "all" else outcome.worst, base, folder / "explained")
    if outcome.num_unreadable:
        total = sum(outcome.verdicts.values())
        for line in outcome.unreadable:
            print(line, file=sys.stderr)
        print(f"{outcome.num_unreadable:,} of {total:,} files could not be read; see the column error", file=sys.stderr)
        sys.exit(1)


def _find_folder(output_dir: str | None, resume: bool, share: "Share") -> Path:
    """The run folder: a new one or, with `resume`, one that holds predictions already."""
    from weldnet.inference.prediction_run import can_resume

    if output_dir is None and (resume or share.world > 1):
        reason = "resume=true needs the folder of the run" if resume else "several processes need one folder"
        raise InputError(f"{reason}: output_dir=DIR")
    if output_dir is not None:
        folder = Path(output_dir).expanduser().absolute()
        # Without anything to resume, the same command starts a new run.
        if share.rank or (resume and can_resume(folder)):
            return folder
    return name_folder("predict", output_dir)


def _print_outcome(outcome: "Outcome", folder: Path) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from weldnet.console import print_table
    from weldnet.evaluation.verdicts import VERDICTS
    from weldnet.inference.prediction_files import UNREADABLE

    total = sum(outcome.verdicts.values())
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
