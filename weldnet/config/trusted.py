"""What the config and the states inside a checkpoint may make: an exact rule for each node, paths in the run folder."""

import importlib
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldnet.config.literal import walk
from weldnet.errors import InputError

SPECIAL = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_", "_mode_")
"""The keys that Hydra acts on."""

PATHS = ("dirpath", "save_dir", "default_root_dir", "exclude_batches_path", "model_registry")
"""Arguments of Lightning's classes that are paths of their own, or an address to upload to; names and versions are
joined to them."""

ADDRESS = "tracking_uri"
"""The argument of a logger that names a server."""


@dataclass(frozen=True)
class Rule:
    """What a node may make: exactly these names, or a class with a base class that is defined below a package."""

    names: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()

    def allows(self, name: Any) -> bool:
        """Whether the node may have this `_target_`; nothing but the packages is imported to find out.

        A name that passes through an attribute, as `package.module.os.system` does, is refused: what stands before the
        last dot must be a module of the package, and no attribute of it is read but the last.
        """
        if name in self.names:
            return True
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return False
        head, _, attribute = name.rpartition(".")
        package = next((each for each in self.packages if f"{head}.".startswith(f"{each}.")), None)
        if package is None:
            return False
        try:
            found: Any = vars(importlib.import_module(head)).get(attribute)
        except ImportError:
            return False
        is_below = isinstance(found, type) and f"{found.__module__}.".startswith(f"{package}.")
        return is_below and issubclass(found, tuple(map(pkgutil.resolve_name, self.bases)))


RULES = {
    "data": Rule(packages=("weldnet.data.sources",), bases=("weldnet.data.sources.source.Source",)),
    # Of data.augmentation plain numbers only: a transform of the user's own is typed again.
    "data.*": Rule(("weldnet.data.augmentation.Strengths",)),
    "model": Rule(("weldnet.model.classifier.WeldClassifier",)),
    "optimizer": Rule(packages=("torch.optim",), bases=("torch.optim.Optimizer",)),
    "scheduler": Rule(
        ("weldnet.model.optimizers.warmup_cosine",),
        ("torch.optim.lr_scheduler",),
        ("torch.optim.lr_scheduler.LRScheduler",),
    ),
    "trainer": Rule(("lightning.Trainer", "lightning.pytorch.Trainer")),
    "callbacks.*": Rule((), ("lightning.pytorch.callbacks", "weldnet"), ("lightning.pytorch.Callback",)),
    # The others send what they log to an address that the file names.
    "logger.*": Rule(
        ("weldnet.training.loggers.MLflowLogger", "weldnet.training.loggers.BoardLogger"),
        ("lightning.pytorch.loggers",),
        ("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.CSVLogger"),
    ),
}

NODES = {pattern.removesuffix(".*") for pattern in RULES} - {"data", "model"}
"""Where a path must lie inside the run folder; images and weights lie where they like."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_LEAVES = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|^data:|://|::")
_PLACEHOLDER = re.compile(r"\{[^{}:!\[\]]*(:0?\d*(\.\d+)?[defg]?)?\}")
"""The format of a value in a file name, as in `{epoch:02d}`; other fill characters could be a slash."""


def check_trusted(saved: dict[str, Any], folder: Path, typed: list[str]) -> None:
    """Refuses a config that names what could run code, or a path outside of the run folder it was found in.

    Args:
        typed: the overrides that were typed this time; what stands there word for word, the user trusts.
    """
    trusted = {override.lstrip("+") for override in typed}
    for keys, value in walk(saved, SPECIAL):
        key, name = ".".join(map(str, keys)), keys[-1]
        if name in SPECIAL:
            rule = RULES.get(".".join([str(keys[0]), *("*" for _ in keys[1:-1])]))
            is_trusted = name == "_target_" and rule is not None and rule.allows(value)
            reason = "is not one of the classes of weldnet, torch or Lightning that this key allows"
        else:
            is_trusted = keys[0] not in NODES or not isinstance(value, str) or not _leaves(value, folder, str(name))
            reason = f"could lead out of the run folder {folder}"
        if not is_trusted and f"{key}={value}" not in trusted:
            raise InputError(
                f"the run's own config has {key}={value}, which {reason}; if you trust it, type it again: "
                f"+{key}={value}"
            )


def check_states(states: Any, folder: Path) -> None:
    """Refuses a path outside of the run folder in the states of callbacks: Lightning removes files that they name."""
    try:
        texts = {text for keys, value in walk(states) for text in (*keys, value) if isinstance(text, str)}
    except RecursionError as error:
        raise InputError("the states of callbacks in last.ckpt are damaged: they hold themselves") from error
    for text in texts:
        if _leaves(text, folder):
            raise InputError(f"the state of a callback in last.ckpt names {text}, which is not inside {folder}")


def check_links(folder: Path) -> None:
    """Refuses a link that leads out of a run folder: what is written there would land elsewhere."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not _is_inside(path, folder):
            raise InputError(f"{path} is a link that leads out of the run folder; put the file or folder itself there")


def _leaves(text: str, folder: Path, name: str | None = None) -> bool:
    """Whether a text, in a state or as the argument `name`, could lead out of a folder."""
    # Lightning's TensorBoard logger puts variables of the environment into its paths.
    if name == ADDRESS or "$" in text.removeprefix(str(folder)):
        return True
    if name not in PATHS:
        if name is not None and "{" in _PLACEHOLDER.sub("", text):
            return True
        if not _LEAVES.search(text):
            return False
    return not (Path(text).is_absolute() and _is_inside(Path(text), folder))


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    # A null byte, or links in a circle.
    except (ValueError, OSError, RuntimeError):
        return False
