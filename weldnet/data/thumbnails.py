"""Thumbnails of photographs, and how similar two of them are: as pictures, and as views of one spot.

Two thumbnails are nearly identical by their detail: what is left without the mean of every row and column, since two
different welds share the bead's profile and the lamp's gradient, which those means hold. They are views of one spot by
their texture: the detail of pixels that were compared with their neighbourhood, whatever the light, and after one
thumbnail was moved, turned and stretched onto the other.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, normalize, pad

THUMBNAIL_SIZE = 24
"""Pixels a side. Finer thumbnails lose copies at half the size, coarser ones merge photographs of one weld."""

MIN_DETAIL = 1.0
"""Grey levels (standard deviation) of detail below which rounding and JPEG noise would decide: a plain picture."""

_NOISE = 2.0  # grey levels; weaker contrast of a neighbourhood is not raised to that of the others
_STEPS = 8  # of the alignment
_COARSE_STEPS = 3  # of that at half the size
_MOST_MOVED = 0.35  # of half a side, by any of the six numbers of the alignment
_LEAST_SHARED = 0.6  # of the area, after the alignment

Thumbnails = NDArray[np.uint8]
Floats = NDArray[np.float32]

# A pixel's neighbourhood, 1.5 pixels wide, as a matrix: blur = _BLUR @ picture @ _BLUR.T
_BLUR = torch.from_numpy(gaussian_filter1d(np.eye(THUMBNAIL_SIZE, dtype=np.float32), 1.5, axis=0, mode="nearest"))


def make_thumbnail(image: Image.Image) -> Thumbnails:
    """uint8 (24, 24): an image of mode L or RGB in grey, stretched to a square; window 16-bit radiographs first."""
    assert image.mode in ("L", "RGB"), image.mode
    # Bilinear with antialiasing blurs enough that a copy at half the size still looks the same.
    return np.asarray(image.convert("L").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR))


def compare(first: Thumbnails, second: Thumbnails) -> Floats:
    """How similar thumbnails (P, H, W) are in pairs, whatever their brightness and contrast: float32 (P,), -1 to 1.

    The smaller of two correlations, of the pictures and of their detail; 0 where either picture is plain.
    """
    (whole_a, detail_a), (whole_b, detail_b) = center(first), center(second)
    similarity = np.minimum(_correlate(whole_a, whole_b), _correlate(detail_a, detail_b))
    return np.where(is_plain(detail_a) | is_plain(detail_b), np.float32(0), similarity)


def compare_views(first: Thumbnails, second: Thumbnails) -> Floats:
    """How well thumbnails (P, 24, 24) match in pairs once either is moved, turned and stretched onto the other.

    float32 (P,), -1 to 1: the correlation of the textures where both show something.
    """
    return _align_both(find_texture(first), find_texture(second), _STEPS)


def center(thumbnails: Thumbnails) -> tuple[Floats, Floats]:
    """float32 (P, H, W) twice: pictures without their mean, and their detail: without that of any row or column."""
    pixels = thumbnails.astype(np.float32)
    pixels -= pixels.mean((1, 2), keepdims=True)
    return pixels, pixels - pixels.mean(1, keepdims=True) - pixels.mean(2, keepdims=True)


def _dot(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("phw,phw->p", first, second), np.float32)


def _correlate(first: Floats, second: Floats) -> Floats:
    norms = np.sqrt(_dot(first, first) * _dot(second, second))
    return np.asarray(_dot(first, second) / np.maximum(norms, 1e-3), np.float32)


def is_plain(detail: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.square(detail).mean((1, 2)) < MIN_DETAIL**2, np.bool_)


def find_texture(thumbnails: Thumbnails) -> Tensor:
    """float32 (P, 24, 24) of length one: each pixel against its neighbourhood, without the mean of row and column."""
    pixels = torch.from_numpy(thumbnails.astype(np.float32))
    texture = pixels - _BLUR @ pixels @ _BLUR.T
    texture /= (_BLUR @ texture.square() @ _BLUR.T + _NOISE**2).sqrt()
    texture -= texture.mean(1, keepdim=True)
    texture -= texture.mean(2, keepdim=True)
    return _scale(texture)


def compare_coarsely(first: Thumbnails, second: Thumbnails) -> Floats:
    """What `compare_views` finds at half the size, for a fifth of the time."""
    one, other = (avg_pool2d(find_texture(each), 2) for each in (first, second))
    return _align_both(_scale(one), _scale(other), _COARSE_STEPS)


def _align_both(one: Tensor, other: Tensor, steps: int) -> Floats:
    return torch.maximum(_align(one, other, steps), _align(other, one, steps)).numpy()


def _scale(texture: Tensor) -> Tensor:
    """Of length one."""
    return normalize(texture.flatten(1), dim=1, eps=1e-6).view_as(texture)


def _align(moved: Tensor, fixed: Tensor, steps: int) -> Tensor:
    """The best correlation (P,) of textures (P, S, S) at any step of an affine alignment.

    Source: Baker and Matthews, "Lucas-Kanade 20 years on: a unifying framework", IJCV 2004.
    """
    num_pairs, size, _ = fixed.shape
    at = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    wide = pad(fixed[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along_x, along_y = (
        size / 4 * (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]),
        size / 4 * (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]),
    )
    # What each of the six numbers of an affine map changes.
    change = torch.stack([each * by for each in (along_x, along_y) for by in (at, at[:, None], torch.ones(1))], 1)
    change = change.flatten(2)
    normal = change @ change.transpose(1, 2)
    normal += torch.diag_embed(0.01 * normal.diagonal(dim1=1, dim2=2) + 1e-6)
    solve = torch.linalg.inv(normal)
    identity = torch.eye(3)
    move = identity.repeat(num_pairs, 1, 1)
    seen, shown = moved.flatten(1), fixed.flatten(1)
    best = (seen * shown).sum(1)
    for _ in range(steps):
        step = identity.repeat(num_pairs, 1, 1)
        step[:, :2] += (
            (solve @ (change @ (shown - normalize(seen, dim=1))[..., None])).view(-1, 2, 3).clamp(-0.15, 0.15)
        )
        move = move @ step
        grid = affine_grid(move[:, :2], [num_pairs, 1, size, size], align_corners=False)
        seen = grid_sample(moved[:, None], grid, align_corners=False).flatten(1)
        is_shared = (grid.abs() < 1).all(-1).flatten(1)
        shown = fixed.flatten(1) * is_shared
        similarity = (normalize(seen * is_shared, dim=1) * normalize(shown, dim=1)).sum(1)
        is_allowed = ((move - identity).abs().amax((1, 2)) < _MOST_MOVED) & (is_shared.float().mean(1) > _LEAST_SHARED)
        best = torch.where(is_allowed, torch.maximum(best, similarity), best)
    return best
