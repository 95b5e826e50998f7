"""The distance from the training features, on drawn Gaussians."""

from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from weldnet.evaluation.novelty import MAX_DIRECTIONS, FeatureDistance, choose_threshold

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

# Small enough for the principal directions to be exact.
SIZE = 72
NUM_CLASSES = 4


def draw_features(num_images: int, seed: int) -> tuple[Floats, Labels]:
    """Features (N, 72) of 4 classes with common scatter along 12 directions and a little noise in all."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres, mixing = world.normal(size=(NUM_CLASSES, SIZE)), world.normal(size=(12, SIZE))
    labels = rng.integers(0, NUM_CLASSES, num_images)
    scatter = 0.5 * rng.normal(size=(num_images, 12)) @ mixing + 0.3 * rng.normal(size=(num_images, SIZE))
    return centres[labels] + scatter, labels


def measure_auroc(fitted: FeatureDistance, near: Floats, far: Floats) -> float:
    distances = np.append(fitted.distance(near), fitted.distance(far))
    return float(roc_auc_score(np.arange(len(distances)) >= len(near), distances))


@pytest.mark.parametrize("num_images", [40, 400])
def test_new_images_are_near_and_others_far(num_images: int) -> None:
    fitted = FeatureDistance.fit(*draw_features(num_images, 1))
    near, far = draw_features(300, 2)[0], np.random.default_rng(3)
    others = {
        "a different class": draw_features(300, 4)[0] + 1.5 * far.normal(size=SIZE),
        "noise": 2 * far.normal(size=(300, SIZE)),
        "outside of the scatter": near + 0.8 * far.normal(size=(300, SIZE)),
        "far along the scatter": near.mean(axis=0) + 4 * (near - near.mean(axis=0)),
        "nothing": np.zeros((1, SIZE)) - 2,
    }
    for name, features in others.items():
        assert measure_auroc(fitted, near, features) > 0.95, name


def test_threshold_flags_one_in_a_hundred_new_images() -> None:
    fitted = FeatureDistance.fit(*draw_features(400, 1))
    threshold = choose_threshold(fitted.distance(draw_features(1000, 2)[0]))
    assert 0.002 < (fitted.distance(draw_features(5000, 3)[0]) > threshold).mean() < 0.02


def test_threshold_is_a_distance_that_was_seen() -> None:
    assert choose_threshold(np.arange(20.0)) == 19
    assert choose_threshold(np.arange(201.0)) == 198
    assert choose_threshold(np.arange(201.0), share=0.5) == 100
    assert choose_threshold(np.array([3.0])) == 3


def test_training_images_lie_at_about_root_two() -> None:
    features, labels = draw_features(400, 1)
    assert np.square(FeatureDistance.fit(features, labels).distance(features)).mean() == pytest.approx(2, rel=0.1)


def test_distance_is_the_formula() -> None:
    fitted, x = FeatureDistance.fit(*draw_features(200, 1)), draw_features(1, 2)[0][0]
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(fitted.basis.shape[1]), atol=1e-5)
    precision = fitted.whitening.astype(float) @ fitted.whitening.T
    inner = fitted.basis.T @ (x - fitted.mean)
    means = np.linalg.solve(fitted.whitening.T.astype(float), fitted.class_means.T).T
    mahalanobis = min((inner - mean) @ precision @ (inner - mean) for mean in means) / len(inner)
    residual = np.sum((x - fitted.mean) ** 2) - inner @ inner
    expected = np.sqrt(mahalanobis + residual / fitted.residual_variance)
    assert fitted.distance(x[None])[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_images", [30, 300])
def test_distance_does_not_change_with_the_coordinates(num_images: int) -> None:
    features, labels = draw_features(num_images, 1)
    new = draw_features(50, 2)[0]
    expected = FeatureDistance.fit(features, labels).distance(new)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
    for scale, shift in ((1.0, 0.0), (100.0, 0.0), (1e-3, 0.0), (1.0, 5.0)):
        moved = FeatureDistance.fit(scale * features @ turn + shift, labels)
        np.testing.assert_allclose(moved.distance(scale * new @ turn + shift), expected, rtol=1e-3)


def test_order_names_and_company_do_not_matter() -> None:
    features, labels = draw_features(200, 1)
    new, shuffled = draw_features(50, 2)[0], np.random.default_rng(0).permutation(200)
    fitted = FeatureDistance.fit(features, labels)
    np.testing.assert_array_equal(FeatureDistance.fit(features, labels).distance(new), fitted.distance(new))
    np.testing.assert_allclose(fitted.distance(new[:1]), fitted.distance(new)[:1])
    reordered = FeatureDistance.fit(features[shuffled], 10 - labels[shuffled])
    np.testing.assert_allclose(reordered.distance(new), fitted.distance(new), rtol=1e-3)


def test_single_precision_suffices() -> None:
    features, labels = draw_features(300, 1)
    new = draw_features(100, 2)[0].astype(np.float32)
    fitted = FeatureDistance.fit(features, labels)
    narrow = FeatureDistance.fit(features.astype(np.float32), labels)
    np.testing.assert_allclose(narrow.distance(new), fitted.distance(new), rtol=1e-3)
    # As an exported network computes it: float32 throughout.
    centred = new - fitted.mean
    inner = centred @ fitted.basis
    residual = np.square(centred - inner @ fitted.basis.T).sum(axis=1) / np.float32(fitted.residual_variance)
    to_means = (inner @ fitted.whitening)[:, None] - fitted.class_means
    in_float32 = np.sqrt(np.square(to_means).mean(axis=2).min(axis=1) + residual)
    assert in_float32.dtype == np.float32
    np.testing.assert_allclose(in_float32, fitted.distance(new), rtol=1e-4)


def test_classes_of_one_image_and_few_images() -> None:
    features, labels = draw_features(40, 1)
    near, far = draw_features(50, 2)[0], np.random.default_rng(3).normal(size=(50, SIZE)) * 4
    for chosen, names in ((40, np.arange(40)), (40, np.minimum(labels, 1)), (12, np.arange(12)), (3, labels[:3])):
        fitted = FeatureDistance.fit(features[:chosen], names)
        assert fitted.basis.shape == (SIZE, max(1, chosen // 2))
        assert np.isfinite(fitted.distance(near)).all()
        assert measure_auroc(fitted, near, far) > 0.9, chosen


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("num_images", [1, 10])
def test_features_without_scatter(value: float, num_images: int) -> None:
    fitted = FeatureDistance.fit(np.full((num_images, SIZE), value, np.float32), np.zeros(num_images, np.int64))
    same, other = fitted.distance(np.full((2, SIZE), [[value], [value + 1]], np.float32))
    assert np.isfinite([same, other]).all()
    assert same < 1 < 100 < other


def test_a_constant_feature_that_moves_is_unlike() -> None:
    features, labels = draw_features(300, 1)
    features[:, 7] = 2.0
    fitted = FeatureDistance.fit(features, labels)
    new = draw_features(50, 2)[0]
    new[:, 7] = 2.0
    moved = new + 8 * (np.arange(SIZE) == 7)
    assert measure_auroc(fitted, new, moved) > 0.99


def test_resnet_features_stay_small() -> None:
    features = np.random.default_rng(0).normal(size=(300, 2048)).astype(np.float32)
    fitted = FeatureDistance.fit(features, np.arange(300) % 6)
    values = asdict(fitted)
    assert fitted.basis.shape == (2048, MAX_DIRECTIONS)
    assert sum(np.asarray(value).nbytes for value in values.values()) < 560_000
    assert {value.dtype for value in values.values() if isinstance(value, np.ndarray)} == {np.dtype(np.float32)}
    restored = FeatureDistance.from_dict({key: np.asarray(value).tolist() for key, value in values.items()})
    np.testing.assert_array_equal(restored.distance(features[:5]), fitted.distance(features[:5]))


def test_other_units() -> None:
    features, labels = draw_features(200, 1)
    new, _ = draw_features(20, 2)
    fitted = FeatureDistance.fit(features, labels)
    np.testing.assert_allclose(fitted.in_units_of(1.7).distance(new), fitted.distance(new) / 1.7, rtol=1e-6)
