"""What is wrong with what was typed, and what to type instead; Hydra's own words tell how Hydra failed."""

import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from weldnet.errors import InputError, nearest

OPTIONS_WITH_VALUE = {
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun", "--info", "-i"),
}
FLAGS = {"--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--shell-completion"}

VALUES = {
    r"could not be converted to Integer": "allowed is a whole number",
    r"could not be converted to Float": "allowed is a number",
    r"is not a valid bool": "allowed are true, false",
    r"Cannot convert '\w+' to string": "allowed is text",
    r"is not a ListConfig": "allowed is a list, [A,B]",
    r"is not Optional": "null is not allowed",
}
"""What OmegaConf says of a value, and what is allowed."""


def takes_value(option: str) -> bool:
    """Whether the next argument belongs to it; Hydra takes the beginning of a long option for the whole."""
    is_begun = len(option) > 2 and option.startswith("--")
    return option in OPTIONS_WITH_VALUE or (is_begun and any(known.startswith(option) for known in OPTIONS_WITH_VALUE))


_KEPT = "~{}: a key cannot be taken away; give it a value"


def check_typed(arguments: Sequence[str]) -> None:
    """Raises:
    InputError: an argument is neither an option of Hydra's nor an override.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if takes_value(before):
            continue
        name, _, value = argument.partition("=")
        # Hydra takes the beginning of an option for the whole.
        if argument.startswith("--") and not any(option.startswith(name) for option in OPTIONS_WITH_VALUE | FLAGS):
            raise InputError(
                f"no such option: {name}; a key is typed without dashes, {name.lstrip('-')}={value or 'VALUE'}"
            )
        if not re.fullmatch(r"-.*|~[^\s=]+(=.*)?|\+{0,2}[^\s=+~]+=.*", argument, re.DOTALL):
            hint = "; blanks stand neither before nor after the =" if re.search(r"^[^=]*$|\s", argument) else ""
            raise InputError(f"{argument!r} is no key=value{hint}")


def explain(error: Exception, config_name: str) -> str:
    """What is wrong, and what to type instead."""
    text = str(error)
    if "Config group override must be" in text:
        return "a group takes the name of one of its options, as in model=resnet50; --help lists them"
    if isinstance(error, InputError):
        # From a worker process torch brings the whole traceback along.
        return text.strip().splitlines()[-1].split("Error: ", 1)[-1] if "DataLoader worker" in text else text
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read; a list is [A,B], and text with brackets, commas, quotes or "
            "letters beyond a to z stands in quotes of its own, as in 'KEY=\"TEXT\"'"
        )
    if match := re.match(r"Ambiguous value for argument '(.+?)=(.+)'\n", text):
        return f"{match[1]} takes one value here, not {match[2]}; a list is [A,B], and with -m each value is a run"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"{match[1]} exists already; type {match[1]}=... without the +"
    if match := re.match(r"In '(.+)': \w+ raised while composing config:\n(.+)\n\s+full_key: (\S+)", text):
        return f"{match[1]}.yaml: {_explain_own(match[1], match[2], match[3], config_name)}"
    if match := re.search(r"Could not load '([^']+)/([^'/]+)'", text):
        return f"{match[1]}={match[2]}: there is no such option; --help lists them"
    if match := re.match(r"Multiple values for (\S+)\. To override a value use 'override .+: (.+)'", text):
        return f"{match[1]} is chosen already; type {match[1]}={match[2]} without the +"
    if match := re.match(r"force-add of config groups is not supported: '\++(.+)'", text):
        return f"{match[1].partition('=')[0]} is a group; type {match[1]} without the ++"
    if match := re.match(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        hint = _suggest(match[1], config_name)
        return f"no such key: {match[1]}{hint}" if hint else _KEPT.format(match[1])
    if match := re.match(r"Error merging override ~(.+)", text):
        return _KEPT.format(match[1])
    if isinstance(error, OmegaConfBaseException) and re.match(r"Missing key|Key '[^']+' (?:is )?not in", text):
        return _KEPT.format(error.full_key)
    if match := re.match(r"Error merging override \+*(.+?)=(.*)", text):
        if hint := _suggest(match[1], config_name):
            return f"no such key: {match[1]}{hint}"
        return f"{match[1]}={match[2]}: {_explain_value(match[1], str(error.__cause__ or ''), config_name)}"
    if match := re.search(r"Could not find '([^']+)/([^'/]*)'", text):
        options = [line.strip() for line in text.splitlines() if line.startswith("\t") and " " not in line.strip()]
        return f"{match[1]}={match[2]}: allowed are {', '.join(options)}{nearest(match[2], options)}"
    if isinstance(error, OmegaConfBaseException) and error.full_key and "Missing mandatory value" in text:
        return f"{error.full_key} is not given; type {error.full_key}=..."
    lines = [line for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return "\n".join(lines)


def _explain_own(file: str, reason: str, key: str, config_name: str) -> str:
    """Of a config file of one's own, what OmegaConf says of one key."""
    if not re.match(r"Key '[^']+' (?:is )?not in", reason):
        return f"{key}: {_explain_value(key, reason, config_name)}"
    if key == file.rpartition("/")[0]:
        return "a group of one's own begins with the line # @package _global_"
    return f"no such key: {key}{_suggest(key, config_name)}"


def _explain_value(key: str, reason: str, config_name: str) -> str:
    if "is not a subclass of" in reason:
        keys = OmegaConf.select(_compose(config_name), key)
        return f"{key} has keys of its own; type {key}.KEY=..., where KEY is one of {', '.join(map(str, keys))}"
    known = (words for pattern, words in VALUES.items() if re.search(pattern, reason))
    return next(known, (reason.splitlines() or [""])[0])


def _suggest(key: str, config_name: str) -> str:
    """The nearest key beside the first part of `key` that does not exist."""
    if key.startswith("hydra"):
        return "; --hydra-help lists Hydra's"
    node = _compose(config_name)
    place = ""
    for part in key.split("."):
        if not OmegaConf.is_dict(node):
            return f"; {place} is a value, it has no keys"
        if part not in node:
            where = f"{place}." if place else ""
            guess = nearest(part, map(str, node))
            return (
                guess.replace("'", f"'{where}", 1)
                or f"; {place or 'the config'} has {', '.join(map(str, node)) or 'no keys here'}"
            )
        node, place = node[part], f"{place}.{part}" if place else part
    return ""


def _compose(config_name: str) -> DictConfig:
    """The config with the groups that were typed, or, where they do not compose, without."""
    arguments = [word for argument in sys.argv[1:] for word in re.split(r"(?<=^--config-dir)=", argument)]
    folders = [word for before, word in pairwise(arguments) if before in ("--config-dir", "-cd")]
    groups = [word for word in arguments if re.fullmatch(r"\+?[\w/]+=\w+", word)]
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        try:
            places = [f"hydra.searchpath=['file://{os.path.abspath(folder)}']" for folder in folders]
            return hydra.compose(config_name, [*groups, *places])
        except (HydraException, OmegaConfBaseException):
            return hydra.compose(config_name)
