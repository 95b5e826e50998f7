"""The group bootstrap against loops over resampled images, and against scipy's."""

import json
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import bootstrap

from weldnet.evaluation.bootstrap import (
    FEWEST_GROUPS,
    Statistic,
    bootstrap_groups,
    draw_weights,
    resample_means,
    resample_ranking,
    resample_rates,
)
from weldnet.evaluation.metrics import index_groups

Floats = NDArray[np.float64]


def measure_mean(values: Floats, groups: list[str], num_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    names, indices = index_groups(groups)
    return bootstrap_groups([resample_means({"mean": values}, indices)], names, num_resamples, seed=seed)["mean"]


def width(interval: dict[str, Any]) -> float:
    assert interval["low"] is not None
    assert interval["high"] is not None
    return float(interval["high"] - interval["low"])


def test_groups_are_indexed_by_sorted_name() -> None:
    names, indices = index_groups(["b", "a", "b"])
    assert (names, indices.tolist()) == (["a", "b"], [1, 0, 1])


def test_weights_are_draws_with_replacement() -> None:
    weights = draw_weights(np.random.default_rng(0), 20_000, 4)
    assert (weights.sum(axis=1) == 4).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.02)
    np.testing.assert_allclose(weights.var(axis=0), 3 / 4, atol=0.03)


def test_interval_is_that_of_a_loop_over_images() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(15, size=200)
    values = rng.normal(size=200) + groups
    seen: list[Floats] = []

    def record(weights: Floats) -> dict[str, Floats]:
        seen.append(weights)
        return {}

    names, indices = index_groups([f"{group:02}" for group in groups])
    ours = bootstrap_groups([resample_means({"mean": values}, indices), record], names, num_resamples=300)["mean"]
    means = [
        np.concatenate([values[indices == g] for g in range(len(names)) for _ in range(int(weights[g]))]).mean()
        for weights in np.concatenate(seen[1:])
    ]
    assert len(means) == ours["num_resamples"] == 300
    assert ours["value"] == pytest.approx(values.mean())
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_groups_of_one_image_are_scipys_bootstrap() -> None:
    values = np.random.default_rng(2).exponential(size=120)
    ours = measure_mean(values, [f"{i}" for i in range(120)], num_resamples=20_000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=3
    ).confidence_interval
    assert (ours["low"], ours["high"]) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_photographs_of_one_weld_are_not_independent() -> None:
    rng = np.random.default_rng(4)
    # Ten photographs of each of 40 welds, all right or all wrong: the data of 40, not of 400.
    right = np.repeat((rng.random(40) < 0.8).astype(float), 10)
    by_weld = measure_mean(right, [f"weld{i // 10}" for i in range(400)])
    by_image = measure_mean(right, [f"image{i}" for i in range(400)])
    assert width(by_weld) == pytest.approx(10**0.5 * width(by_image), rel=0.15)


def test_resamples_without_a_class_are_counted() -> None:
    num_groups = 12
    labels = np.array([0, 1] * num_groups)
    labels[4:] = 0  # Class 1 is in two groups only.
    names, indices = index_groups([f"{i // 2:02}" for i in range(len(labels))])
    predicted = np.where(np.arange(len(labels)) % 5 == 3, 1 - labels, labels)
    rates = bootstrap_groups([resample_rates(predicted, labels, indices, ["a", "b"])], names, 4000)
    expected = (1 - 2 / num_groups) ** num_groups
    for name in ("recall/b", "precision/b", "f1/b", "balanced_accuracy", "macro_f1", "specificity/a"):
        assert rates[name]["num_lacking"] / 4000 == pytest.approx(expected, abs=0.03), name
        assert rates[name]["low"] is not None, name
    assert rates["accuracy"]["num_lacking"] == rates["recall/a"]["num_lacking"] == 0


@pytest.mark.parametrize("num_groups", [1, FEWEST_GROUPS - 1])
def test_few_groups_are_listed_instead(num_groups: int) -> None:
    values, groups = np.arange(3.0 * num_groups), [f"weld{i // 3}" for i in range(3 * num_groups)]
    row = measure_mean(values, groups)
    assert (row["low"], row["high"], row["num_resamples"], row["num_groups"]) == (None, None, 0, num_groups)
    assert row["value"] == pytest.approx(values.mean())
    assert row["per_group"] == {f"weld{i}": 3 * i + 1 for i in range(num_groups)}
    assert row["reason"] is not None
    assert row["reason"].startswith(f"only {num_groups} group")
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("figure", "value", "reason"),
    [
        ("recall/a", 1.0, "every resample gives the same value: the groups show no spread to measure"),
        ("recall/b", None, "not measured: no image to measure it on"),
    ],
)
def test_no_interval_without_spread_or_images(figure: str, value: float | None, reason: str) -> None:
    labels = np.zeros(20, np.int64)
    statistic = resample_rates(labels, labels, np.arange(20), ["a", "b"])
    row = bootstrap_groups([statistic], [f"{i}" for i in range(20)], 50)[figure]
    assert (row["value"], row["low"], row["high"], row["reason"]) == (value, None, None, reason)


def test_every_resample_may_lack_something() -> None:
    def measure(weights: Floats) -> dict[str, Floats]:
        return {"x": np.where((weights == 1).all(axis=1), 0.5, np.nan)}

    row = bootstrap_groups([measure], [f"{i}" for i in range(20)], 50)["x"]
    assert (row["value"], row["low"], row["num_lacking"]) == (0.5, None, 50)
    assert row["reason"] == "every resample lacks what it needs"


def test_one_sided_bound_is_that_of_a_narrower_interval() -> None:
    values = np.random.default_rng(5).random(50)
    names, indices = index_groups([f"{i}" for i in range(50)])
    statistics: list[Statistic] = [resample_means({"rate": values}, indices)]
    one = bootstrap_groups(statistics, names, 500, upper=["rate"])["rate"]
    two = bootstrap_groups(statistics, names, 500, confidence=0.9)["rate"]
    assert one["low"] == 0
    assert one["high"] == pytest.approx(two["high"])
    assert one["high_is"] == "one-sided 95 % upper bound (percentile bootstrap of whole groups)"
    assert two["interval_is"] == "two-sided 90 % interval (percentile bootstrap of whole groups)"


def test_a_seed_is_an_interval() -> None:
    values, groups = np.random.default_rng(6).random(60), [f"{i // 3}" for i in range(60)]
    first, again, other = (measure_mean(values, groups, 100, seed) for seed in (7, 7, 8))
    assert first == again
    assert (first["low"], first["value"]) != (other["low"], None)
    assert first["low"] != other["low"]


def test_all_figures_of_a_large_test_set_take_seconds() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(7, size=10_000)
    logits = rng.normal(size=(10_000, 7)) + np.eye(7)[labels]
    classes = [f"class{i}" for i in range(7)]
    names, groups = index_groups([f"{i // 5}" for i in range(10_000)])
    statistics = [
        resample_rates(logits.argmax(1), labels, groups, classes, classes[:1]),
        resample_ranking(softmax(logits, axis=1), labels, groups, classes),
    ]
    start = perf_counter()
    figures = bootstrap_groups(statistics, names)
    # 1.5 s on one core; the limit is for a loaded machine.
    assert perf_counter() - start < 20
    for row in figures.values():
        assert row["low"] is not None
        assert row["value"] is not None
        assert row["low"] < row["value"] < (row["high"] or 0)
