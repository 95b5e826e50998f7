"""Messages for mistakes in typed settings, instead of Hydra's, which describe how Hydra failed."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from weldnet.config.suggestions import compose_with_groups, fill_in, find_full, suggest, suggest_path
from weldnet.data.sources.source import Folder, Manifest
from weldnet.errors import InputError, nearest

OPTIONS_WITH_VALUE = {
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun", "--info", "-i"),
}
FLAGS = {"--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--shell-completion"}

NOT_REMOVABLE = "~{}: a key cannot be removed; give it a value"

MESSAGES = {
    r"Config group override must be": "a group takes the name of one of its options, as in model=resnet50; --help "
    "lists them",
    r"^Ambiguous value for argument '(.+?)=(.+)'\n": "{} takes one value here, not {}; a list is [A,B], and with -m "
    "each value is a run",
    r"An item is already at '([^']+)'": "{0} exists already; type {0}=... without the +",
    r"Could not load '([^']+)/([^'/]+)'": "{}={}: there is no such option; --help lists them",
    r"^Multiple values for (\S+)\. To override a value use 'override .+: (.+)'": "{0} is chosen already; type {0}={1} "
    "without the +",
    r"^force-add of config groups is not supported: '\++(.+?)=(.+)'": "{0} is a group; type {0}={1} without the ++",
    r"^Error merging override ~(.+)": NOT_REMOVABLE,
    r"^(?:Missing key|Key '[^']+' (?:is )?not in)(?s:.*)full_key: (\S+)": NOT_REMOVABLE,
    r"^Missing mandatory value(?s:.*)full_key: ckpt_path\b": "ckpt_path is not given; type ckpt_path=best "
    "or ckpt_path=RUN",
    r"^Missing mandatory value(?s:.*)full_key: source\b": "source is not given; type a folder of photographs, one "
    "photograph, or a manifest",
    r"^Missing mandatory value(?s:.*)full_key: (\S+)": "{0} is not given; type {0}=...",
}
"""Our message for each pattern of a message from Hydra or OmegaConf; the pattern's groups fill the braces."""

ALLOWED = {
    r"could not be converted to Integer": "allowed is a whole number",
    r"could not be converted to Float": "allowed is a number",
    r"is not a valid bool": "allowed are true, false",
    r"Cannot convert '\w+' to string": "allowed is text",
    r"is not a ListConfig": "allowed is a list, [A,B]",
    r"is not Optional": "null is not allowed",
}
"""The allowed values for each pattern of a message from OmegaConf."""


def takes_value(option: str) -> bool:
    """Whether the argument after an option is its value, as after one that Hydra does not have, which is refused.

    Long options may be abbreviated, as in Hydra.
    """
    is_long = re.fullmatch("--[^=]+", option) and not any(known.startswith(option) for known in FLAGS)
    return option in OPTIONS_WITH_VALUE or bool(is_long)


def check_typed(arguments: Sequence[str], config_name: str) -> None:
    """Refuses an argument that is neither an option of Hydra nor an override."""
    for previous, argument, following in zip(["", *arguments], arguments, [*arguments[1:], ""], strict=False):
        if takes_value(previous):
            continue
        name, _, value = argument.partition("=")
        if argument.startswith("--") and not any(option.startswith(name) for option in OPTIONS_WITH_VALUE | FLAGS):
            cfg, key = compose_with_groups(config_name), name.lstrip("-").replace("-", "_")
            key = key if key in cfg else find_full(cfg, key) or key
            meant = fill_in(cfg, key, value or ("" if "=" in following else following) or "VALUE")
            raise InputError(f"no such option: {name}; a key is typed without dashes, {meant}")
        if not re.fullmatch(r"-.*|~[^\s=]+(=.*)?|\+{0,2}[^\s=+~]+=.*", argument, re.DOTALL):
            what = "not key=value" if "=" in argument else "neither a file or folder nor key=value"
            is_spaced = following.startswith("=") or previous.endswith("=") or re.search(r"\s=|=\s", argument)
            hint = " (no spaces around =)" if is_spaced else suggest_path(argument)
            # Not the doubled backslashes of a path of Windows.
            raise InputError(f"{argument!r} is {what}{hint}".replace(r"\\", "\\"))


def check_keys(node: DictConfig, above: str = "") -> None:
    """Refuses keys that were added (`+key=value`) or removed (`~key`) in a node with a schema; `above` is its path."""
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return
    allowed, keys = [field.name for field in fields(schema)], list(map(str, node))
    if removed := sorted(set(allowed).difference(keys)):
        raise InputError(NOT_REMOVABLE.format(f"{above}{removed[0]}"))
    for key in keys:
        if key not in allowed:
            listed = ", ".join(f"{above}{name}" for name in allowed)
            raise InputError(f"no such key: {above}{key}{nearest(key, allowed)}; there are {listed}")
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            check_keys(node[key], f"{above}{key}.")


def check_paths(data: DictConfig, typed: Sequence[str]) -> None:
    """Refuses a typed root without photographs, or a missing manifest, before torch is imported: that takes seconds."""
    for key, kind in (("root", Folder), ("manifest", Manifest)):
        is_read = data._target_ in (None, f"{kind.__module__}.{kind.__qualname__}")
        if f"data.{key}" not in typed or not is_read or data[key] is None:
            continue
        # Of a typed path alone: it imports polars.
        from weldnet.data.sources.folders import holds_photographs

        path = os.path.abspath(os.path.expanduser(data[key]))
        # Without a target it is the source of a checkpoint, which may read files of any kind.
        reads = os.path.exists if data._target_ is None else holds_photographs if key == "root" else os.path.isfile
        if not reads(path):
            # Raises, in words of its own.
            kind(**{key: path}).find(0, Path())


def explain(error: Exception, config_name: str) -> str:
    """The message for an error: what is wrong, and what to type instead."""
    text = str(error)
    if isinstance(error, InputError):
        # torch puts the whole traceback of a worker process into the message.
        return text.strip().splitlines()[-1].split("Error: ", 1)[-1] if "DataLoader worker" in text else text
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read; a list is [A,B], and text with brackets, commas, quotes or "
            "letters beyond a to z needs quotes of its own, as in 'KEY=\"TEXT\"'"
        )
    for pattern, message in MESSAGES.items():
        if match := re.search(pattern, text):
            return message.format(*match.groups())
    if match := re.match(r"In '(.+)': \w+ raised while composing config:\n(.+)\n\s+full_key: (\S+)", text):
        return f"{match[1]}.yaml: {_explain_key(match[3], match[2], config_name, match[1].rpartition('/')[0])}"
    if match := re.match(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        hint = suggest(match[1], config_name)
        return f"no such key: {match[1]}{hint}" if hint else NOT_REMOVABLE.format(match[1])
    if match := re.match(r"Error merging override \+*(.+?)=(.*)", text):
        if hint := suggest(match[1], config_name):
            return f"no such key: {match[1]}{hint}"
        return f"{match[1]}={match[2]}: {_explain_value(match[1], str(error.__cause__ or ''), config_name)}"
    if match := re.search(r"Could not find '([^']+)/([^'/]*)'", text):
        data = next((word.partition("=")[2] for word in sys.argv if word.startswith("data=")), "")
        if match[1].startswith("data") and os.path.exists(data):
            meant = f"data=folder data.root={data}" if os.path.isdir(data) else f"data=manifest data.manifest={data}"
            return f"data={data}: data takes the name of a kind of source; type {meant}"
        options = [line.strip() for line in text.splitlines() if line.startswith("\t") and " " not in line.strip()]
        return f"{match[1]}={match[2]}: allowed are {', '.join(options)}{nearest(match[2], options)}"
    return "\n".join(line for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)


def _explain_key(key: str, reason: str, config_name: str, group: str) -> str:
    """The message for a key in a user's config file of this group, from OmegaConf's reason."""
    if not re.match(r"Key '[^']+' (?:is )?not in", reason):
        return f"{key}: {_explain_value(key, reason, config_name)}"
    if key == group:
        return "begin the file with the line # @package _global_"
    return f"no such key: {key}{suggest(key, config_name)}"


def _explain_value(key: str, reason: str, config_name: str) -> str:
    if "is not a subclass of" in reason:
        keys = OmegaConf.select(compose_with_groups(config_name), key)
        return f"{key} has keys of its own; type {key}.KEY=..., where KEY is one of {', '.join(map(str, keys))}"
    messages = (message for pattern, message in ALLOWED.items() if re.search(pattern, reason))
    return next(messages, reason.partition("\n")[0])
