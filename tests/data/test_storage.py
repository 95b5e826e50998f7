"""The same images, wherever they are kept."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from drawing import draw_noise, save_image

from weldnet.data.batches import EvaluationBatches, WeldImages, load_batches
from weldnet.data.cache import decode_images
from weldnet.data.decode.images import Geometry
from weldnet.data.storage import CACHES, Images, store
from weldnet.errors import InputError, MemoryShortageError
from weldnet.hardware import check_memory

SMALL = Geometry(height=12, width=6)


def keep(cache: str, tmp_path: Path) -> Images:
    names = ["ä b.png", "short.png", f"{'long' * 30}.png", "4.png"]
    paths = [str(save_image(tmp_path / name, draw_noise(20, 9, seed=i))) for i, name in enumerate(names)]
    decoded = decode_images(pl.Series(paths), SMALL, tmp_path / "cache", pixels=cache != "none")
    return store(cache, pl.DataFrame({"path": paths, "digest": decoded.digests}), decoded, SMALL)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")
def test_batches_are_alike(tmp_path: Path, cache: str, num_workers: int) -> None:
    rows, labels = np.array([3, 0, 2, 1, 3]), np.arange(5)
    images = keep(cache, tmp_path)
    dataset = WeldImages(images, rows, labels)
    batches = list(load_batches(dataset, EvaluationBatches(5, 2), num_workers=num_workers))
    expected = np.asarray(keep("disk", tmp_path).read(rows))
    assert torch.equal(torch.cat([batch[0] for batch in batches]), torch.from_numpy(expected))
    assert torch.cat([batch[1] for batch in batches]).tolist() == labels.tolist()


def test_without_a_cache_a_changed_file_is_refused(tmp_path: Path) -> None:
    images = keep("none", tmp_path)
    save_image(tmp_path / "short.png", draw_noise(20, 9, seed=99))
    assert images.read(np.array([0, 2])).shape == (2, 3, 12, 6)
    with pytest.raises(InputError, match=r"short\.png: it has changed since the run began"):
        images.read(np.array([0, 1]))
    os.remove(tmp_path / "short.png")
    with pytest.raises(InputError, match=r"short\.png: no such file"):
        images.read(np.array([1]))


def test_memory_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    1000 kB\n")
    check_memory("data.cache=memory", 900_000, "data.cache=disk", tmp_path / "meminfo")
    with pytest.raises(MemoryShortageError, match=r"needs 0\.0 GB.*take data\.cache=disk"):
        check_memory("data.cache=memory", 950_000, "data.cache=disk", tmp_path / "meminfo")
    check_memory("data.cache=memory", 2**60, "data.cache=disk", tmp_path / "no such file")
