"""weldnet-predict: a verdict for each of any number of images."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.runs import make_folder, name_folder, propose_resuming, show, show_command, stop_here
from weldnet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weldnet.inference.engines import Engine
    from weldnet.inference.prediction_files import Outcome
    from weldnet.inference.processes import Share


def run(cfg: DictConfig) -> None:
    """Predicts from a composed config; exits with code 1 where a file could not be read."""
    from weldnet.data.sources.discovery import Skipped
    from weldnet.data.sources.selection import find_base, find_images, refuse_inside
    from weldnet.hardware import available_cores
    from weldnet.inference.prediction_run import JUDGED_BY, check_request, predict_into
    from weldnet.inference.predictor import Predictor, load_engine
    from weldnet.inference.processes import Share

    share = Share.of_torchrun()
    sort_into = None if cfg.sort_into is None else Path(cfg.sort_into).expanduser().absolute()
    folder = _find_folder(cfg.output_dir, cfg.resume, share)
    if share.rank == 0:
        check_request(cfg.explain, sort_into, cfg.resume and (folder / JUDGED_BY).is_file())
    skipped = Skipped()
    paths = find_images(cfg.source, skipped)
    base = find_base(cfg.source, paths)
    if sort_into:
        refuse_inside("sort_into", sort_into, cfg.source)
    if cfg.explain != "none":
        refuse_inside("output_dir", folder, cfg.source)
    engine = load_engine(cfg.ckpt_path, device=share.choose_device(cfg.device), precision=cfg.precision)
    _check_explainable(cfg.explain, engine)
    if sort_into:
        make_folder(sort_into, "sort_into")
    make_folder(folder)
    if share.rank == 0:
        _introduce(engine, len(paths), folder)
        if skipped:
            print(skipped.describe(base), flush=True)
    try:
        with propose_resuming(_go_on(cfg, engine, folder), folder, JUDGED_BY):
            with Predictor(engine, max(1, available_cores() // share.local_world)) as predictor:
                outcome = predict_into(folder, predictor, paths, base, sort_into=sort_into, share=share)
            if outcome is None:
                return
            _tell(outcome, folder)
            _explain(cfg.explain, engine, paths if cfg.explain == "all" else outcome.worst, base, folder)
    except KeyboardInterrupt:
        stop_here(_go_on(cfg, engine, folder))
    if outcome.num_unreadable:
        total = sum(outcome.verdicts.values())
        words = f"{outcome.num_unreadable:,} of {total:,} files could not be read; the column error says why"
        print(words, file=sys.stderr)
        sys.exit(1)


def _introduce(engine: "Engine", num_images: int, folder: Path) -> None:
    facts = engine.facts
    print(f"{num_images:,} images; {facts.runtime}; into {show(folder)}", flush=True)
    for reason in facts.point.reasons:
        print(reason, flush=True)


def _find_folder(output_dir: str | None, resume: bool, share: "Share") -> Path:
    """The run folder; with `resume` one that may hold predictions already."""
    if output_dir is None:
        if resume or share.world > 1:
            why = "resume=true needs the folder of the run to resume" if resume else "several processes need one folder"
            raise InputError(f"{why}: output_dir=DIR")
        return name_folder("predict", None)
    folder = Path(output_dir).expanduser().absolute()
    from weldnet.inference.prediction_run import can_resume

    # Where there is nothing to resume, the same command starts.
    if share.rank or (resume and can_resume(folder)):
        return folder
    return name_folder("predict", output_dir)


def _check_explainable(explain: str, engine: "Engine") -> None:
    from weldnet.inference.engines import TorchEngine

    if explain != "none" and not isinstance(engine, TorchEngine):
        raise InputError(
            f"explain={explain} needs gradients, which an export does not have; give the checkpoint that it came from "
            f"(SHA-256 {engine.facts.checkpoint_digest[:12]}), or explain=none"
        )


def _explain(explain: str, engine: "Engine", paths: "Sequence[str]", base: str, folder: Path) -> None:
    from weldnet.inference.engines import TorchEngine

    if explain == "none" or not isinstance(engine, TorchEngine):
        return
    from weldnet.report.explained import explain_files

    explain_files(engine, paths, [os.path.relpath(path, base) for path in paths], folder / "explained")
    if (page := folder / "explained" / "index.html").is_file():
        print(f"explained:  {show(page)}")


def _go_on(cfg: DictConfig, engine: "Engine", folder: Path) -> str:
    from weldnet.inference.engines import TorchEngine

    # By its path: `best` may mean another run by then.
    ckpt_path = engine.checkpoint.path if isinstance(engine, TorchEngine) else cfg.ckpt_path
    keys = ("source", "explain", "sort_into", "device", "precision")
    typed = [f"ckpt_path={ckpt_path}", *(f"{key}={cfg[key]}" for key in keys if cfg[key] is not None)]
    return f"{show_command('weldnet-predict')} {shlex.join(typed)} output_dir={show(folder)} resume=true"


def _tell(outcome: "Outcome", folder: Path) -> None:
    total = sum(outcome.verdicts.values())
    for name, number in sorted(outcome.verdicts.items()):
        print(f"{name + ':':<12}{number:>9,}  {number / total:6.1%}")
    if outcome.unlike_training:
        print(f"unlike anything in training, and therefore referred: {outcome.unlike_training:,}")
    if outcome.damaged:
        print(f"damaged, and therefore referred: {outcome.damaged:,}")
    print(f"one by one: {show(folder / 'predictions.csv')}, {show(folder / 'predictions.jsonl')}", flush=True)


main = command("predict")(run)
