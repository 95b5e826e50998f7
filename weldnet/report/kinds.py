"""The kinds of findings: what each means, and what to do about it."""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from weldnet.audit.findings import SEVERITIES, Finding, Severity


class Kind(NamedTuple):
    """The words for one kind: its meaning for training and for the test score; and what it does to that score."""

    title: str
    meaning: str
    remedy: str
    effect: str


_BY_EFFECT = {
    "What makes a test score too high": {
        "group_leak": (
            "Groups in more than one split",
            "Photographs of one weld stand on both sides, so the score measures memory of that weld.",
            "Move each group to one split: audit.suggest_split=FILE.csv writes such a manifest.",
        ),
        "cross_split_duplicate": (
            "The same picture in more than one split",
            "The network is asked about pictures that it has learned by heart.",
            "Keep each picture in one split: audit.suggest_split=FILE.csv does so once the groups are known.",
        ),
        "cross_split_view": (
            "One spot in more than one split",
            "The same spot was photographed again: the network has learned the spot that the test asks about.",
            "Keep all photographs of a weld in one split; audit.suggest_groups=FILE.csv proposes groups by spots.",
        ),
        "cross_group_view": (
            "One spot in more than one group",
            "What counts as two welds seems to be one: split apart, it leaks.",
            "Correct the groups: audit.suggest_groups=FILE.csv writes a manifest in which they are joined.",
        ),
        "exact_duplicate": (
            "Identical files",
            "Copies weigh more than other images, and stray into both sides of a random split.",
            "Keep one of each.",
        ),
        "near_duplicate": (
            "Nearly identical pictures",
            "The same picture saved again, or a weld photographed twice from one position: split at random, they leak.",
            "Keep them in one group, or keep one of each.",
        ),
        "same_view": (
            "Views of one spot",
            "One spot of a weld was photographed several times; split at random, the test would measure memory.",
            "Give the weld of each photograph as its group; audit.suggest_groups=FILE.csv proposes one group a spot.",
        ),
        "no_groups": (
            "No groups",
            "It is unknown which images show the same weld, so a leak between splits stays unseen.",
            "Type data.group_by=prefix:N or folder, or give a manifest; audit.suggest_groups=FILE.csv proposes groups.",
        ),
    },
    "What makes labels wrong": {
        "cross_label_duplicate": (
            "The same picture under more than one label",
            "At least one of the labels is wrong, in training and in the score.",
            "View the pictures, keep the right label, remove the other copies.",
        ),
        "cross_label_view": (
            "One spot under more than one label",
            "Two photographs of the same spot have different labels: one is wrong, or the spot shows both defects.",
            "Compare the pictures and correct the label.",
        ),
        "label_error": (
            "Labels that may be wrong",
            "A network that has not seen the weld gives the label little probability; the least probable comes first. "
            "What such a network finds hard, it doubts under the right label, too.",
            "Fill in the column corrected of review.csv, then type audit.reviewed=review.csv audit.corrected=FILE.csv.",
        ),
        "split_names": (
            "Splits taken for classes",
            "Training stops at them: a network would learn to distinguish train from test, and nothing would test it.",
            "Rename or move the folders: DIR/{train,val,test}/<class>/*; or write a manifest with a column split.",
        ),
        "alike_names": (
            "Names that differ by case or blanks only",
            "What is one class or one weld counts as several. Training stops at such classes.",
            "Give them one spelling.",
        ),
    },
    "What a network could learn instead of the defect": {
        "class_group_confounded": (
            "Classes seen on one weld only",
            "A network can recognise the weld and never learn the defect; the score on these welds would not show it.",
            "Photograph the class on different welds, and other classes on this one; test on different welds.",
        ),
        "size_predicts_class": (
            "The image size gives the class away",
            "The crop reveals the class: resized to one shape, the network sees the pictures stretched differently.",
            "Crop all classes alike, or test on images that were.",
        ),
        "look_predicts_class": (
            "The look could give the class away",
            "Light, lamp or camera may differ between the classes, or the defect itself changes the look.",
            "Compare the photographs: where the light differs, photograph all alike, or try data.normalize=per_image.",
        ),
        "order_predicts_class": (
            "The order of the photographs could give the class away",
            "Whatever changed meanwhile, such as light or lens, could give the classes away. It means nothing where "
            "the numbers in the names only stand for the classes.",
            "Compare the first with the last photographs; photograph the classes in turn, or test on different days.",
        ),
    },
    "What spoils photographs": {
        "unreadable": (
            "Files that cannot be read",
            "Training stops at them.",
            "Mend or remove them, or leave them out by data.on_unreadable=skip.",
        ),
        "damaged": (
            "Damaged files",
            "Part of the picture is lost, shifted or made up, and no network can detect that; training stops at them.",
            "Copy them again from the camera, or leave them out by data.on_unreadable=skip.",
        ),
        "constant": (
            "Pictures of one colour",
            "They show no weld.",
            "View them and remove them.",
        ),
        "clipped": (
            "Clipped pictures",
            "Most pixels are pure black or pure white: what was there is lost.",
            "View them; photograph again with a different exposure.",
        ),
        "dark": (
            "Dark photographs",
            "Far darker than the others of the set and of their class: what they should show is lost.",
            "View them; photograph again with more light or a longer exposure, or remove them.",
        ),
        "bright": (
            "Bright photographs",
            "Far brighter than the others of the set and of their class: what they should show is lost.",
            "View them; photograph again with less light or a shorter exposure, or remove them.",
        ),
        "blurred": (
            "Blurred photographs",
            "Far less fine detail than in the others of the set and of their class, so that a fine defect is lost.",
            "View them; focus and photograph again, or remove them.",
        ),
        "tiny": (
            "Tiny photographs",
            "Far fewer pixels than the others of the set and of their class: enlarged, they show hardly anything.",
            "View them; crop again from the original photograph, or remove them.",
        ),
        "noise": (
            "Noise",
            "Neighbouring pixels have nothing in common: no picture, or one that is lost in grain.",
            "View them; look for a fault of the camera or of a conversion, and remove them.",
        ),
        "bit_depth": (
            "Bit depth",
            "The window sets which stored values become black and white; the wrong one hides what is in the picture.",
            "Give the window that fits the detector: data.window=[low,high] or data.window=percentile.",
        ),
    },
    "What else was found": {
        "unread_format": (
            "Photographs in a format that weldnet does not read",
            "Training leaves them out.",
            "Save them as JPEG, PNG or TIFF, at full quality.",
        ),
        "small_class": (
            "Classes too small to learn or to test",
            "What a class has too few of, the network cannot learn, or the test cannot measure.",
            "Photograph more, from different welds, or join or remove the class.",
        ),
        "look_predicts_split": (
            "The look of the photographs differs between the splits",
            "Light, camera or crop is different in test or validation: the score measures that beside unseen welds.",
            "If such light is usual, train on it; else split at random by whole welds: audit.suggest_split=FILE.csv.",
        ),
        "order_predicts_split": (
            "The split follows the order of the photographs",
            "The score measures what changed meanwhile beside unseen welds.",
            "Keep it if the test stands for later work, else split by whole welds: audit.suggest_split=FILE.csv.",
        ),
        "wrong_extension": (
            "File endings that do not match the content",
            "weldnet reads the content, not the ending; other programs refuse such files.",
            "Rename them.",
        ),
        "multi_page": (
            "Files with several pages",
            "Only the first page is used.",
            "Save the other pages as files of their own if they matter.",
        ),
    },
}
"""What findings do to a test score, worst first, as headings of the page, and the kinds in its order."""

KINDS = {name: Kind(*words, effect) for effect, kinds in _BY_EFFECT.items() for name, words in kinds.items()}


def group_findings(findings: Iterable[Finding]) -> list[tuple[Severity, str, list[Finding]]]:
    """The findings by effect, severity and kind, in the order of `_BY_EFFECT`, `SEVERITIES` and `KINDS`."""
    effects, kinds = list(_BY_EFFECT), list(KINDS)

    def rank(found: Finding) -> tuple[int, int, int]:
        effect = effects.index(KINDS[found.kind].effect)
        return effect, SEVERITIES.index(found.severity), kinds.index(found.kind)

    ordered = sorted(findings, key=rank)
    return [(*key, list(group)) for key, group in groupby(ordered, key=lambda found: (found.severity, found.kind))]
