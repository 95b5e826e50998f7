"""weldnet-explain: where a network looked."""

import os
import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.own_data import find_origin
from weldnet.config.runs import name_folder, propose_resuming, show, show_command, stop_here
from weldnet.errors import list_some


def run(cfg: DictConfig) -> None:
    """Explains from a composed config; exits with code 1 where a file could not be read."""
    from weldnet.data.sources.discovery import Skipped
    from weldnet.data.sources.selection import find_base, find_images
    from weldnet.inference.checkpoint import load_checkpoint
    from weldnet.inference.engines import TorchEngine
    from weldnet.report.explained import EXPLAINED_BY, explain_files

    if cfg.method == "integrated_gradients":
        warn_of_no_effect({"layer"}, f"method={cfg.method}")
    folder = _find_folder(cfg.output_dir, cfg.source)
    skipped = Skipped()
    paths = find_images(cfg.source, skipped)
    base = find_base(cfg.source, paths)
    checkpoint = load_checkpoint(find_origin(cfg.ckpt_path, ", and an explanation needs gradients"))
    engine = TorchEngine(checkpoint, cfg.device)
    names = [os.path.relpath(path, base) for path in paths]
    choices = {"method": cfg.method, "layer": cfg.layer, "target": cfg.target}
    go_on = _go_on(cfg, checkpoint.path, folder)
    try:
        with propose_resuming(go_on, folder, EXPLAINED_BY):
            unreadable = explain_files(engine, paths, names, folder, **choices)
    except KeyboardInterrupt:
        stop_here(go_on)
    if skipped:
        print(skipped.describe(base))
    print(f"{len(paths) - len(unreadable):,} pictures: {show(folder)}")
    print(f"the page: {show(folder / 'index.html')}")
    if unreadable:
        reasons = list_some([f"{path}: {reason}" for path, reason in unreadable.items()])
        print(f"{len(unreadable):,} of {len(paths):,} files could not be read:\n{reasons}", file=sys.stderr)
        sys.exit(1)


def _find_folder(output_dir: str | None, source: str) -> Path:
    """The run folder, not made yet, or the one of a run to go on with."""
    from weldnet.data.sources.selection import refuse_inside

    # What explain_files leaves; importing it would cost torch before the first check.
    known = output_dir is not None and (Path(output_dir).expanduser() / "explained_by.json").is_file()
    folder = Path(str(output_dir)).expanduser().absolute() if known else name_folder("explain", output_dir)
    refuse_inside("output_dir", folder, source)
    return folder


def _go_on(cfg: DictConfig, checkpoint: Path, folder: Path) -> str:
    # By its path: `best` may mean another run by then.
    keys = ["source", "method", "target", "device", *(["layer"] if cfg.method != "integrated_gradients" else [])]
    typed = {"ckpt_path": checkpoint} | {key: cfg[key] for key in keys}
    words = shlex.join(f"{key}={value}" for key, value in typed.items() if value is not None)
    return f"{show_command('weldnet-explain')} {words} output_dir={show(folder)}"


main = command("explain")(run)
