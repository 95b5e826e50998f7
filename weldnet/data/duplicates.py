"""Finds photographs that show the same view twice: saved again, resized, brightened, a little cropped.

Each photograph becomes a thumbnail, each thumbnail a hash; thumbnails with similar hashes are compared by pixels. What
counts is the detail of a picture: what is left without the mean of every row and column. Two different welds share
the bead's profile and the lamp's gradient, which those means hold.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

THUMBNAIL_SIZE = 24
"""Pixels a side. Finer thumbnails lose copies at half the size, coarser ones merge photographs of one weld."""

MIN_SIMILARITY = 0.95
"""Measured on 1,885 real crops: copies at half the size reach 0.954, different views of one weld stay below 0.94."""

MIN_DETAIL = 1.0
"""Grey levels (standard deviation) of detail below which rounding and JPEG noise would decide: a plain picture."""

MAX_DISTANCE = 6
"""Bits of 64. On real crops no copy but a cropped one changed more than 5."""

_COARSE_SIMILARITY = 0.93  # a cheap test before the thumbnails; of the copies that pass those, none was below 0.96
_MAX_BUCKET = 256  # hashes that agree in one key and are still compared pair by pair
_NEIGHBOURS = 8  # in a crowd
_WINDOW = 40_000  # pictures of a crowd that are searched at once
_BLOCK = 256  # thumbnails that fit in a core's cache: twice as fast as thousands

Pairs = NDArray[np.int64]
Thumbnails = NDArray[np.uint8]
Floats = NDArray[np.float32]


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


def find_duplicates(thumbnails: Thumbnails) -> Pairs:
    """Pairs of near-duplicates; a million thumbnails take about a minute.

    Always found: equal thumbnails (the first with each of the others), and every similar pair whose outlines agree
    and whose hashes differ in at most 6 bits, unless both are in one crowd (`iterate_near_pairs`). There each picture
    is compared with its 8 nearest, so that of many copies not every pair is listed, and not all may be connected; a
    crowd of over 40,000 is searched in overlapping slices along its main direction. Not found: copies that were
    mirrored, turned, covered in part or cropped by more than about 1 % of a side, and copies of plain pictures.

    Args:
        thumbnails: uint8 (N, 24, 24) of `make_thumbnail`; may be memory-mapped.

    Returns:
        int64 (P, 2): rows i < j, sorted, each pair once.
    """
    rows, copies = _split_copies(thumbnails)
    coarse = _describe(thumbnails, rows)
    crowds = np.arange(len(rows))
    found = [_keep_similar(pairs, coarse) for pairs in iterate_near_pairs(_hash(coarse), crowds)]
    for number in np.flatnonzero(np.bincount(crowds) > 1):
        crowd = np.flatnonzero(crowds == number)
        found += [_keep_similar(pairs, coarse) for pairs in _iterate_neighbours(coarse, crowd)]
    pairs = np.unique(np.concatenate([copies, *(rows[pairs] for pairs in found)]), axis=0)
    similar = np.empty(len(pairs), bool)
    for block in _iterate_blocks(len(pairs), _BLOCK):
        similar[block] = compare(thumbnails[pairs[block, 0]], thumbnails[pairs[block, 1]]) >= MIN_SIMILARITY
    return pairs[similar]


def connect(pairs: Pairs, num_nodes: int) -> NDArray[np.int64]:
    """int64 (num_nodes,): the number of the connected component of every node, from 0; `pairs` are the edges."""
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(num_nodes, num_nodes))
    labels: NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels


def _iterate_blocks(total: int, size: int) -> Iterator[slice]:
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
    for block in _iterate_blocks(len(thumbnails), _BLOCK):
        plain[block] = _is_plain(_center(thumbnails[block])[1])
    rows = np.flatnonzero(~plain)
    keys = np.array([hash(thumbnails[row].tobytes()) for row in rows], np.int64)
    _, firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([rows[firsts[inverse]], rows], 1)
    return rows[np.sort(firsts)], pairs[pairs[:, 0] < pairs[:, 1]]


def _describe(thumbnails: Thumbnails, rows: NDArray[np.int64]) -> Floats:
    """float32 (len(rows), 64), of length one: the 8 x 8 lowest frequencies of the detail."""
    coarse = np.empty((len(rows), 64), np.float32)
    for block in _iterate_blocks(len(rows), _BLOCK):
        spectrum = dctn(thumbnails[rows[block]].astype(np.float32), axes=(1, 2))[:, 1:9, 1:9].reshape(-1, 64)
        coarse[block] = spectrum / np.maximum(np.linalg.norm(spectrum, axis=1, keepdims=True), 1e-6)
    return coarse


def _hash(coarse: Floats) -> NDArray[np.uint64]:
    """uint64 (N,): on which side of 64 fixed hyperplanes a picture lies, so distance in bits follows the angle.

    One sign a frequency, as in pHash, is noise where a smooth picture lacks the frequency: half its copies were lost.

    Source: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
    """
    planes = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0].astype(np.float32)
    return np.packbits(coarse @ planes > 0, axis=1).view(np.uint64).ravel()


def _make_keys(max_distance: int) -> Iterator[tuple[np.uint64, list[np.uint64]]]:
    """For every choice of three chunks, the bits that must agree, and the chunks before the third that were skipped."""
    bounds = np.linspace(0, 64, max_distance + 4).astype(int).tolist()
    chunks = [(1 << end) - (1 << start) for start, end in pairwise(bounds)]
    for chosen in combinations(range(len(chunks)), 3):
        passed = set(range(chosen[2])) - set(chosen)
        yield np.uint64(sum(chunks[number] for number in chosen)), [np.uint64(chunks[number]) for number in passed]


def iterate_near_pairs(
    hashes: NDArray[np.uint64], crowds: NDArray[np.int64], max_distance: int = MAX_DISTANCE
) -> Iterator[Pairs]:
    """Pairs of hashes that differ in few bits, in about N log N time.

    The bits are cut into max_distance + 3 chunks. Two hashes within the distance agree in at least three of them, so
    one sort for every choice of three chunks brings them side by side (multi-index hashing: Norouzi, Punjani and Fleet,
    CVPR 2012). Hashes that share such a key with more than 255 others are a crowd, whose pairs are not listed.

    Args:
        hashes: uint64 (N,).
        crowds: int64 (N,), a number for each hash; those of a crowd become equal.
        max_distance: bits, 0 to 8; the number of sorts grows with its third power.

    Yields:
        int64 (P, 2) of i < j. Every pair within the distance is listed once or shares a crowd.
    """
    for mask, passed in _make_keys(max_distance):
        order = np.argsort(hashes & mask, kind="stable")
        keys = hashes[order] & mask
        _, starts, counts = np.unique(keys, return_index=True, return_counts=True)
        crowded = np.repeat(counts > _MAX_BUCKET, counts)
        if crowded.any():
            heads = order[np.repeat(starts, counts)[crowded]]
            crowds[:] = connect(crowds[np.stack([order[crowded], heads], 1)], len(crowds))[crowds]
        for pairs in _iterate_runs(keys, ~crowded):
            pairs = np.sort(order[pairs], axis=1)
            differing = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
            wanted = np.bitwise_count(differing) <= max_distance
            for chunk in passed:  # a pair is listed by the first three chunks that agree, and by no others
                wanted &= (differing & chunk) != 0
            yield pairs[wanted]


def _iterate_runs(keys: NDArray[np.uint64], wanted: NDArray[np.bool_]) -> Iterator[Pairs]:
    """Positions of two equal keys, both `wanted`, in sorted keys: first the neighbours, then those two apart, ..."""
    left, step = np.flatnonzero(wanted), 1
    while len(left):
        left = left[left + step < len(keys)]
        left = left[keys[left] == keys[left + step]]
        yield np.stack([left, left + step], 1)
        step += 1


def _iterate_neighbours(coarse: Floats, crowd: NDArray[np.int64]) -> Iterator[Pairs]:
    """Pairs each of a crowd with the most similar of it, in overlapping slices of bounded size."""
    sample = coarse[crowd[:: 1 + len(crowd) // _WINDOW]]
    direction = np.linalg.svd(np.cov(sample.T))[0][:, 0]
    crowd = crowd[np.argsort(coarse[crowd] @ direction, kind="stable")]
    for start in range(0, max(1, len(crowd) - _WINDOW // 2), _WINDOW // 2):
        window = crowd[start : start + _WINDOW]
        search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(window) - 1), algorithm="brute")
        nearest = search.fit(coarse[window]).kneighbors(return_distance=False)
        yield np.sort(np.stack([np.repeat(window, nearest.shape[1]), window[nearest.ravel()]], 1), axis=1)


def _keep_similar(pairs: Pairs, coarse: Floats) -> Pairs:
    cosine = np.empty(len(pairs), np.float32)
    for block in _iterate_blocks(len(pairs), 64 * _BLOCK):
        cosine[block] = np.einsum("pk,pk->p", coarse[pairs[block, 0]], coarse[pairs[block, 1]])
    return pairs[cosine >= _COARSE_SIMILARITY]
