"""Whether sizes that predict the class are found, and no others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from weldnet.audit.cues import SIZE, find_cue


def sized(labels: Sequence[str], groups: Sequence[Any], width: Any, height: Any) -> pl.DataFrame:
    known = pl.Series([None if group is None else str(group) for group in groups], dtype=pl.String)
    return pl.DataFrame({"path": [f"/{number:03}" for number in range(len(labels))], "label": labels}).with_columns(
        group=known,
        width=pl.Series(np.broadcast_to(width, len(labels))),
        height=pl.Series(np.broadcast_to(height, len(labels))),
    )


@pytest.mark.parametrize("grouping", ["none", "per image", "two", "each shows both", "each shows one"])
def test_a_size_that_predicts_the_class_is_found(grouping: str) -> None:
    labels = np.repeat(["a", "b"], 40)
    index = np.arange(80)
    groupings: dict[str, Sequence[Any]] = {
        "none": [None] * 80,
        "per image": list(index),
        "two": list(index % 2),
        "each shows both": list(index % 8),
        "each shows one": list(index // 8),
    }
    noise = np.random.default_rng(0).integers(0, 10, 80)
    samples = sized(list(labels), groupings[grouping], 60 + noise + 6 * (labels == "b"), 50)
    found = find_cue(samples, SIZE)
    assert found is not None
    assert (found.kind, found.severity) == ("size_predicts_class", "warning")
    assert 0.65 < float(found.detail.partition("accuracy ")[2][:4]) < 0.95
    widths = samples.filter(pl.col("path").is_in(found.paths))["width"].to_list()
    assert sorted(widths) == sorted([*samples["width"].sort().head(3), *samples["width"].sort().tail(3)])


def test_the_aspect_alone_is_enough() -> None:
    rng = np.random.default_rng(0)
    scale, labels = rng.integers(10, 200, 200), np.repeat(["a", "b"], 100)
    assert find_cue(sized(list(labels), [None] * 200, scale * (2 + (labels == "b")), scale * 2), SIZE)


def test_one_size_predicts_nothing() -> None:
    assert find_cue(sized(["a", "b"] * 20, [None] * 40, 60, 50), SIZE) is None
    assert find_cue(sized(["a"] * 40, [None] * 40, np.arange(40), 50), SIZE) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_sizes_of_a_small_clean_set_raise_no_alarm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for groups in ([None] * 24, list(range(24)), [i // 4 for i in range(24)]):
        samples = sized(["a", "b"] * 12, groups, rng.integers(40, 120, 24), rng.integers(40, 120, 24))
        assert find_cue(samples, SIZE) is None


def test_a_size_of_its_own_for_each_weld_is_no_alarm() -> None:
    # Forty images a weld: shuffled one by one they would seem to prove what a dozen welds cannot.
    alarms = 0
    for seed in range(10):
        sizes = np.random.default_rng(seed).integers(40, 120, 12).repeat(10)
        samples = sized(["a"] * 60 + ["b"] * 60, list(np.arange(120) // 10), sizes, 50)
        alarms += find_cue(samples, SIZE) is not None
    assert alarms <= 1


def test_many_images_are_sampled() -> None:
    labels = np.repeat(["a", "b", "rare"], [20_000, 20_000, 2])
    found = find_cue(sized(list(labels), [None] * 40_002, np.where(labels == "a", 60, 61), 50), SIZE)
    assert found is not None
    assert "balanced accuracy 1.00 (chance 0.50)" in found.detail
