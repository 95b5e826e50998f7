"""The drawn data set: repeatable, honest boxes, whole or absent, and no toy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from weldnet.errors import InputError
from weldnet.synthetic import drawn_set as synthetic
from weldnet.synthetic.defects import DEFECTS
from weldnet.synthetic.drawing import draw_weld
from weldnet.synthetic.drawn_set import CLASSES, MANIFEST_SCHEMA, write_synthetic
from weldnet.synthetic.surface import HEIGHT, WIDTH, Seam


def read_bytes(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "welds"
    write_synthetic(root, num_images=40, num_seams=3, seed=3)
    return root


@pytest.fixture(scope="module")
def manifest(root: Path) -> pl.DataFrame:
    return pl.read_csv(root / "manifest.csv", schema=MANIFEST_SCHEMA)


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", num_images=40, num_seams=3, seed=3)
    assert read_bytes(tmp_path / "again") == read_bytes(root)


def test_other_seed_other_images(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "other", num_images=40, num_seams=3, seed=4)
    here, there = read_bytes(root), read_bytes(tmp_path / "other")
    assert here.keys() == there.keys()
    assert all(here[path] != there[path] for path in here)


def test_manifest_lists_every_file_once(root: Path, manifest: pl.DataFrame) -> None:
    assert manifest.columns == list(MANIFEST_SCHEMA)
    files = {path for path in read_bytes(root) if path.endswith(".jpg")}
    assert set(manifest["path"]) == files
    assert manifest.height == len(files) == 40
    for path, label, group, *_ in manifest.iter_rows():
        assert path.startswith(f"images/{label}/{group}_")


def test_images_have_one_size(root: Path) -> None:
    assert {read_pixels(path).shape for path in root.rglob("*.jpg")} == {(HEIGHT, WIDTH, 3)}


def test_every_seam_shows_every_class(manifest: pl.DataFrame) -> None:
    counts = manifest.group_by("group", "label").len()
    assert counts.height == 3 * len(CLASSES)
    assert counts["len"].max() - counts["len"].min() <= 1  # type: ignore[operator]


def test_only_a_defect_has_a_box(manifest: pl.DataFrame) -> None:
    boxes = manifest.select("^box_.*$")
    sound = manifest["label"] == "no_defect"
    assert boxes.filter(sound).null_count().row(0) == (sound.sum(),) * 4
    assert boxes.filter(~sound).null_count().row(0) == (0,) * 4
    for left, top, right, bottom in boxes.filter(~sound).iter_rows():
        assert 0 <= left < right <= WIDTH
        assert 0 <= top < bottom <= HEIGHT


@pytest.mark.parametrize("label", list(DEFECTS))
def test_box_encloses_all_that_the_defect_changes(label: str) -> None:
    for index in range(12):
        seam = Seam(np.random.default_rng(index))
        weld, sound = draw_weld(seam, label, [1, index]), draw_weld(seam, "no_defect", [1, index])
        difference = np.abs(weld.pixels.astype(int) - sound.pixels).max(axis=2)
        assert weld.box is not None
        assert sound.box is None
        left, top, right, bottom = weld.box
        assert difference.max() > 25, "the defect must be visible"
        rows, cols = np.nonzero(difference > 4)
        slack = (cols.min() - left, rows.min() - top, right - 1 - cols.max(), bottom - 1 - rows.max())
        assert min(slack) >= 0, "nothing outside the box may change"
        assert max(slack) <= 12, "the box must be tight"


def test_second_call_touches_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr(synthetic, "draw_weld", None)
    assert write_synthetic(root, num_images=40, num_seams=3, seed=3) == root / "manifest.csv"
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_half_written_folder_is_no_data_set(tmp_path: Path) -> None:
    half = tmp_path / ".welds.0123abcd.partial"
    (half / "images").mkdir(parents=True)
    manifest = write_synthetic(tmp_path / "welds", num_images=6, num_seams=1, seed=0)
    assert pl.read_csv(manifest).height == 6


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "draw_weld", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "welds", num_images=6, num_seams=1, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_slower_of_two_runs_keeps_the_faster_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace: Callable[..., None] = Path.replace

    def lose_the_race(source: Path, target: Path) -> None:
        monkeypatch.setattr(Path, "replace", replace)
        write_synthetic(target, num_images=6, num_seams=1, seed=1)
        replace(source, target)

    monkeypatch.setattr(Path, "replace", lose_the_race)
    write_synthetic(tmp_path / "welds", num_images=6, num_seams=1, seed=2)
    write_synthetic(tmp_path / "first", num_images=6, num_seams=1, seed=1)
    assert read_bytes(tmp_path / "welds") == read_bytes(tmp_path / "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "welds"]


def test_too_few_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Use at least num_images=60"):
        write_synthetic(tmp_path / "welds", num_images=59, num_seams=10, seed=0)
    with pytest.raises(InputError, match="num_seams=0"):
        write_synthetic(tmp_path / "welds", num_images=59, num_seams=0, seed=0)


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"no manifest\.csv"):
        write_synthetic(tmp_path, num_images=6, num_seams=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def shrink(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """A grey thumbnail, 32 high and 8 wide."""
    blocks = image.reshape(32, HEIGHT // 32, 8, WIDTH // 8, 3)
    thumbnail: npt.NDArray[np.float64] = blocks.mean(axis=(1, 3, 4))
    return thumbnail


def score_on_unseen_seams(features: npt.NDArray[np.float64], manifest: pl.DataFrame, strength: float) -> float:
    """Mean test accuracy of a logistic regression over three splits by seam."""
    groups, labels = manifest["group"].to_numpy(), manifest["label"].to_numpy()
    scores = []
    for seed in range(3):
        seams = np.random.default_rng(seed).permutation(np.unique(groups))
        train, test = np.isin(groups, seams[: len(seams) * 3 // 5]), np.isin(groups, seams[len(seams) * 4 // 5 :])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=3000))
        scores.append(model.fit(features[train], labels[train]).score(features[test], labels[test]))
    return float(np.mean(scores))


@pytest.mark.slow
def test_a_linear_model_cannot_solve_it(tmp_path: Path) -> None:
    """Guards against a toy: neither thumbnails nor colour and size may give the class away."""
    table = pl.read_csv(
        write_synthetic(tmp_path / "welds", num_images=600, num_seams=50, seed=0), schema=MANIFEST_SCHEMA
    )
    images = [read_pixels(tmp_path / "welds" / path) for path in table["path"]]
    thumbnails = np.stack([shrink(image).ravel() for image in images])
    summaries = np.stack([[*image.mean(axis=(0, 1)), *image.shape[:2]] for image in images])
    assert score_on_unseen_seams(thumbnails, table, strength=0.1) < 0.5
    assert score_on_unseen_seams(summaries, table, strength=1.0) < 0.3
