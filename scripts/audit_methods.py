"""Which method and which threshold tell two photographs of one spot from others."""

import numpy as np
from audit_sets import Photographs, compare_numbers, list_pairs
from scipy.ndimage import gaussian_filter

from weldnet.data.duplicates import Pairs
from weldnet.data.thumbnails import Floats

THRESHOLDS = (0.50, 0.60, 0.65, 0.71, 0.74, 0.80)


def measure_thresholds(welds: Photographs, tiles: Photographs) -> list[dict[str, float]]:
    """What other thresholds of the same view would find."""
    (welded, weld_similarity), (tiled, tile_similarity) = welds.score(THRESHOLDS[0]), tiles.score(THRESHOLDS[0])
    numbers, across = compare_numbers(tiles, tiled), tiles.cross(tiled, "group")
    groups, labels = welds.cross(welded, "group"), welds.cross(welded, "label")
    return [
        {
            "threshold": least,
            "one tile": int((numbers[tile_similarity >= least] > 0).sum()),
            "two tiles": int(((numbers < 0) & across)[tile_similarity >= least].sum()),
            "welds": int((weld_similarity >= least).sum()),
            "across welds": int(groups[weld_similarity >= least].sum()),
            "two labels": int(labels[weld_similarity >= least].sum()),
        }
        for least in THRESHOLDS
    ]


def describe(photographs: Photographs) -> dict[str, list[Floats]]:
    """Each method's descriptors (N, D); two photographs are as similar as the least of the correlations."""
    pixels = photographs.thumbnails.astype(np.float32)
    texture = pixels - gaussian_filter(pixels, (0, 1.5, 1.5))
    texture /= np.sqrt(gaussian_filter(texture**2, (0, 1.5, 1.5)) + 4)
    return {
        "detail of 24 x 24 pixels, as near duplicates are found": [
            pixels - pixels.mean((1, 2), keepdims=True),
            flatten(pixels),
        ],
        "perceptual hash, 64 bits": [photographs.hashes * np.float32(2) - 1],
        "texture (each pixel against its neighbourhood)": [texture],
        "texture without the mean of rows and columns": [flatten(texture)],
    }


def flatten(pictures: Floats) -> Floats:
    """Without the mean of any row or column."""
    pictures = pictures - pictures.mean(1, keepdims=True)
    return np.asarray(pictures - pictures.mean(2, keepdims=True))


def correlate(descriptors: list[Floats], pairs: Pairs) -> Floats:
    """float32 (P,): the least correlation."""
    least = np.full(len(pairs), 1, np.float32)
    for each in descriptors:
        rows = each.reshape(len(each), -1)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        least = np.minimum(least, (rows @ rows.T)[pairs[:, 0], pairs[:, 1]])
    return least


def measure_methods(welds: Photographs, tiles: Photographs) -> dict[str, dict[str, float]]:
    """Of each method the recall of pairs of one tile where 1 % of the pairs show two, and how many pairs of welds it
    finds before the first across welds."""
    every_tile, every_weld = (list_pairs(len(each.contents)) for each in (tiles, welds))
    described = {name: (correlate(each, every_tile), every_tile) for name, each in describe(tiles).items()}
    on_welds = {name: (correlate(each, every_weld), every_weld) for name, each in describe(welds).items()}
    for scored, photographs in ((described, tiles), (on_welds, welds)):
        pairs, similarity = photographs.score(THRESHOLDS[0])
        scored["the same, of 10 candidates for each, aligned in 8 steps"] = (similarity, pairs)
    one_tile = int((compare_numbers(tiles, every_tile) > 0).sum())
    figures = {}
    for name, (similarity, pairs) in described.items():
        order = np.argsort(-similarity, kind="stable")
        numbers = compare_numbers(tiles, pairs[order])
        right = np.cumsum(numbers > 0)
        wrong = np.cumsum((numbers < 0) & tiles.cross(pairs[order], "group"))
        recall = int(right[wrong <= 0.01 * np.maximum(right + wrong, 1)].max(initial=0)) / one_tile
        weld_similarity, weld_pairs = on_welds[name]
        across = welds.cross(weld_pairs, "group")
        first = weld_similarity[across].max()
        figures[name] = {"recall of tiles": recall, "pairs of welds": int((weld_similarity > first).sum())}
    return figures
