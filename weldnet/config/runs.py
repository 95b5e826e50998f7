"""Run folders: named, checked and made."""

import logging
import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from weldnet.config.literal import escape
from weldnet.data.sources.source import PATHS
from weldnet.errors import InputError, LostProcessError
from weldnet.files import is_refusal, lock_folder, name_failures

log = logging.getLogger(__name__)

FOLDER_OF_LEADER = "WELDNET_RUN_FOLDER"


def name_folder(command: str, output_dir: str | None) -> Path:
    """The run folder, empty or not made yet: `output_dir`, or `runs/<command>/<date>_<time>_<short id>`.

    A run of a sweep has the overrides by which it differs from the others at the end of its name.
    """
    if not is_leader():
        if FOLDER_OF_LEADER not in os.environ and output_dir is None:
            raise InputError("several processes need one run folder: give output_dir=DIR")
        return Path(os.environ.get(FOLDER_OF_LEADER, output_dir or "")).absolute()
    if output_dir is None:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        label = label_overrides(HydraConfig.get().job.override_dirname if HydraConfig.initialized() else "")
        folder = Path("runs", command, f"{now}_{secrets.token_hex(3)}{label}").absolute()
    else:
        folder = Path(output_dir).expanduser().absolute()
    if os.path.expandvars(folder) != str(folder):
        # Lightning's TensorBoard logger would, and write elsewhere.
        raise InputError(f"output_dir={folder} names an environment variable; type its value, or a different name")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output_dir={folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        hint = f"; or resume the run in it: ckpt_path={show(folder)}" if (folder / "config.yaml").is_file() else ""
        raise InputError(f"output_dir={folder} is not empty, and nothing is overwritten; name a different folder{hint}")
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise InputError(f"output_dir={folder} cannot be made: {above} is not a folder that you may write to")
    # Lightning starts the other processes of one machine by this command with this environment.
    os.environ[FOLDER_OF_LEADER] = str(folder)
    return folder


def label_overrides(overrides: str) -> str:
    """`_` and overrides as the end of a folder's name, cut at 100 bytes of UTF-8; empty for none."""
    label = "_" + re.sub(r"[^\w.=,+-]+", "_", overrides) if overrides else ""
    # File systems count bytes.
    return label.encode()[:100].decode(errors="ignore")


def is_leader() -> bool:
    """Whether this process makes the files: the only one, or the first of several."""
    ranks = [os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ]
    return not ranks or ranks[0] == "0"


def make_folder(folder: Path, key: str = "output_dir") -> None:
    """Makes a folder to write into, which `key` names."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}={folder} cannot be made: {error.strerror}") from error


def name_new_file(key: str, name: str | None) -> Path | None:
    """The file that `key` names to be written, or None for null; one that exists or cannot be made is refused."""
    if name is None:
        return None
    file = Path(name).expanduser().absolute()
    if file.exists() or file.is_symlink():
        raise InputError(f"{key}={name} exists, and nothing is overwritten; name a different file")
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise InputError(f"{key}={name}: {file.parent} is no folder that you may write to")
    return file


@contextmanager
def work_alone(folder: Path) -> Iterator[None]:
    """Makes a run folder; within it, no other command works there. The leader alone sees to both."""
    if not is_leader():
        yield
        return
    make_folder(folder)
    with lock_folder(folder):
        yield


def remove_lock(folder: Path) -> None:
    """Removes the lock that a kill left in a finished run, unless it is another command's, or the disk is read-only."""
    with suppress(OSError, InputError), work_alone(folder):
        pass


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short: logging would print a traceback for each line it could not write."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        log.warning("%s is incomplete: %s", self.baseFilename, str(error.strerror).lower())

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def keep_log(file: Path) -> Iterator[None]:
    """Within it, weldnet's notes and every library's warnings are appended to a file as well, by the leader."""
    if not is_leader():
        yield
        return
    handler = _LogFile(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("weldnet").setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def show(path: Path) -> str:
    """A path as one would type it here, quoted where the shell needs it."""
    path = path.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))


def show_command(name: str) -> str:
    """A console script of this installation as one would type it here: by its path where the shell has no other way."""
    installed = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found).resolve() == installed.resolve() else show(installed)


def show_resume(name: str, folder: Path, values: Mapping[str, object]) -> str:
    """A command that resumes in a folder, as one would type it here; what is None is left out."""
    arguments = shlex.join(f"{key}={value}" for key, value in values.items() if value is not None)
    return f"{show_command(name)} {arguments} output_dir={show(folder)}"


def stop_here(resume: str) -> NoReturn:
    """Ends an interrupted command by exit code 130, with the command that resumes it."""
    print(f"interrupted; resume with: {resume}", flush=True)
    sys.exit(130)


@contextmanager
def propose_resuming(command: str, folder: Path, kept: str) -> Iterator[None]:
    """A context that adds how to resume to an interruption, a disk error or the loss of a process.

    To the last two only if the folder holds `kept`, without which nothing can be resumed. An error that names no file,
    as TensorBoard's, names the folder.
    """
    try:
        with name_failures(folder):
            yield
    except KeyboardInterrupt:
        stop_here(command)
    except LostProcessError as error:
        if not (folder / kept).is_file():
            raise
        raise InputError(f"{error}. Resume with: {command}") from error
    except OSError as error:
        if is_refusal(error) and (folder / kept).is_file():
            error.add_note(f"then resume with: {command}")
        raise


def make_absolute(data: DictConfig) -> None:
    """Makes the paths of a `data` node absolute, so that a saved config means the same from any directory."""
    for key in (*PATHS, "cache_dir"):
        if data[key] is not None:
            data[key] = escape(os.path.abspath(os.path.expanduser(data[key])))
