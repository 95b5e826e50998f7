"""Run folders: named, checked and made."""

import logging
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from weldnet.errors import InputError


def name_folder(command: str, output_dir: str | None) -> Path:
    """The run folder, not made yet: `output_dir`, or `runs/<command>/<date>_<time>_<short id>`.

    Raises:
        InputError: `output_dir` is a file or holds something.
    """
    if output_dir is None:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        return Path("runs", command, f"{now}_{secrets.token_hex(3)}").absolute()
    folder = Path(output_dir).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"output_dir={folder} is not empty, and nothing is overwritten; name another folder")
    return folder


def make_folder(folder: Path) -> None:
    """Makes a run folder.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir={folder} cannot be made: {error.strerror}") from error


def keep_log(file: Path) -> logging.Handler:
    """Warnings and notes go to the terminal, and from now on to a file as well."""
    root = logging.getLogger()
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    logging.captureWarnings(True)
    return handler


def show(path: Path) -> str:
    """A path as one would type it here, quoted where the shell needs it."""
    import shlex

    path = path.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))


def apply_overrides(saved: DictConfig, cfg: DictConfig, overrides: list[str], groups: tuple[str, ...]) -> DictConfig:
    """A saved config with what was typed this time.

    Args:
        saved: the config of an earlier run.
        cfg: the config composed this time, already checked.
        overrides: what was typed, as Hydra lists it; `group=option` for one of `groups` replaces the whole node.
    """
    merged = saved.copy()
    with open_dict(merged):
        for override in overrides:
            key = override.split("=", 1)[0].lstrip("+~")
            value: Any = OmegaConf.select(cfg, key)
            if key in groups:
                merged[key] = value
            elif value is not None or OmegaConf.select(merged, key) is not None:
                OmegaConf.update(merged, key, value)
    return merged
