"""Whether a look that gives the class away is noted, and no other."""

import numpy as np
import polars as pl
import pytest

from weldnet.audit.cues import check_cues

COLUMNS = {
    "brightness": ("mean", "shadows", "lights"),
    "contrast": ("deviation",),
    "colour": ("red", "blue"),
    "sharpness": ("sharpness",),
}


def looks(cue: str, shift: float) -> pl.DataFrame:
    """Eighty photographs of eight welds, whose looks differ; that of class b by `shift` standard deviations."""
    rng, labels = np.random.default_rng(0), np.repeat(["a", "b"], 40)
    groups = [str(number % 8) for number in range(80)]
    table = pl.DataFrame({"path": [f"/{number:02}" for number in range(80)], "label": labels, "group": groups})
    columns = [name for names in COLUMNS.values() for name in names]
    values = {name: rng.normal(0, 1, 80) + shift * (labels == "b") * (name in COLUMNS.get(cue, ())) for name in columns}
    return table.with_columns(**{name: pl.Series(each) for name, each in values.items()})


@pytest.mark.parametrize("cue", COLUMNS)
def test_a_look_that_gives_the_class_away_is_noted(cue: str) -> None:
    (found,) = check_cues(looks(cue, 4.0))
    assert (found.kind, found.severity) == ("look_predicts_class", "note")
    assert found.detail.startswith(f"{cue} alone")
    assert len(found.paths) == 6
    assert [int(path[1:]) >= 40 for path in found.paths] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_defect_that_changes_the_look_a_little_is_not(shift: float) -> None:
    assert [found.detail for cue in COLUMNS for found in check_cues(looks(cue, shift))] == []
