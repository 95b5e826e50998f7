"""A path that is typed without a key: the photographs, or what judges them."""

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise

from weldnet.config.mistakes import takes_value
from weldnet.errors import InputError

SOURCE_COMMANDS = ("predict", "explain")
DATA_COMMANDS = ("train", "crossval", "audit")


def name_paths(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, a bare path written out as the keys that it stands for.

    A folder of photographs or a manifest in training and audit, the source of a prediction or an explanation, otherwise
    the checkpoint. What is no path here stays as it is.

    Raises:
        InputError: there are several.
    """
    bare = [word for before, word in pairwise(["", *arguments]) if _is_path(word) and not takes_value(before)]
    if len(bare) > 1:
        glob = f", or a glob in quotes: '{os.path.dirname(bare[0]) or '.'}/*'" if command in SOURCE_COMMANDS else ""
        raise InputError(f"{len(bare)} paths without a key, {bare[0]} and {bare[1]}; type one folder{glob}")
    words: Iterable[Sequence[str]] = ([word] if word not in bare else _name(command, word) for word in arguments)
    return [word for some in words for word in some]


def _is_path(word: str) -> bool:
    return "=" not in word and not word.startswith(("-", "+", "~")) and os.path.exists(os.path.expanduser(word))


def _name(command: str, path: str) -> list[str]:
    if command in SOURCE_COMMANDS:
        return [f"source={path}"]
    if command not in DATA_COMMANDS:
        return [f"ckpt_path={path}"]
    is_folder = os.path.isdir(os.path.expanduser(path))
    return ["data=folder", f"data.root={path}"] if is_folder else ["data=manifest", f"data.manifest={path}"]
