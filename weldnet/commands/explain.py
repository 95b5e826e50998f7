"""weldnet-explain: draws a heatmap for each photograph."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.own_data import find_origin
from weldnet.config.runs import name_folder, propose_resuming, show, show_resume
from weldnet.config.schema import ModelKeys
from weldnet.errors import InputError, count, list_some
from weldnet.explain.settings import HeatmapSettings
from weldnet.inference.finished_runs import run_of
from weldnet.inference.settings import DeviceSettings

log = logging.getLogger(__name__)


@dataclass
class ExplainConfig(DeviceSettings, HeatmapSettings, ModelKeys):
    """The keys of `weldnet-explain`."""

    source: str = MISSING


def run(cfg: DictConfig) -> None:
    """Explains the images of a composed config; exits with code 1 if a file could not be read."""
    # Before torch is imported, which takes seconds.
    file = find_origin(cfg.ckpt_path, ", and an explanation needs gradients")

    from weldnet.data.sources.found import Skipped
    from weldnet.data.sources.selection import find_base, find_images, refuse_inside
    from weldnet.inference.checkpoint import load_checkpoint
    from weldnet.inference.torch_engine import TorchEngine
    from weldnet.report.explained import EXPLAINED_BY, explain_files

    if cfg.method == "integrated_gradients":
        warn_of_no_effect({"layer"}, f"method={cfg.method}")
    folder = Path(cfg.output_dir or "").expanduser().absolute()
    if cfg.output_dir is None or not (folder / EXPLAINED_BY).is_file():
        folder = name_folder("explain", cfg.output_dir)
    refuse_inside("output_dir", folder, cfg.source)
    skipped = Skipped()
    paths = find_images(cfg.source, skipped)
    base = find_base(cfg.source, paths)
    checkpoint = load_checkpoint(file)
    engine = TorchEngine(checkpoint, cfg.device)
    labels = _find_labels(run_of(checkpoint.path) / "split.csv", Path(cfg.source).expanduser())
    names = [os.path.relpath(path, base) for path in paths]
    choices = {key: cfg[key] for key in ("method", "target", "layer")}
    # The path itself: by then, `best` may mean a different run.
    resume_settings = {"ckpt_path": checkpoint.path, "source": cfg.source, "device": cfg.device} | choices
    if cfg.method == "integrated_gradients":
        del resume_settings["layer"]
    with propose_resuming(show_resume("weldnet-explain", folder, resume_settings), folder, EXPLAINED_BY):
        unreadable = explain_files(engine, paths, names, folder, HeatmapSettings(**choices), labels)
    if skipped:
        print(skipped.describe(base))
    print(f"{count(len(paths) - len(unreadable), 'picture')}: {show(folder)}")
    print(f"the page: {show(folder / 'index.html')}")
    if unreadable:
        reasons = list_some([f"{path}: {reason}" for path, reason in unreadable.items()])
        print(f"{len(unreadable):,} of {len(paths):,} files could not be read:\n{reasons}", file=sys.stderr)
        sys.exit(1)


def _find_labels(*lists: Path) -> dict[str, str]:
    """The actual class of each path that a manifest among these files has a label for; a later one takes precedence."""
    from weldnet.data.sources.manifest import read_labels

    found: dict[str, str] = {}
    for file in lists:
        if file.suffix.lower() == ".csv" and file.is_file():
            try:
                found |= {path: label for path, label in read_labels(file).items() if label}
            except InputError as error:
                log.warning("the page has no actual classes from the run: %s", error)
    return found


main = command("explain", run, ExplainConfig)
