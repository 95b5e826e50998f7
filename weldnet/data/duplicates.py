"""Finds photographs that show the same thing: one picture saved again, or one spot of a weld photographed again.

Each photograph becomes a thumbnail. Two thumbnails are nearly identical by their detail: what is left without the mean
of every row and column, since two different welds share the bead's profile and the lamp's gradient, which those means
hold. They are views of one spot by their texture: the detail of pixels that were compared with their neighbourhood,
whatever the light, and after one thumbnail was moved, turned and stretched onto the other.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, normalize, pad

from weldnet.hardware import available_cores

THUMBNAIL_SIZE = 24
"""Pixels a side. Finer thumbnails lose copies at half the size, coarser ones merge photographs of one weld."""

MIN_SIMILARITY = 0.95
"""Of nearly identical pictures. On 1,885 real crops copies at half the size reach 0.954."""

MIN_VIEW_SIMILARITY = 0.71
"""Of the same view. The figures behind it are in docs/benchmarks.md."""

MIN_DETAIL = 1.0
"""Grey levels (standard deviation) of detail below which rounding and JPEG noise would decide: a plain picture."""

MIN_RICHNESS = 12.0
"""Frequencies that a texture is made of, below which it could be stretched onto a different one: a few soft spots.
Soft spots drawn at random have 2 to 10, real crops of welds 22 or more, 99 of 100 photographs of ground tiles 14."""

_NEIGHBOURS = 10  # candidates for each picture
_MIN_COSINE = 0.2  # of a candidate's coarse texture
_MOST_AT_ONCE = 2**17  # pictures of which each is compared with all others
_LIST_SIZE = 2**15  # pictures that are compared with one another, where there are more
_NUM_LISTS = 3  # in which each picture then is
_BLOCK = 256  # pictures or pairs that fit in a core's cache: twice as fast as thousands
_NOISE = 2.0  # grey levels; weaker contrast of a neighbourhood is not raised to that of the others
_STEPS = 8  # of the alignment
_COARSE_STEPS = 3  # of that at half the size, after which 1 view of 1,000 real ones is below:
_HOPELESS = 0.4
_MOST_MOVED = 0.35  # of half a side, by any of the six numbers of the alignment
_LEAST_SHARED = 0.6  # of the area, after the alignment

Pairs = NDArray[np.int64]
Thumbnails = NDArray[np.uint8]
Floats = NDArray[np.float32]
T = TypeVar("T")

# A pixel's neighbourhood, 1.5 pixels wide, as a matrix: blur = _BLUR @ picture @ _BLUR.T
_BLUR = torch.from_numpy(gaussian_filter1d(np.eye(THUMBNAIL_SIZE, dtype=np.float32), 1.5, axis=0, mode="nearest"))


class Alike(NamedTuple):
    """Pairs of rows i < j, int64 (P, 2), sorted, each pair once, in one of the two.

    Attributes:
        near: nearly identical pictures.
        views: other pictures of one spot.
    """

    near: Pairs
    views: Pairs


def make_thumbnail(image: Image.Image) -> Thumbnails:
    """uint8 (24, 24): `image` in grey, stretched to a square.

    Args:
        image: mode L or RGB; window 16-bit radiographs first.
    """
    assert image.mode in ("L", "RGB"), image.mode
    # Bilinear with antialiasing blurs enough that a copy at half the size still looks the same.
    return np.asarray(image.convert("L").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR))


def compare(first: Thumbnails, second: Thumbnails) -> Floats:
    """How similar thumbnails (P, H, W) are in pairs, whatever their brightness and contrast.

    Returns:
        float32 (P,), -1 to 1: the smaller of two correlations, of the pictures and of their detail; 0 where either
        picture is plain.
    """
    (whole_a, detail_a), (whole_b, detail_b) = _center(first), _center(second)
    similarity = np.minimum(_correlate(whole_a, whole_b), _correlate(detail_a, detail_b))
    return np.where(_is_plain(detail_a) | _is_plain(detail_b), np.float32(0), similarity)


def compare_views(first: Thumbnails, second: Thumbnails) -> Floats:
    """How well thumbnails (P, 24, 24) match in pairs once either is moved, turned and stretched onto the other.

    Returns:
        float32 (P,), -1 to 1: the correlation of the textures where both show something.
    """
    return _align_both(_find_texture(first), _find_texture(second), _STEPS)


def find_alike(thumbnails: Thumbnails) -> Alike:
    """Pairs of nearly identical pictures and of the same view; 100,000 thumbnails take minutes, memory is linear.

    Each picture is compared with the 10 whose coarse texture is most similar, so that of many views of one spot not
    every pair is listed. Equal thumbnails are paired with the first of them alone. Beyond 131,072 pictures each is
    compared with those that resemble the same 3 of some pictures drawn at random, which misses pairs. Not found: what
    was mirrored, turned by more than some 5 degrees, cropped by more than some 12 % of a side or covered in part, and
    plain pictures; of views also those of a few soft spots alone.

    Args:
        thumbnails: uint8 (N, 24, 24) of `make_thumbnail`; may be memory-mapped.
    """
    threads = torch.get_num_threads()
    # Many small blocks, one on each core, rather than all cores on one, which wait for one another.
    torch.set_num_threads(1)
    try:
        rows, copies = _split_copies(thumbnails)
        coarse, is_rich = _describe(thumbnails, rows)
        candidates = _find_candidates(coarse)
        pairs = rows[candidates]
        is_near = _measure(compare, thumbnails, pairs) >= MIN_SIMILARITY
        near = np.concatenate([copies, pairs[is_near]])
        rest = pairs[~is_near & is_rich[candidates].all(axis=1)]
        rest = rest[_measure(_compare_coarsely, thumbnails, rest) >= _HOPELESS]
        views = rest[_measure(compare_views, thumbnails, rest) >= MIN_VIEW_SIMILARITY]
    finally:
        torch.set_num_threads(threads)
    return Alike(np.unique(near, axis=0), np.unique(views, axis=0))


def connect(pairs: Pairs, num_nodes: int) -> NDArray[np.int64]:
    """int64 (num_nodes,): the number of the connected component of every node, from 0; `pairs` are the edges."""
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(num_nodes, num_nodes))
    labels: NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels


def _iterate_blocks(total: int, size: int = _BLOCK) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))


def _center(thumbnails: Thumbnails) -> tuple[Floats, Floats]:
    """float32 (P, H, W) twice: pictures without their mean, and their detail: without that of any row or column."""
    pixels = thumbnails.astype(np.float32)
    pixels -= pixels.mean((1, 2), keepdims=True)
    return pixels, pixels - pixels.mean(1, keepdims=True) - pixels.mean(2, keepdims=True)


def _dot(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("phw,phw->p", first, second), np.float32)


def _correlate(first: Floats, second: Floats) -> Floats:
    norms = np.sqrt(_dot(first, first) * _dot(second, second))
    return np.asarray(_dot(first, second) / np.maximum(norms, 1e-3), np.float32)


def _is_plain(detail: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.square(detail).mean((1, 2)) < MIN_DETAIL**2, np.bool_)


def _split_copies(thumbnails: Thumbnails) -> tuple[NDArray[np.int64], Pairs]:
    """Of the pictures that are not plain, the first of every set of equal ones, and the pairs (first, other one)."""
    plain = np.empty(len(thumbnails), bool)
    for block in _iterate_blocks(len(thumbnails)):
        plain[block] = _is_plain(_center(thumbnails[block])[1])
    rows = np.flatnonzero(~plain)
    keys = np.array([hash(thumbnails[row].tobytes()) for row in rows], np.int64)
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([rows[firsts[inverse]], rows], 1)
    return rows[np.sort(firsts)], pairs[pairs[:, 0] < pairs[:, 1]]


def _find_texture(thumbnails: Thumbnails) -> Tensor:
    """float32 (P, 24, 24) of length one: each pixel against its neighbourhood, without the mean of row and column."""
    pixels = torch.from_numpy(thumbnails.astype(np.float32))
    texture = pixels - _BLUR @ pixels @ _BLUR.T
    texture /= (_BLUR @ texture.square() @ _BLUR.T + _NOISE**2).sqrt()
    texture -= texture.mean(1, keepdim=True)
    texture -= texture.mean(2, keepdim=True)
    return _scale(texture)


def _describe(thumbnails: Thumbnails, rows: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
    """The 8 x 8 lowest frequencies of the textures, float32 (len(rows), 64) of length one; and which are rich."""
    coarse, is_rich = torch.empty(len(rows), 64), np.empty(len(rows), bool)
    for block in _iterate_blocks(len(rows)):
        spectrum = torch.from_numpy(dctn(_find_texture(thumbnails[rows[block]]).numpy(), axes=(1, 2), norm="ortho"))
        coarse[block] = normalize(spectrum[:, :8, :8].flatten(1), dim=1, eps=1e-6)
        # The inverse of the sum of the squared shares: n equal frequencies count n.
        is_rich[block] = (1 / spectrum.pow(4).sum((1, 2)) >= MIN_RICHNESS).numpy()
    return coarse, is_rich


def _find_candidates(coarse: Tensor) -> Pairs:
    """Each picture with the most similar ones of its lists: int64 (P, 2) of i < j, each pair once."""
    found = [np.empty((0, 2), np.int64)]
    for members in _split_lists(coarse):
        search = partial(_find_nearest, coarse[members], members)
        found += _map_blocks(search, len(members), min(_BLOCK, 1 + 2**23 // max(1, len(members))))
    return np.unique(np.concatenate(found), axis=0)


def _find_nearest(listed: Tensor, members: Tensor, block: slice) -> Pairs:
    # Beside itself, which is the most similar one.
    cosine, nearest = (listed[block] @ listed.T).topk(min(_NEIGHBOURS + 1, len(listed)))
    row, column = (cosine >= _MIN_COSINE).nonzero(as_tuple=True)
    pairs = torch.stack([members[block][row], members[nearest[row, column]]], 1).sort(dim=1).values.numpy()
    return np.asarray(pairs[pairs[:, 0] < pairs[:, 1]], np.int64)


def _split_lists(coarse: Tensor) -> Iterator[Tensor]:
    """The rows of the pictures that are compared with one another: all, or lists of similar ones."""
    if len(coarse) <= _MOST_AT_ONCE:
        yield torch.arange(len(coarse))
        return
    number = -(-_NUM_LISTS * len(coarse) // _LIST_SIZE)
    drawn = torch.from_numpy(np.random.default_rng(0).choice(len(coarse), number, replace=False))
    blocks = _iterate_blocks(len(coarse))
    nearest = torch.cat([(coarse[block] @ coarse[drawn].T).topk(_NUM_LISTS).indices for block in blocks])
    for number_of_list in range(number):
        yield (nearest == number_of_list).any(1).nonzero().flatten()


def _measure(
    similarity: Callable[[Thumbnails, Thumbnails], Floats], thumbnails: Thumbnails, pairs: Pairs
) -> NDArray[np.float32]:
    def measure(block: slice) -> Floats:
        return similarity(thumbnails[pairs[block, 0]], thumbnails[pairs[block, 1]])

    return np.concatenate([np.empty(0, np.float32), *_map_blocks(measure, len(pairs))])


def _map_blocks(function: Callable[[slice], T], total: int, size: int = _BLOCK) -> list[T]:
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(function, _iterate_blocks(total, size)))


def _compare_coarsely(first: Thumbnails, second: Thumbnails) -> Floats:
    """What `compare_views` finds at half the size, for a fifth of the time."""
    one, other = (avg_pool2d(_find_texture(each), 2) for each in (first, second))
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
