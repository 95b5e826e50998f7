"""Whether a look or an order that gives the class or the split away is noted, and no other."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from weldnet.audit.cues import check_cues, number_names

LOOKS = {
    "brightness": ("mean", "shadows", "lights"),
    "contrast": ("deviation",),
    "colour": ("red", "blue"),
    "sharpness": ("sharpness",),
}
ALL = tuple(name for names in LOOKS.values() for name in names)
NUM = 80
LABELS = np.repeat(["a", "b"], NUM // 2)
SECOND_HALF = LABELS == "b"
MIXED = np.random.default_rng(1).permutation(NUM)
"""A number for each photograph, whatever its class."""


def shoot(names: list[str] | None = None, shifts: dict[str, float] | None = None) -> pl.DataFrame:
    """Eighty photographs of eight welds that differ in everything; class b by some standard deviations."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(0, 1, NUM) + (shifts or {}).get(name, 0) * SECOND_HALF for name in ALL}
    return pl.DataFrame(
        {
            "path": names or [f"/IMG_{number:04}.jpg" for number in MIXED],
            "label": LABELS,
            "group": [str(number % 8) for number in range(NUM)],
            "split": pl.Series([None] * NUM, dtype=pl.String),
            "width": rng.integers(50, 90, NUM),
            "height": rng.integers(50, 90, NUM),
            "taken": pl.Series([None] * NUM, dtype=pl.Datetime("us")),
            **values,
        }
    )


def count_by_class(form: str, start: dict[str, int]) -> list[str]:
    """A name for each photograph, numbered within its class from `start`."""
    return [form.format(label=label, number=start[label] + number % (NUM // 2)) for number, label in enumerate(LABELS)]


@pytest.mark.parametrize("cue", LOOKS)
def test_a_look_that_gives_the_class_away_is_noted(cue: str) -> None:
    table = shoot(shifts=dict.fromkeys(LOOKS[cue], 4.0))
    (found,) = check_cues(table)
    assert (found.kind, found.severity) == ("look_predicts_class", "note")
    assert found.detail.startswith(f"{cue} alone predicts the class")
    assert found.paths == (*table.sort(LOOKS[cue][0])["path"][:3], *table.sort(LOOKS[cue][0])["path"][-3:])


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_defect_that_changes_the_look_a_little_is_not(shift: float) -> None:
    assert [found.detail for cue in LOOKS for found in check_cues(shoot(shifts=dict.fromkeys(LOOKS[cue], shift)))] == []


@pytest.mark.parametrize(
    ("names", "is_found"),
    [
        (count_by_class("/{label}/IMG_{number:04}.jpg", {"a": 1, "b": 41}), True),
        (count_by_class("/{label}/{label}_{number}.jpg", {"a": 1, "b": 41}), True),
        (count_by_class("/{label}/2025-03-14 10.{number:02}.00.jpg", {"a": 1, "b": 41}), True),
        # Each class begins anew, or has a number that stands for it.
        (count_by_class("/{label}/{label}_{number:04}.jpg", {"a": 1, "b": 1}), False),
        (count_by_class("/{label}/{number:04}.jpg", {"a": 1, "b": 30}), False),
        ([f"/{label}/weld.jpg" for label in LABELS], False),
        (None, False),
    ],
)
def test_classes_photographed_one_after_the_other(names: list[str] | None, is_found: bool) -> None:
    table = shoot(names)
    found = check_cues(table)
    assert [each.kind for each in found] == ["order_predicts_class"] * is_found
    for each in found:
        assert "numbers in the file names" in each.detail
        assert each.paths == (*table["path"][:3], *table["path"][-3:])


@pytest.mark.parametrize("labels", [("1", "2"), ("type 1", "type 2"), ("Pore-1", "pore-2")])
def test_a_number_of_the_class_in_the_name_is_no_order(labels: tuple[str, str]) -> None:
    rows = [(f"/x/{label.replace(' ', '_')}_{shot:03}.jpg", label) for label in labels for shot in range(20)]
    samples = pl.DataFrame(rows, schema=["path", "label"], orient="row")
    assert number_names(samples).max() == 0
    assert number_names(samples.with_columns(label=pl.lit("?"))).max() == 39


@pytest.mark.parametrize("gap", ["weeks", "no date"])
def test_dates_that_give_the_class_away(gap: str) -> None:
    start = datetime(2025, 3, 14, 8)
    times = [start + timedelta(seconds=int(number)) for number in MIXED]
    assert check_cues(shoot().with_columns(taken=pl.Series(times))) == []
    later = [time + timedelta(weeks=3) if gap == "weeks" else None for time in times]
    taken = [other if is_b else time for time, other, is_b in zip(times, later, SECOND_HALF, strict=True)]
    table = shoot().with_columns(taken=pl.Series(taken))
    (found,) = check_cues(table)
    assert found.kind == "order_predicts_class"
    assert "date" in found.detail
    shown = table.filter(pl.col("path").is_in(found.paths))["label"].to_list()
    assert sorted(shown) == ["a"] * 3 + ["b"] * 3


def split_by_weld(welds: dict[str, str]) -> pl.Expr:
    return pl.col("group").replace_strict(welds)


FOUR_IN_TEST = {str(weld): "test" if weld < 4 else "train" for weld in range(8)}


@pytest.mark.parametrize(
    ("welds", "column", "kinds"),
    [
        (FOUR_IN_TEST, "mean", ["look_predicts_split"]),
        (FOUR_IN_TEST, "height", ["look_predicts_split"]),
        (FOUR_IN_TEST, "nothing", []),
        (FOUR_IN_TEST | {"0": "val"}, "mean", []),
        (
            {weld: {"test": "val"}.get(split, split) for weld, split in FOUR_IN_TEST.items()},
            "mean",
            ["look_predicts_split"],
        ),
        # Three welds may be darker than five by chance.
        ({str(weld): "test" if weld < 3 else "train" for weld in range(8)}, "mean", []),
        (dict.fromkeys("01234567", "train"), "mean", []),
    ],
)
def test_a_look_that_differs_between_the_splits(welds: dict[str, str], column: str, kinds: list[str]) -> None:
    table = shoot().with_columns(split=split_by_weld(welds), nothing=pl.lit(0.0))
    table = table.with_columns(pl.col(column) + 300 * (pl.col("group").cast(pl.Int64) < 4))
    found = check_cues(table)
    assert [each.kind for each in found] == kinds
    name = next(split for split in (*welds.values(), "train") if split != "train") if kinds else ""
    assert all(f"distinguishes {name} from train" in each.detail for each in found)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_test_photographed_after_the_rest(grouped: bool) -> None:
    ordered = [f"/IMG_{number:04}.jpg" for number in range(NUM)]
    is_last = np.arange(NUM) >= NUM // 2
    groups = [str(number // 10) if grouped else None for number in range(NUM)]
    table = shoot(ordered).with_columns(
        label=pl.Series(np.resize(["a", "b"], NUM)),
        group=pl.Series(groups, dtype=pl.String),
        split=pl.Series(np.where(is_last, "test", "train")),
    )
    (found,) = check_cues(table)
    assert found.kind == "order_predicts_split"
    assert found.paths == (*ordered[:3], *ordered[-3:])
    assert check_cues(table.with_columns(path=pl.Series([f"/IMG_{number:04}.jpg" for number in MIXED]))) == []
