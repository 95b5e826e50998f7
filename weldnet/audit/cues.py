"""What of a photograph's look predicts the class by itself: a network could learn it instead of the defect."""

import polars as pl

from weldnet.audit.findings import Finding
from weldnet.audit.sizes import score_columns

_CUES = {
    "brightness": ("mean", "shadows", "lights"),
    "contrast": ("deviation",),
    "colour": ("red", "blue"),
    "sharpness": ("sharpness",),
}
"""Columns of `weldnet.audit.facts.FACTS`; the photographs that a page shows are the extremes of the first one."""

_EXTREMES = 3


def check_cues(samples: pl.DataFrame) -> list[Finding]:
    """`look_predicts_class` for each cue that leads a small tree more than half the way from chance to perfect.

    A defect changes the look as well, so less proves nothing.

    Args:
        samples: `path`, `label`, `group` and the columns of the facts, of the images that can be read.
    """
    findings = []
    for cue, columns in _CUES.items():
        score = score_columns(samples, columns)
        if score is None or not score.is_clear or score.balanced_accuracy < (1 + score.chance) / 2:
            continue
        ordered = samples.sort(columns[0], "path")["path"]
        paths = [*ordered.head(_EXTREMES), *ordered.tail(_EXTREMES)]
        detail = (
            f"{cue} alone predicts the class with balanced accuracy {score.balanced_accuracy:.2f} (chance "
            f"{score.chance:.2f}); unless the defect itself changes it, a network could learn it instead; first the "
            "lowest, then the highest"
        )
        findings.append(Finding("look_predicts_class", "note", tuple(dict.fromkeys(paths)), detail))
    return findings
