"""The names that people give to train, val and test, as folders or in a manifest."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from weldnet.errors import InputError
from weldnet.spelling import tidy

SPLIT_NAMES = {
    "train": ("train", "training", "trainings", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "validierung", "validierungs", "eval", "evaluation", "dev"),
    "test": ("test", "testing", "tests", "tst", "holdout", "heldout", "prüf", "prüfung"),
}
"""The names of each split, in any case, with digits, separators and the words of `_FILLING` around them."""

_SPLIT_OF = {word: split for split, words in SPLIT_NAMES.items() for word in words}
_FILLING = r"(?:data|dataset|set|split|images?|imgs?|pics|pictures?|photos?|samples?|bilder|daten|satz)"
_AROUND = re.compile(rf"^{_FILLING}+|{_FILLING}+$")


def find_word(name: str) -> str:
    """The word of `SPLIT_NAMES` that a name is: `01_Train-Images` is `train`; empty where it is none."""
    letters = re.sub(r"[\W\d_]+", "", tidy(name)).casefold()
    word = _AROUND.sub("", letters)
    return word if word in _SPLIT_OF else ""


def find_split(name: str) -> str | None:
    """`train`, `val` or `test`, where a name is that of a split."""
    return _SPLIT_OF.get(find_word(name))


def find_hints(name: str) -> set[str]:
    """The splits that single words of a name are: of `train_good`, `trainA` or `good (test)`."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", tidy(name)))
    return {split for word in words if (split := find_split(word))}


def name_splits(names: Iterable[str], source: Path) -> Mapping[str, str]:
    """The split of each name that is one of a split; refuses `val` beside `eval`, of which one may be a test."""
    splits = {name: split for name in names if (split := find_split(name))}
    for split in SPLIT_NAMES:
        same = sorted(name for name in splits if splits[name] == split)
        # val, valid and validation are one word.
        if len({find_word(name)[0] for name in same}) > 1:
            raise InputError(
                f"{source}: {' and '.join(same)} would all be taken for {split}; name the splits train, val and test"
            )
    return splits
