"""What the audit finds: on real photographs whose welds are known, beside a perceptual hash, and of planted faults."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from audit_methods import measure_methods, measure_thresholds
from audit_plants import DRAWS, FAULTS, measure_faults, measure_views
from audit_sets import Photographs, compare_numbers, find_hashed, list_pairs
from benchmark_common import Options
from rich.table import Table

from weldnet.audit.audit import audit
from weldnet.audit.copies import check_alike
from weldnet.console import print_table
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.settings import ImageSettings
from weldnet.data.sources.found import Found
from weldnet.data.sources.manifest import read_manifest, write_manifest
from weldnet.data.sources.source import Manifest
from weldnet.errors import InputError
from weldnet.synthetic.drawn_set import write_synthetic


def measure_splits(welds: Photographs, folder: Path) -> list[dict[str, Any]]:
    """Split at random without groups: the test images that the hash finds again in train or val, how many of them the
    audit names, how many in all; and what training says."""
    write_manifest(welds.samples.with_columns(group=pl.lit(None, pl.String)), folder / "bare.csv")
    paths, hashed = welds.contents["path"], find_hashed(welds.hashes)
    hashed = np.concatenate([hashed, hashed[:, ::-1]])
    rows = []
    for seed in DRAWS:
        source = Manifest(manifest=str(folder / "bare.csv"), group_by="per_image")
        data = WeldDataModule(source, image_settings=ImageSettings(cache_dir=str(folder)), seed=seed)
        split = data.split().select("path", "split", "group")
        files = welds.audit.images.drop("split", "group").join(split, on="path", maintain_order="left")
        tested = set(files.filter(split="test")["path"])
        is_tested = paths.is_in(list(tested)).to_numpy()
        twins = set(paths.gather(np.unique(hashed[is_tested[hashed[:, 0]] & ~is_tested[hashed[:, 1]], 0])))
        crossing = [found for found in check_alike(files, welds.audit.alike) if found.kind.startswith("cross_split")]
        named = tested.intersection(*[set().union(*(found.paths for found in crossing))])
        try:
            data.setup()
            answer = "takes them"
        except InputError as error:
            answer = f"refuses: {str(error).splitlines()[1].split(':')[0].strip()}"
        rows.append(
            {
                "tested": len(tested),
                "hashed": len(twins),
                "hashed_named": len(twins & named),
                "named": len(named),
                "training": answer,
            }
        )
    return rows


def measure_labels(welds: Photographs) -> dict[str, dict[str, int]]:
    """By weld: the pairs under two labels that the audit finds, that the hash does, and that both do."""
    groups = welds.contents["group"].to_numpy()
    found, hashed = (
        {tuple(sorted(pair)) for pair in pairs[welds.cross(pairs, "label") & ~welds.cross(pairs, "group")].tolist()}
        for pairs in (welds.pairs, find_hashed(welds.hashes))
    )
    sets = {"audit": found, "hash": hashed, "both": found & hashed}
    return {
        group: {name: sum(groups[pair[0]] == group for pair in pairs) for name, pairs in sets.items()}
        for group in sorted(set(groups))
    }


def measure_tiles(tiles: Photographs) -> dict[str, dict[str, int]]:
    """Pairs, and those found, by whether the numbers say that they show one tile, and whether the groups do."""
    every = list_pairs(len(tiles.contents))
    figures = {}
    for name, pairs in (("pairs", every), ("found", tiles.pairs)):
        numbers, across = compare_numbers(tiles, pairs), tiles.cross(pairs, "group")
        figures[name] = {
            f"{said}, {'two groups' if apart else 'one group'}": int(((numbers == value) & (across == apart)).sum())
            for value, said in ((1, "one tile"), (0, "in between"), (-1, "two tiles"))
            for apart in (False, True)
        }
    return figures


def run(options: Options) -> dict[str, Any]:
    """All figures of the audit but the time of 100,000 photographs (`scale`) and wrong labels (`labels`)."""
    if not (options.manifest and options.tiles):
        raise InputError("audit needs manifest=FILE, of welds, and tiles=FILE, of magnetic tiles")
    welds, tiles = Photographs(options.manifest), Photographs(options.tiles)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = audit(Found(read_manifest(write_synthetic(folder / "drawn", num_images=1500, num_seams=50, seed=0))))
        return {
            "splits": measure_splits(welds, folder),
            "welds": {
                "pairs": len(welds.pairs),
                "across_welds": int(welds.cross(welds.pairs, "group").sum()),
                "seconds": welds.seconds,
            },
            "labels": measure_labels(welds),
            "tiles": measure_tiles(tiles),
            "thresholds": measure_thresholds(welds, tiles),
            "methods": measure_methods(welds, tiles),
            "views": {"welds": measure_views(welds.contents["path"]), "tiles": measure_views(tiles.contents["path"])},
            "faults": measure_faults(welds.samples, folder),
            "without_faults": {
                "welds": welds.count(tuple(FAULTS)),
                "tiles": tiles.count(tuple(FAULTS)),
                "drawn": len(drawn.findings),
            },
        }


def show(figures: dict[str, Any]) -> None:
    """The figures as tables."""
    flat = {"views": transpose(figures["views"]), "tiles": transpose(figures["tiles"])}
    for title, rows in (figures | flat).items():
        if isinstance(rows, (str, int)):
            continue
        named = rows if isinstance(rows, dict) else dict(enumerate(rows))
        table = Table(title=title, title_justify="left")
        for row, (name, cells) in enumerate(named.items()):
            cells = cells if isinstance(cells, dict) else {"": cells}
            if not row:
                for column in ("", *cells):
                    table.add_column(str(column), overflow="fold")
            table.add_row(
                str(name), *(f"{each:.3g}" if isinstance(each, float) else str(each) for each in cells.values())
            )
        print_table(table)


def transpose(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row: {column: cells[row] for column, cells in table.items()} for row in next(iter(table.values()))}
