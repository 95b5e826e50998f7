"""Finds photographs that show the same thing: one picture saved again, or one spot of a weld photographed again."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import normalize

from weldnet.data.thumbnails import (
    Floats,
    Thumbnails,
    center,
    compare,
    compare_coarsely,
    compare_views,
    find_texture,
    is_plain,
)
from weldnet.hardware import available_cores

MIN_SIMILARITY = 0.95
"""Of nearly identical pictures. On 1,885 real crops copies at half the size reach 0.954."""

MIN_VIEW_SIMILARITY = 0.71
"""Of the same view. The figures behind it are in docs/benchmarks.md."""

MIN_RICHNESS = 12.0
"""Frequencies that a texture is made of, below which it could be stretched onto a different one: a few soft spots.
Soft spots drawn at random have 2 to 10, real crops of welds 22 or more, 99 of 100 photographs of ground tiles 14."""

_NEIGHBOURS = 10  # candidates for each picture
_MIN_COSINE = 0.2  # of a candidate's coarse texture
_MOST_AT_ONCE = 2**17  # pictures of which each is compared with all others
_LIST_SIZE = 2**15  # pictures that are compared with one another, where there are more
_NUM_LISTS = 3  # in which each picture then is
_BLOCK = 256  # pictures or pairs that fit in a core's cache: twice as fast as thousands
_HOPELESS = 0.4  # similarity at half the size, which 1 view of 1,000 real ones does not reach

Pairs = NDArray[np.int64]
T = TypeVar("T")


class Alike(NamedTuple):
    """Pairs of rows i < j, int64 (P, 2), sorted: nearly identical pictures, and other views of one spot."""

    near: Pairs
    views: Pairs


def find_alike(thumbnails: Thumbnails) -> Alike:
    """Pairs of nearly identical pictures and of the same view; 100,000 thumbnails take minutes, memory is linear.

    Each picture is compared with the 10 whose coarse texture is most similar, so that of many views of one spot not
    every pair is listed. Equal thumbnails are paired with the first of them alone. Beyond 131,072 pictures each is
    compared with those that resemble the same 3 of some pictures drawn at random, which misses pairs. Not found: what
    was mirrored, turned by more than some 5 degrees, cropped by more than some 12 % of a side or covered in part, and
    plain pictures; of views also those of a few soft spots alone. Thumbnails are uint8 (N, 24, 24) of `make_thumbnail`.
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
        rest = rest[_measure(compare_coarsely, thumbnails, rest) >= _HOPELESS]
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


def _split_copies(thumbnails: Thumbnails) -> tuple[NDArray[np.int64], Pairs]:
    """Of the pictures that are not plain, the first of every set of equal ones, and the pairs (first, other one)."""
    plain = np.empty(len(thumbnails), bool)
    for block in _iterate_blocks(len(thumbnails)):
        plain[block] = is_plain(center(thumbnails[block])[1])
    rows = np.flatnonzero(~plain)
    keys = np.array([hash(thumbnails[row].tobytes()) for row in rows], np.int64)
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([rows[firsts[inverse]], rows], 1)
    return rows[np.sort(firsts)], pairs[pairs[:, 0] < pairs[:, 1]]


def _describe(thumbnails: Thumbnails, rows: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
    """The 8 x 8 lowest frequencies of the textures, float32 (len(rows), 64) of length one; and which are rich."""
    coarse, is_rich = torch.empty(len(rows), 64), np.empty(len(rows), bool)
    for block in _iterate_blocks(len(rows)):
        spectrum = torch.from_numpy(dctn(find_texture(thumbnails[rows[block]]).numpy(), axes=(1, 2), norm="ortho"))
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
