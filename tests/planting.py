"""A set of drawn welds that is clean, and every fault that an audit knows, planted into it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from damaging import break_sum
from drawing import draw_blobs, draw_noise, draw_views, save_image
from PIL import Image

Found = set[tuple[str, str, frozenset[str]]]


HEIGHT, WIDTH = 72, 60
SPLITS = {0: "val", 1: "val", 2: "test", 3: "test"}
"""The splits of the first four seams; the others are in train."""


class Welds:
    """A folder of drawn welds with groups and splits, clean until something is planted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[tuple[str, str, str, str]] = []
        self.drawn = 0
        for seam in range(10):
            for label in ("crack", "pore"):
                for _ in range(2):
                    self.draw(label, f"seam{seam}", SPLITS.get(seam, "train"))

    def add(self, label: str, group: str, split: str, ending: str = ".png") -> Path:
        """A new row; its file is the caller's to write."""
        file = self.root / "images" / f"{len(self.rows):03}_{label}_{group}{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        self.rows.append((str(file), label, group, split))
        return file

    def draw(self, label: str, group: str, split: str, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
        """A picture like no other."""
        self.drawn += 1
        return save_image(self.add(label, group, split), draw_blobs(*size, seed=self.drawn))

    def copy(self, of: Path, label: str, group: str, split: str) -> Path:
        return Path(shutil.copy(of, self.add(label, group, split)))

    def save_again(self, of: Path, label: str, group: str, split: str) -> Path:
        """The same picture to the eye, as a different file."""
        file = self.add(label, group, split, ".jpg")
        Image.open(of).save(file, quality=80)
        return file

    def write(self) -> Path:
        file = self.root / "welds.csv"
        pl.DataFrame(self.rows, schema=["path", "label", "group", "split"], orient="row").write_csv(file)
        return file


def expect(kind: str, severity: str, *paths: Path) -> tuple[str, str, frozenset[str]]:
    return kind, severity, frozenset(map(str, paths))


def plant_files(welds: Welds) -> Found:
    empty = welds.add("crack", "seam5", "train")
    empty.touch()
    also_empty = welds.add("pore", "seam2", "test")
    also_empty.touch()
    text = welds.add("crack", "seam5", "train")
    text.write_text("not a picture")
    torn = welds.draw("pore", "seam5", "train")
    torn.write_bytes(torn.read_bytes()[:-500])
    damaged = welds.draw("pore", "seam5", "train")
    damaged.write_bytes(break_sum(damaged.read_bytes(), b"IDAT"))
    lying = welds.add("pore", "seam6", "train", ".jpg")
    Image.fromarray(draw_blobs(HEIGHT, WIDTH, seed=901)).save(lying, "PNG")
    plain = save_image(welds.add("crack", "seam6", "train"), np.full((HEIGHT, WIDTH, 3), (90, 20, 140), np.uint8))
    bright = draw_blobs(HEIGHT, WIDTH, seed=902).astype(np.int64).mean(axis=2)
    white = save_image(welds.add("crack", "seam6", "train"), (bright > np.median(bright) - 20).astype(np.uint8) * 255)
    pages = welds.add("crack", "seam7", "train", ".tif")
    first, second = (Image.fromarray(draw_blobs(HEIGHT, WIDTH, seed=seed)) for seed in (903, 904))
    first.save(pages, save_all=True, append_images=[second])
    deep = welds.add("pore", "seam7", "train")
    Image.fromarray(draw_blobs(HEIGHT, WIDTH, seed=905)[..., 0].astype(np.uint16) * 16).save(deep)
    return {
        *(expect("unreadable", "error", file) for file in (empty, also_empty, text, torn)),
        expect("damaged", "error", damaged),
        expect("wrong_extension", "warning", lying),
        expect("constant", "warning", plain),
        expect("clipped", "warning", white),
        expect("multi_page", "note", pages),
        expect("bit_depth", "note", deep),
        expect("bit_depth", "warning", deep),
    }


def plant_bad_photographs(welds: Welds) -> Found:
    """Without a blurred one: the drawn welds have no detail that it could lack."""

    def plant(kind: str, spoil: Callable[[Image.Image], Image.Image]) -> tuple[str, str, frozenset[str]]:
        file = welds.draw("pore", "seam6", "train")
        with Image.open(file) as image:
            spoilt = spoil(image)
        spoilt.save(file)
        return expect(kind, "warning", file)

    return {
        plant("dark", lambda image: image.point(lambda level: level * 0.06)),
        plant("bright", lambda image: image.point(lambda level: 255 - (255 - level) * 0.06)),
        plant("tiny", lambda image: image.resize((12, 12))),
        plant("noise", lambda image: Image.fromarray(draw_noise(image.height, image.width, 950))),
    }


def plant_copies(welds: Welds) -> Found:
    thrice, across, labels = (welds.draw("crack", "seam4", "train") for _ in range(3))
    copies = [welds.copy(thrice, "crack", "seam4", "train") for _ in range(2)]
    in_test = welds.copy(across, "crack", "seam2", "test")
    other_label = welds.copy(labels, "pore", "seam4", "train")
    return {
        expect("exact_duplicate", "warning", thrice, *copies),
        expect("exact_duplicate", "warning", across, in_test),
        expect("cross_split_duplicate", "error", across, in_test),
        expect("exact_duplicate", "warning", labels, other_label),
        expect("cross_label_duplicate", "error", labels, other_label),
    }


def plant_near_copies(welds: Welds) -> Found:
    same, group, val, test, labels = (welds.draw("pore", "seam4", "train") for _ in range(5))
    near = [
        welds.save_again(same, "pore", "seam4", "train"),
        welds.save_again(group, "pore", "seam5", "train"),
        welds.save_again(val, "pore", "seam1", "val"),
        welds.save_again(test, "pore", "seam3", "test"),
        welds.save_again(labels, "crack", "seam4", "train"),
    ]
    copy = welds.copy(test, "pore", "seam4", "train")
    return {
        expect("near_duplicate", "note", same, near[0]),
        expect("near_duplicate", "warning", group, near[1]),
        expect("near_duplicate", "warning", val, near[2]),
        expect("cross_split_duplicate", "warning", val, near[2]),
        expect("exact_duplicate", "warning", test, copy),
        expect("near_duplicate", "warning", test, copy, near[3]),
        expect("cross_split_duplicate", "error", test, copy, near[3]),
        expect("near_duplicate", "note", labels, near[4]),
        expect("cross_label_duplicate", "warning", labels, near[4]),
    }


def plant_views(welds: Welds) -> Found:
    def plant(seed: int, *where: tuple[str, str, str]) -> list[Path]:
        pictures = draw_views(HEIGHT, WIDTH, seed)
        return [save_image(welds.add(*row), picture) for row, picture in zip(where, pictures, strict=True)]

    labels = plant(1, ("pore", "seam4", "train"), ("crack", "seam4", "train"))
    groups = plant(2, ("pore", "seam4", "train"), ("pore", "seam5", "train"))
    in_val = plant(3, ("pore", "seam4", "train"), ("pore", "seam1", "val"))
    in_test = plant(4, ("pore", "seam4", "train"), ("crack", "seam3", "test"))
    return {
        expect("cross_label_view", "warning", *labels),
        expect("cross_group_view", "warning", *groups),
        expect("cross_group_view", "warning", *in_val),
        expect("cross_split_view", "warning", *in_val),
        expect("cross_group_view", "warning", *in_test),
        expect("cross_split_view", "error", *in_test),
        expect("cross_label_view", "warning", *in_test),
    }


def plant_groups_and_classes(welds: Welds) -> Found:
    leak = [welds.draw("crack", "leak", split) for split in ("train", "test")]
    known = [welds.draw("crack", "known", split) for split in ("train", "val")]
    rare = [
        welds.draw("rare", "seam5", "train"),
        welds.draw("rare", "seam6", "train"),
        welds.draw("rare", "seam3", "test"),
    ]
    unlearned = [welds.draw("strange", f"seam{seam}", SPLITS[seam]) for seam in (0, 1, 2, 2, 3)]
    # Two welds show nothing but this class, and were cropped differently.
    arcs = [welds.draw("arc", f"arc{number % 2}", "train", (50, 90)) for number in range(16)]
    for seam in (2, 3):
        welds.draw("arc", f"seam{seam}", "test", (50, 90))
    return {
        expect("group_leak", "error", *leak),
        expect("group_leak", "warning", *known),
        expect("small_class", "warning", *rare),
        expect("small_class", "error", *unlearned),
        expect("class_group_confounded", "warning", *arcs),
    }
