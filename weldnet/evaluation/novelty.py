"""How far an image's pooled features lie from those of the training images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, inv
from sklearn.covariance import ledoit_wolf
from sklearn.utils.extmath import randomized_svd

from weldnet.evaluation.arrays import Floats, Labels

Features = NDArray[np.floating[Any]]
Array = NDArray[np.float32]

MAX_DIRECTIONS = 64


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """The training features in brief: a subspace, the class means in it, and the usual distance from it.

    The distance of x is the root of min over c of |w - m_c|^2 / K + |r|^2 / v, with z = (x - mean) basis,
    w = z whitening and r = x - mean - z basis^T: the Mahalanobis distance to the nearest class mean within the
    principal subspace, and the part outside of it. Both terms are about 1 on the training images.

    Attributes:
        mean: (D,) of the training features.
        basis: (D, K), orthonormal columns, the K principal directions.
        whitening: (K, K), makes the scatter within classes the identity.
        class_means: (C, K), whitened, of the classes with training images.
        residual_variance: v, the mean of |r|^2 over the training images.

    Source: Lee et al. 2018, arXiv:1807.03888 (nearest class mean, shared covariance); Wang et al. 2022,
    arXiv:2203.10807 (the residual); Ledoit and Wolf 2004, Journal of Multivariate Analysis 88 (shrinkage).
    """

    mean: Array
    basis: Array
    whitening: Array
    class_means: Array
    residual_variance: float

    @classmethod
    def fit(cls, features: Features, labels: Labels) -> "FeatureDistance":
        """Describes training images by their features (N, D), not augmented, and labels (N,), any integers."""
        wide = features.astype(np.float64)
        mean = wide.mean(axis=0)
        centred = wide - mean
        basis, variances = _find_directions(centred)
        inner = centred @ basis
        residual = np.square(centred - inner @ basis.T).sum(axis=1).mean()
        # Far below any real scatter; without it, features without scatter and single images would divide by zero.
        floor = 1e-3 * variances.mean() + 1e-12 * (np.square(wide).mean() or 1.0)
        scale = np.sqrt(variances + floor)
        classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        class_means = np.stack([inner[index == c].mean(axis=0) for c in range(len(classes))])
        scatter = _estimate_scatter((inner - class_means[index]) / scale, degrees=int((counts - 1).sum()))
        whitening = inv(cholesky(scatter)) / scale[:, None]
        arrays = {"mean": mean, "basis": basis, "whitening": whitening, "class_means": class_means @ whitening}
        return cls.from_dict(arrays | {"residual_variance": residual + floor})

    def distance(self, features: Features) -> Floats:
        """The distance (M,) of each row of (M, D): 0 or more, about 1.4 for the training images."""
        centred = features.astype(np.float64) - self.mean
        inner = centred @ self.basis
        residual = np.square(centred - inner @ self.basis.T).sum(axis=1)
        to_means = (inner @ self.whitening)[:, None, :] - self.class_means
        nearest = np.square(to_means).mean(axis=2).min(axis=1)
        distance: Floats = np.sqrt(nearest + residual / self.residual_variance)
        return distance

    def in_units_of(self, unit: float) -> "FeatureDistance":
        """The same distance, divided by `unit`."""
        scaled = {"whitening": self.whitening / unit, "class_means": self.class_means / unit}
        return replace(self, **scaled, residual_variance=self.residual_variance * unit**2)

    @classmethod
    def from_dict(cls, values: Mapping[str, ArrayLike]) -> "FeatureDistance":
        """The inverse of `dataclasses.asdict`; takes whatever numpy can read as arrays."""
        arrays = {key: np.asarray(value, np.float32) for key, value in values.items() if key != "residual_variance"}
        return cls(**arrays, residual_variance=float(np.asarray(values["residual_variance"])))


def choose_threshold(distances: Floats, share: float = 0.99) -> float:
    """The distance that `share` of these validation images keep to; an image farther out is unlike training.

    Training images lie nearer than new ones ever do. With fewer than 1 / (1 - share) images it is the largest distance.
    """
    return float(np.quantile(distances, share, method="higher"))


def _find_directions(centred: Floats) -> tuple[Floats, Floats]:
    """The principal directions (D, K) of (N, D) and the variance (K,) along each."""
    num_images, size = centred.shape
    # With as many directions as images the training images would have no residual to scale others by.
    num_directions = max(1, min(MAX_DIRECTIONS, num_images // 2, size))
    # Near enough: what a direction misses, the residual holds. An exact one takes seconds for 2048 features.
    _, lengths, directions = randomized_svd(centred, num_directions, random_state=0)
    return directions.T, np.square(lengths) / num_images


def _estimate_scatter(deviations: Floats, degrees: int) -> Floats:
    """The shrunk covariance (K, K) of deviations (N, K) from the class means, in units of the scatter of all images.

    It has N - C `degrees` of freedom. The whole scatter, here the identity, counts as one more: where every class has a
    single image, there is nothing else.
    """
    identity = np.eye(deviations.shape[1])
    if not degrees:
        return identity
    shrunk: Floats = ledoit_wolf(deviations, assume_centered=True)[0] * len(deviations) / degrees
    return (degrees * shrunk + identity) / (degrees + 1)
