"""What a mistyped key, value or path may have been meant to be."""

import os
import re
import sys
from glob import glob
from importlib.resources import files
from itertools import pairwise

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from weldnet.config.literal import walk
from weldnet.errors import nearest

UNREAD = [f"~hydra/{group}" for group in ("launcher", "sweeper", "hydra_help", "hydra_logging", "job_logging")]
"""Leave out of a composed config what only Hydra's own command line reads: a quarter of the composing."""

OTHER_NAMES = {
    "callbacks=early_stopping callbacks.early_stopping.patience": ("patience",),
    "ckpt_path": ("ckpt", "checkpoint", "resume"),
    "data.augmentation": ("augment", "aug"),
    "data.batch_size": ("batch", "bs"),
    "data.group_by": ("group", "weld"),
    "data.image_size.height": ("imgsz", "img_size", "size"),
    "data.num_workers": ("workers", "num_workers"),
    "data.root": ("folder", "path", "dir", "dataset"),
    "model.backbone": ("arch", "net", "network"),
    "model.freeze_through": ("freeze",),
    "model.weights": ("pretrained",),
    "num_folds": ("k", "folds", "n_splits"),
    "optimizer.lr": ("lr0", "learning_rate"),
    "optimizer.weight_decay": ("wd", "decay"),
    "output_dir": ("out", "output", "save_dir", "project"),
    "source": ("image", "images", "input", "data"),
    "trainer.devices": ("device", "gpus"),
    "trainer.max_epochs": ("epochs", "num_epochs"),
    "trainer.precision": ("amp", "half"),
}
"""The names that other programs give to these keys. The last component of a key is found without this table."""


def suggest_path(word: str) -> str:
    """A hint: what lies in the folder of a mistyped path, or where WSL2 has a drive of Windows."""
    if re.match(r"[A-Za-z]:", word):
        return f"; WSL2 has drive {word[:2]} as /mnt/{word[0].lower()}, and its paths are typed with /"
    folder, name = os.path.split(os.path.expanduser(word).rstrip("/"))
    return nearest(name, glob("*", root_dir=folder or None)).replace("'", f"'{os.path.join(folder, '')}", 1)


def suggest(key: str, config_name: str) -> str:
    """A hint: the full key of a short name, or the key most like the first component that does not exist."""
    if key.startswith("hydra"):
        return "; --hydra-help lists Hydra's"
    node, above = compose_with_groups(config_name), ""
    typed = [word for word in sys.argv if word.startswith(f"{key}=")]
    if typed and key not in node and (full := find_full(node, key)):
        return f"; did you mean {fill_in(node, full, typed[-1].partition('=')[2])}?"
    for component in key.split("."):
        if not OmegaConf.is_dict(node):
            return f"; {above} is a value, it has no keys"
        prefix = f"{above}." if above else ""
        if component not in node:
            hint = nearest(component, map(str, node)).replace("'", f"'{prefix}", 1)
            return hint or f"; {above or 'the config'} has {', '.join(map(str, node)) or 'no keys here'}"
        node, above = node[component], f"{prefix}{component}"
    return ""


def fill_in(cfg: DictConfig, key: str, value: str) -> str:
    """The key with a value, unless that is a word of other programs that it does not take."""
    if key == "trainer.devices" and value.isalpha():
        return "trainer=gpu or trainer=cpu"
    is_switch = value.lower() in ("true", "false") and not isinstance(OmegaConf.select(cfg, key), bool)
    return f"{key}={'...' if is_switch else value}"


def find_full(cfg: DictConfig, name: str) -> str | None:
    """The full key for a name without dots: a key of the config that ends in it, or one of `OTHER_NAMES`."""
    paths = [[str(key) for key in keys] for keys, _ in walk(OmegaConf.to_container(cfg))]
    keys = dict.fromkeys(".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1))
    known = sorted(keys, key=lambda key: key.count("."))
    candidates = [key for key in known if key.endswith(f".{name}")]
    # `callbacks=early_stopping KEY`: the config has this key only after the group is chosen.
    candidates += [key for key, names in OTHER_NAMES.items() if name in names and (key in known or " " in key)]
    # `learning_rate` is the optimizer's: the callback of that name takes no value.
    values = [key for key in candidates if not OmegaConf.is_dict(OmegaConf.select(cfg, key.split(" ")[-1]))]
    return next(iter([*values, *candidates]), None)


def compose_with_groups(config_name: str) -> DictConfig:
    """Composes the config with the groups that were typed; without them if that fails."""
    arguments = [word for argument in sys.argv[1:] for word in re.split(r"(?<=^--config-dir)=", argument)]
    folders = [word for previous, word in pairwise(arguments) if previous in ("--config-dir", "-cd")]
    matches = [re.fullmatch(r"\+?([\w/]+)=\w+", word) for word in arguments]
    groups = [match[0] for match in matches if match and (files("weldnet.configs") / match[1]).is_dir()]
    paths = [f"hydra.searchpath=['file://{os.path.abspath(folder)}']" for folder in folders]
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        try:
            return hydra.compose(config_name, [*groups, *paths, *UNREAD])
        except (HydraException, OmegaConfBaseException):
            return hydra.compose(config_name, UNREAD)
