"""Pictures of heatmaps: what is in them, where they are written, what is left when something stops."""

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from decoding import read_image
from drawing import draw_blobs, draw_noise, save_image
from pages import check_accessible
from PIL import Image
from torch import nn
from untrained import save_untrained

from weldnet.data.decode.images import Geometry
from weldnet.errors import InputError
from weldnet.explain import attribution as explanation
from weldnet.explain.attribution import METHODS, draw_overlay, explain_images
from weldnet.explain.overlay import MARGIN_PX, draw_picture
from weldnet.explain.settings import HeatmapSettings
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.predictor import Predictor
from weldnet.inference.torch_engine import TorchEngine
from weldnet.report import explained as explaining
from weldnet.report.explained import CAPTION, explain_files
from weldnet.serve.heatmaps import Explainer
from weldnet.serve.limits import Limits
from weldnet.serve.uploads import Upload

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    return TorchEngine(load_checkpoint(save_untrained(tmp_path_factory.mktemp("engine") / "a.ckpt")), "cpu")


def save_photographs(folder: Path, names: Sequence[str]) -> list[str]:
    for number, name in enumerate(names):
        save_image(folder / name, draw_blobs(80, 50, number))
    return [str(folder / name) for name in names]


def list_files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def find_overlay(picture: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether a picture has an overlay where `draw_picture` puts it."""
    height, width = pixels.shape[:2]
    with Image.open(picture) as opened:
        drawn = np.asarray(opened.convert("RGB"))
    return np.array_equal(drawn[-MARGIN_PX - height : -MARGIN_PX, MARGIN_PX : MARGIN_PX + width], pixels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("layer", "target"), [("layer3", None), ("layer4", "pore")])
def test_the_picture_shows_what_explain_finds(
    engine: TorchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, layer: str, target: str | None
) -> None:
    monkeypatch.setattr(explanation, "NUM_STEPS", 5)
    paths = save_photographs(tmp_path, ["a.png", "b.png"])
    assert (
        explain_files(engine, paths, ["a.png", "b.png"], tmp_path / "x", HeatmapSettings(method, layer, target)) == {}
    )
    for path in paths:
        image = read_image(path, height=64, width=32)
        probabilities = engine.score(image[None]).probabilities[0]
        predicted = int(probabilities.argmax())
        wanted = torch.tensor([predicted if target is None else 2])
        maps, _ = explain_images(engine.network, torch.from_numpy(image[None]), wanted, method, layer)
        picture = tmp_path / "x" / f"{Path(path).name}.png"
        assert find_overlay(picture, draw_overlay(image, maps[0]))
        with Image.open(picture) as opened:
            caption = opened.info[CAPTION]
        assert caption.startswith(f"{engine.facts.classes[predicted]}, {100 * probabilities[predicted]:.1f}")
        unfound = "" if maps.any() else f"; no evidence for {engine.facts.classes[wanted]}"
        assert caption.endswith(f": refer (not calibrated){unfound}")


def test_the_photograph_is_shown_as_it_is(tmp_path: Path) -> None:
    """What the network gets of it is standardised."""
    geometry = Geometry(64, 32, resize="letterbox", normalize="per_image")
    file = save_untrained(tmp_path / "a.ckpt", geometry=geometry, **geometry.statistics)
    engine = TorchEngine(load_checkpoint(file), "cpu")
    (path,) = save_photographs(tmp_path, ["a.png"])
    explain_files(engine, [path], ["a.png"], tmp_path / "x")
    size: dict[str, Any] = {"height": 64, "width": 32, "resize": "letterbox"}
    image = read_image(path, **size, normalize="per_image")
    wanted = torch.from_numpy(engine.score(image[None]).probabilities.argmax(1))
    maps, _ = explain_images(engine.network, torch.from_numpy(image[None]), wanted)
    shown = draw_overlay(read_image(path, **size), maps[0])
    assert find_overlay(tmp_path / "x" / "a.png.png", shown)
    with Predictor(engine, 1) as predictor:
        answer = Explainer(predictor, engine, Limits()).submit(Upload("a.png", Path(path).read_bytes())).result()
    with Image.open(io.BytesIO(answer.body)) as served:
        assert np.array_equal(np.asarray(served), shown)


def test_the_caption_reports_that_there_is_no_evidence_for_a_class(tmp_path: Path) -> None:
    blind = TorchEngine(load_checkpoint(save_untrained(tmp_path / "a.ckpt")), "cpu")
    blind.network.head.weight.data.zero_()
    explain_files(
        blind, save_photographs(tmp_path, ["a.png"]), ["a.png"], tmp_path / "x", HeatmapSettings(target="pore")
    )
    with Image.open(tmp_path / "x" / "a.png.png") as opened:
        assert opened.info[CAPTION].endswith("(not calibrated); no evidence for pore")
    assert "no evidence for pore" in (tmp_path / "x" / "index.html").read_text()


def test_a_picture_does_not_depend_on_the_others(engine: TorchEngine, tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, ["a.png", "b.png", "c.png"])
    explain_files(engine, paths, ["a.png", "b.png", "c.png"], tmp_path / "all")
    explain_files(engine, paths[1:2], ["b.png"], tmp_path / "one")
    assert (tmp_path / "all" / "b.png.png").read_bytes() == (tmp_path / "one" / "b.png.png").read_bytes()


def test_names(engine: TorchEngine, tmp_path: Path) -> None:
    long = "w" * 251 + ".png"
    names = ["a.png", "a.jpg", "b/a.jpg", "two\nlines.png", "100% #1 ä.png", "javascript:1.png", "<b>&'\".png", long]
    paths = save_photographs(tmp_path / "photos", names)
    assert explain_files(engine, paths, names, tmp_path / "x") == {}
    pictures = [file for file in list_files(tmp_path / "x") if file.endswith(".png")]
    assert len(pictures) == len(names)
    assert {f"{name}.png" for name in names[:-1]} < set(pictures)
    page = (tmp_path / "x" / "index.html").read_text()
    assert "<b>" not in page
    assert "two\\nlines.png" in page
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert sorted(map(unquote, links)) == pictures
    assert not any(":" in link for link in links)


@pytest.mark.parametrize("name", ["../a.png", "b/../../a.png", "/tmp/a.png", "link/a.png"])
def test_no_name_leaves_the_folder(engine: TorchEngine, tmp_path: Path, name: str) -> None:
    paths = save_photographs(tmp_path, ["a.png"])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="outside of"):
        explain_files(engine, paths, [name], tmp_path / "x")
    assert list_files(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "gradcam"}, "method=gradcam: allowed are .*did you mean 'grad_cam'"),
        ({"layer": "layer5"}, "layer=layer5: allowed are layer1, layer2, layer3, layer4;"),
        ({"target": "crak"}, "target=crak: allowed are good, crack, pore; did you mean 'crack'"),
    ],
)
def test_wrong_choices(engine: TorchEngine, tmp_path: Path, choices: dict[str, str], message: str) -> None:
    paths = save_photographs(tmp_path, ["a.png"])
    with pytest.raises(InputError, match=message):
        explain_files(engine, paths, ["a.png"], tmp_path / "x", HeatmapSettings(**choices))
    assert not (tmp_path / "x").exists()


def test_unreadable_files_are_passed_over(engine: TorchEngine, tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, ["a.png", "b.png"])
    names = ["empty.png", "a.png", "gone.png", "b.png"]
    (tmp_path / "empty.png").touch()
    paths = [str(tmp_path / name) for name in names]
    unreadable = explain_files(engine, paths, names, tmp_path / "x")
    assert list(unreadable) == [paths[0], paths[2]]
    assert unreadable[paths[2]] == "no such file"
    assert list_files(tmp_path / "x") == ["a.png.png", "b.png.png", "explained_by.json", "index.html"]
    assert "gone.png</bdi>: no such file" in (tmp_path / "x" / "index.html").read_text()


def test_a_stopped_run_resumes(engine: TorchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.png", "b.png", "c.png"]
    paths, folder = save_photographs(tmp_path, names), tmp_path / "x"
    drawn: list[str] = []

    def draw(*arguments: Any) -> Image.Image:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(arguments[2])
        return draw_picture(*arguments)

    monkeypatch.setattr(explaining, "draw_picture", draw)
    with pytest.raises(KeyboardInterrupt):
        explain_files(engine, paths, names, folder)
    assert list_files(folder) == ["a.png.png", "b.png.png", "explained_by.json"]
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    drawn.clear()
    explain_files(engine, paths, names, folder)
    assert len(drawn) == 1
    assert before.items() < {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}.items()
    page = (folder / "index.html").read_text()
    assert all(f"<bdi>{name}</bdi>" in page for name in names)
    for other in ({"method": "grad_cam"}, {"layer": "layer3"}, {"target": "good"}):
        with pytest.raises(InputError, match="a different model, method, layer, target or source"):
            explain_files(engine, paths, names, folder, HeatmapSettings(**other))
    with pytest.raises(InputError, match="name a different folder"):
        explain_files(engine, save_photographs(tmp_path / "others", names), names, folder)


@pytest.mark.parametrize("kept", [0, 1000])
def test_a_damaged_picture_is_drawn_anew(engine: TorchEngine, tmp_path: Path, kept: int) -> None:
    paths, picture = save_photographs(tmp_path, ["a.png"]), tmp_path / "x" / "a.png.png"
    explain_files(engine, paths, ["a.png"], tmp_path / "x")
    whole = picture.read_bytes()
    picture.write_bytes(whole[:kept])
    explain_files(engine, paths, ["a.png"], tmp_path / "x")
    assert picture.read_bytes() == whole


@pytest.mark.slow
def test_long_words_do_not_take_minutes() -> None:
    image = draw_noise(64, 64).transpose(2, 0, 1)
    start = time.monotonic()
    assert draw_picture(image, np.ones((64, 64), np.float32), "w" * 20_000, []).height > 2_000
    assert time.monotonic() - start < 30


def test_nothing_half_written(engine: TorchEngine, tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, ["a.png"])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b").touch()
    with pytest.raises(OSError, match="File exists"):
        explain_files(engine, paths, ["b/a.png"], tmp_path / "x")
    assert list_files(tmp_path / "x") == ["b", "explained_by.json"]
    with pytest.raises(OSError, match="File exists"):
        explain_files(engine, paths, ["a.png"], tmp_path / "x" / "b")
    assert explain_files(engine, [], [], tmp_path / "nothing") == {}
    assert not (tmp_path / "nothing").exists()


def count_hooks(network: nn.Module) -> int:
    return sum(len(vars(m)[name]) for m in network.modules() for name in vars(m) if name.endswith("_hooks"))


def test_the_network_is_left_as_it_was(engine: TorchEngine, tmp_path: Path) -> None:
    image = draw_noise(64, 32).transpose(2, 0, 1)[None].copy()
    before = engine.score(image)
    explain_files(engine, save_photographs(tmp_path, ["a.png"]), ["a.png"], tmp_path / "x")
    assert count_hooks(engine.network) == 0
    assert all(parameter.requires_grad for parameter in engine.network.parameters())
    assert not any(module.training for module in engine.network.modules())
    np.testing.assert_array_equal(engine.score(image).probabilities, before.probabilities)


@pytest.mark.parametrize("size", [(300, 30), (30, 300), (64, 64), (2, 400)])
@pytest.mark.parametrize("title", ["pore", "W" * 200, "insufficient penetration " * 9, "焊" * 60])
def test_words_and_scale_stay_off_the_photograph(size: tuple[int, int], title: str) -> None:
    image = draw_noise(*size).transpose(2, 0, 1)
    overlay = draw_overlay(image, np.ones(size, np.float32))
    picture = np.asarray(draw_picture(image, np.ones(size, np.float32), title, ["evidence", "method"]))
    height, width = overlay.shape[:2]
    rows, columns = slice(-MARGIN_PX - height, -MARGIN_PX), slice(MARGIN_PX, MARGIN_PX + width)
    np.testing.assert_array_equal(picture[rows, columns], overlay)
    # The margins are white: no word runs off, and the scale has room.
    assert (picture[:, : MARGIN_PX // 2] == 255).all()
    assert (picture[:, -MARGIN_PX // 2 :] == 255).all()
    assert (picture[rows, columns.stop + MARGIN_PX :] != 255).any()


def test_no_temporary_name_outlives_a_full_disk(
    engine: TorchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Image.Image, file: Path, *_: Any, **__: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    paths = save_photographs(tmp_path, ["a.png"])
    monkeypatch.setattr(Image.Image, "save", fill)
    with pytest.raises(OSError, match=r"No space left.*a\.png\.png"):
        explain_files(engine, paths, ["a.png"], tmp_path / "x")
    assert list_files(tmp_path / "x") == ["explained_by.json"]


@pytest.mark.slow
def test_axe_finds_nothing_on_the_page(browser: "WebDriver", engine: TorchEngine, tmp_path: Path) -> None:
    names = ["a crack.png", "<b>.png", "a/long name " * 8 + ".png", "torn.png"]
    paths = save_photographs(tmp_path / "photos", names)
    Path(paths[-1]).write_bytes(b"")
    explain_files(engine, paths, names, tmp_path / "out")
    browser.get((tmp_path / "out" / "index.html").as_uri())
    assert browser.find_elements("tag name", "img")
    check_accessible(browser)
