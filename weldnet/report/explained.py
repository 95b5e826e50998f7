"""A heatmap for each photograph, and a page of them all."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from PIL import Image, PngImagePlugin

from weldnet.console import watch
from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import show_photograph, to_geometry
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.verdicts import REFER, give_verdicts
from weldnet.explain.attribution import METHODS, explain_images
from weldnet.explain.overlay import draw_picture
from weldnet.explain.settings import HeatmapSettings
from weldnet.files import replace_file, write_text
from weldnet.inference.torch_engine import TorchEngine
from weldnet.report.page import render
from weldnet.report.words import percent
from weldnet.spelling import make_visible, tidy

EXPLAINED_BY = "explained_by.json"
"""In a folder of pictures: what drew them."""

CAPTION = "Title"
"""The key of a picture's caption among its PNG text."""

_MAX_NAME = 255


def explain_files(
    engine: TorchEngine,
    paths: Sequence[str],
    names: Sequence[str],
    folder: Path,
    heatmap: HeatmapSettings | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Draws heatmaps: `folder/<name>.png` for each photograph, and `index.html`.

    A whole picture stays, so that a stopped call can be resumed. Returns why a file could not be read, by its path.

    Args:
        names: relative paths: the pictures' without their last ending.
        labels: by path, the actual classes that are known, for the page.

    Raises:
        InputError: there is no such method, layer or class; a name leaves the folder; the folder holds pictures of a
            different model, method, layer, class or source.
    """
    heatmap = _check_settings(engine, heatmap or HeatmapSettings())
    if not paths:
        return {}
    pictures = {name: _name_picture(folder, name) for name in names}
    base = paths[0].removesuffix(names[0])
    facts = {"checkpoint_digest": engine.facts.checkpoint_digest, **vars(heatmap), "base": base}
    _keep_facts(folder, facts)
    captions = {name: _read_caption(picture) for name, picture in pictures.items()}
    left = [(path, name) for path, name in zip(paths, names, strict=True) if captions[name] is None]
    unreadable = {}
    # One at a time: in a batch of a different size float32 rounds differently, a ReLU near zero may open or close, and
    # a map changes by up to a tenth of its peak.
    for path, name in watch(left, len(left), "drawing heatmaps"):
        try:
            captions[name] = _explain_file(engine, path, heatmap, pictures[name])
        except UnreadableImage as error:
            unreadable[path] = str(error)
    shown = [
        _show(folder, name, pictures[name], captions[name], (labels or {}).get(path))
        for path, name in zip(paths, names, strict=True)
        if captions[name] is not None
    ]
    reasons = [(name, unreadable[path]) for path, name in left if path in unreadable]
    write_text(folder / "index.html", render("explained.html", **facts, pictures=shown, unreadable=reasons))
    return unreadable


def _show(folder: Path, name: str, picture: Path, caption: str | None, actual: str | None) -> dict[str, str | None]:
    """What the page names of a photograph."""
    return {"name": name, "link": quote(os.fsencode(picture.relative_to(folder))), "caption": caption, "actual": actual}


def _check_settings(engine: TorchEngine, heatmap: HeatmapSettings) -> HeatmapSettings:
    """The settings with their names checked and the backbone's own layer filled in; integrated gradients have none."""
    check_choice("method", heatmap.method, METHODS)
    backbone, size = engine.network.backbone, engine.facts.geometry
    layer = heatmap.layer or backbone.choose_layer(size.height, size.width)
    check_choice("layer", layer, list(backbone.layers))
    target = None if heatmap.target is None else tidy(heatmap.target)
    if target is not None:
        check_choice("target", target, engine.facts.classes)
    return HeatmapSettings(heatmap.method, None if heatmap.method == "integrated_gradients" else layer, target)


def _name_picture(folder: Path, name: str) -> Path:
    """The picture's file: `name` with a further ending, so that photo.jpg and photo.png both have one."""
    picture = folder / f"{name}.png"
    if not picture.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{name!r} would be drawn outside of {folder}")
    if len(os.fsencode(picture.name)) > _MAX_NAME:
        return picture.with_name(f"{hashlib.sha256(os.fsencode(picture.name)).hexdigest()}.png")
    return picture


def _keep_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Records in the folder what draws its pictures; refuses a folder with a different record."""
    file, text = folder / EXPLAINED_BY, json.dumps(facts, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_text(file, text)
    elif file.read_bytes() != text.encode():
        raise InputError(
            f"{folder} holds pictures of a different model, method, layer, target or source; name a different folder"
        )


def _explain_file(engine: TorchEngine, path: str, heatmap: HeatmapSettings, file: Path) -> str:
    """Draws the picture of one photograph, all or nothing, and returns its caption."""
    facts = engine.facts
    content = read_content(path)
    image, decoded = to_geometry(content, facts.geometry, even_damaged=True)
    probabilities, distances = engine.score(image[None])
    _, (unlike,), (verdict,) = give_verdicts(probabilities, distances, facts.classes, facts.point)
    predicted = int(probabilities[0].argmax())
    wanted = predicted if heatmap.target is None else facts.classes.index(heatmap.target)
    maps, (rows, columns) = explain_images(
        engine.network, torch.from_numpy(image[None]), torch.tensor([wanted]), heatmap.method, heatmap.layer
    )
    note = " (unlike anything in training)" if unlike else "" if facts.calibrated else " (not calibrated)"
    if decoded.damage:
        verdict, note = REFER, " (the file is damaged)"
    title = make_visible(f"{facts.classes[predicted]}, {percent(probabilities[0, predicted])}: {verdict}{note}")
    name = make_visible(facts.classes[wanted])
    class_text, found = f"{name} ({percent(probabilities[0, wanted])})", bool(maps.any())
    notes = (
        f"heatmap for {class_text}: bright = strong" if found else f"no evidence for {class_text}",
        f"{heatmap.method}{f' of {heatmap.layer}' if heatmap.layer else ''}, {rows} x {columns} points",
    )
    caption = title if found else f"{title}; no evidence for {name}"
    metadata = PngImagePlugin.PngInfo()
    metadata.add_itxt(CAPTION, caption)
    picture = draw_picture(show_photograph(content, image, facts.geometry), maps[0], title, notes)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(file) as temporary:
        picture.save(temporary, "PNG", pnginfo=metadata)
    return caption


def _read_caption(picture: Path) -> str | None:
    """The caption in a picture; None if the picture is missing or incomplete, as after a power cut."""
    try:
        with Image.open(picture, formats=["PNG"]) as opened:
            opened.verify()
            return str(opened.info.get(CAPTION, ""))
    # Pillow raises almost any exception for a damaged file.
    except Exception:
        return None
