"""What is typed, as Hydra takes it: a bare path gets its key, values are quoted, options come first."""

import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files

from omegaconf import DictConfig, OmegaConf

from weldnet.config.literal import escape
from weldnet.config.mistakes import takes_value
from weldnet.data.sources.source import PATHS
from weldnet.errors import InputError

SOURCE_COMMANDS = ("predict", "explain")
DATA_COMMANDS = ("train", "crossval", "sweep", "audit")

VERBATIM = {
    *("output_dir", "ckpt_path", "crossval", "source", "sort_into", "target"),
    *(f"data.{key}" for key in (*PATHS, "group_pattern", "cache_dir")),
    *(f"audit.{key}" for key in ("suggest_split", "suggest_groups", "reviewed", "corrected")),
    *("model.weights", "evaluation.vocabulary", "sweep.storage"),
    *("serve.records", "serve.keep_images", "export", "notify.url"),
}
"""Keys whose values are paths, globs or regular expressions: taken as typed, not as Hydra's grammar has them."""

_WORD = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|[^\[\],'"\s](?:[^\[\],'"]*[^\[\],'"\s])?""", re.DOTALL)
"""In a list as it is typed: a quoted word, or one that is not."""

ALL = "\n== Groups (group=option) ==\n$APP_CONFIG_GROUPS\n== Config (key=value) ==\n$CONFIG"
"""What `--help all` of weldnet-train lists further, as a template of Hydra's."""


def name_paths(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, a bare path written out as the keys that it stands for.

    A folder of photographs or a manifest in training and audit, the source of a prediction or an explanation, otherwise
    the checkpoint. What is no path here stays as it is.
    """
    before = ["", *arguments]
    bare = [i for i, word in enumerate(arguments) if _is_path(word) and not takes_value(before[i])]
    if not bare:
        return list(arguments)
    path = arguments[bare[0]]
    if command in (*SOURCE_COMMANDS, *DATA_COMMANDS) and (
        runs := [arguments[i] for i in bare if _is_run(arguments[i])]
    ):
        raise InputError(f"{runs[0]} is a run or an export, not photographs; type ckpt_path={runs[0]}")
    if len(bare) > 1:
        glob = f", or a glob in quotes: '{os.path.dirname(path) or '.'}/*'" if command in SOURCE_COMMANDS else ""
        raise InputError(f"{len(bare)} paths without a key, {path} and {arguments[bare[1]]}; type one folder{glob}")
    named = _name(command, path)
    if any(re.match(r"\+*ckpt_path=(?!null$)", word) for word in arguments):
        # A run that resumes keeps its source; only where the files lie may have changed.
        named = named[-1:]
    key = named[-1].partition("=")[0]
    if twice := [word for word in arguments if word.startswith(f"{key}=")]:
        instead = f"for other images type data=folder data.root={path}" if command == "test" else "type one of them"
        raise InputError(f"{path} stands for {named[-1]}, and {twice[0]} is typed, too; {instead}")
    return [*arguments[: bare[0]], *named, *arguments[bare[0] + 1 :]]


def _is_path(word: str) -> bool:
    # A word with a = is a path only if it begins like one, a word with a ~ only if that names a home.
    can_be = word.startswith(("/", "./", "../")) or re.fullmatch(r"~[^/=]*/.*|[^-+~=][^=]*", word, re.DOTALL)
    return bool(can_be) and os.path.exists(os.path.expanduser(word))


def _is_run(path: str) -> bool:
    entries = [os.path.join(os.path.expanduser(path), name) for name in ("model.json", "config.yaml", "checkpoints")]
    is_export, *is_run = map(os.path.exists, entries)
    return is_export or all(is_run)


def _name(command: str, path: str) -> list[str]:
    if command in SOURCE_COMMANDS:
        return [f"source={path}"]
    if command not in DATA_COMMANDS:
        return [f"ckpt_path={path}"]
    if os.path.isdir(os.path.expanduser(path)):
        return ["data=folder", f"data.root={path}"]
    if not path.lower().endswith(".csv"):
        # Not for a table: it takes half a second to import.
        from weldnet.data.decode.signatures import sort_file

        if sort_file(os.path.expanduser(path)) != "other":
            raise InputError(
                f"{path} is one photograph; type the folder that holds the folders of the classes, or a CSV"
            )
    return ["data=manifest", f"data.manifest={path}"]


def split_help(command: str, arguments: list[str]) -> list[str]:
    """The arguments with `--help all` as Hydra's option, and in training with a template: only `all` lists every key.

    In the config the template would cost each call: OmegaConf resolves the text that another one replaces.
    """
    asked = [i for i, word in enumerate(arguments) if word in ("--help", "-h")]
    is_all = [i for i in asked if arguments[i + 1 : i + 2] == ["all"]][:1]
    template = f"hydra.help.template='${{hydra.help.header}}{ALL if is_all else ''}\n${{hydra.help.footer}}'"
    kept = [word for i, word in enumerate(arguments) if i - 1 not in is_all]
    return [*kept, template] if asked and command == "train" else kept


def quote_verbatim(argument: str, *, is_sweep: bool = False) -> str:
    """An override with the value of a verbatim key quoted for Hydra; `null`, a quoted value and all others as they are.

    So is each word of `notify.command`, where Hydra would make 1.5 of 1.50, and True of true.

    In a sweep `${key}` in output_dir stands for the value of that key, so that each run has a folder of its own.
    """
    if argument.startswith("sweep.space."):
        # What is searched is added by being typed.
        return f"++{argument}"
    match = re.fullmatch(r"(\+{0,2})([\w.]+)=(.*)", argument, re.DOTALL)
    if match and match[2] == "notify.command" and match[3].startswith("["):
        return f"{match[1]}{match[2]}={_WORD.sub(lambda word: word[1] or quote(word[0]), match[3])}"
    if match is None or match[2] not in VERBATIM or re.fullmatch(r"null|(['\"]).*\1", match[3], re.DOTALL):
        return argument
    plus, key, value = match.groups()
    if not value:
        # Most often from a shell variable that is not set. As a path it would mean the current folder.
        raise InputError(f"{key}= is empty; type a value after it, or leave it out")
    if not (is_sweep and key == "output_dir"):
        value = escape(value)
    return f"{plus}{key}={quote(value)}"


def quote(value: str) -> str:
    """A text as Hydra's grammar quotes it."""
    # Hydra reads a backslash only before a quote, where each must be doubled.
    value = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), value)
    return f"'{value}'"


def put_options_first(arguments: list[str]) -> list[str]:
    """The arguments with the options, and their values, before the overrides: Hydra takes no other order."""
    pairs = zip(["", *arguments], arguments, strict=False)
    ordered = sorted(pairs, key=lambda pair: not (pair[1].startswith("-") or takes_value(pair[0])))
    return [argument for _, argument in ordered]


def register_help() -> None:
    """Makes `${options:GROUP}` and `${setting:KEY}` known to the texts of `--help`."""
    OmegaConf.register_new_resolver("options", show_options, replace=True)
    OmegaConf.register_new_resolver("setting", show_setting, replace=True)


def show_options(group: str) -> str:
    """A group of configs and its options, as `--help` lists them: `${options:GROUP}` in a root config."""
    names = sorted(file.name for file in (files("weldnet.configs") / group).iterdir())
    return f"{group}: {', '.join(name.removesuffix('.yaml') for name in names if name.endswith('.yaml'))}"


def show_setting(key: str, *, _root_: DictConfig) -> str:
    """A key with its value in a column, as `--help` lists it: `${setting:KEY}` in a root config."""
    value = OmegaConf.select(_root_, key)
    if OmegaConf.is_config(value):
        # As it is typed, on one line.
        shown = str(value).replace("'", "").replace(", ", ",").replace(": ", ":")
    else:
        shown = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return f"{f'{key}={shown}':<34}  "
