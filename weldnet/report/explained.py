"""Where a network looked, a picture for each photograph, and a page of them all."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from weldnet.console import watch
from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import UnreadableImage, to_geometry
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.decision import REFER
from weldnet.evaluation.judge import give_verdicts
from weldnet.explain.attribution import METHODS, explain_network
from weldnet.explain.overlay import draw_picture
from weldnet.explain.settings import HeatmapSettings
from weldnet.files import replace_file, write_text
from weldnet.inference.engines import TorchEngine
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
    *,
    method: str = HeatmapSettings.method,
    layer: str | None = HeatmapSettings.layer,
    target: str | None = None,
) -> dict[str, str]:
    """Draws where the network looked: `folder/<name>.png` for each photograph, and `index.html`.

    A picture that is there and whole stays, so that an interrupted call goes on.

    Args:
        paths: N files.
        names: N, relative paths: the pictures' without their last ending.
        folder: made if it is not there.
        method: one of `weldnet.explain.attribution.METHODS`.
        layer: one of the backbone's `layers`, None for its own; integrated gradients leave it aside.
        target: the class to look for; None for the one that each photograph is called.

    Returns:
        Why a file could not be read, by its path.

    Raises:
        InputError: there is no such method, layer or class; a name leaves the folder; the folder holds pictures of
            another model, method, layer, class or place.
        OSError: a picture cannot be written; those before are kept.
    """
    check_choice("method", method, METHODS)
    backbone = engine.network.backbone
    layer = layer or backbone.layer
    check_choice("layer", layer, list(backbone.layers))
    if target is not None:
        target = tidy(target)
        check_choice("target", target, engine.facts.classes)
    if not paths:
        return {}
    pictures = {name: _name_picture(folder, name) for name in names}
    facts = {
        "checkpoint_digest": engine.facts.checkpoint_digest,
        "method": method,
        "layer": None if method == "integrated_gradients" else layer,
        "target": target,
        "base": paths[0].removesuffix(names[0]),
    }
    _claim(folder, facts)
    captions = {name: _read_caption(picture) for name, picture in pictures.items()}
    left = [(path, name) for path, name in zip(paths, names, strict=True) if captions[name] is None]
    unreadable, not_read = {}, []
    # One at a time: in a batch of other size float32 rounds otherwise, a ReLU at its corner opens or closes, and a map
    # changes by up to a tenth of its peak.
    for path, name in watch(left, len(left), "drawing heatmaps"):
        try:
            image, decoded = to_geometry(read_content(path), engine.facts.geometry, even_damaged=True)
        except UnreadableImage as error:
            unreadable[path] = str(error)
            not_read.append((name, str(error)))
            continue
        picture, captions[name] = _explain_image(engine, image, method, layer, target, is_damaged=bool(decoded.damage))
        _save(pictures[name], picture, captions[name] or "")
    shown = [
        {"name": name, "link": quote(os.fsencode(picture.relative_to(folder))), "caption": captions[name]}
        for name, picture in pictures.items()
        if captions[name] is not None
    ]
    write_text(folder / "index.html", render("explained.html", **facts, pictures=shown, unreadable=not_read))
    return unreadable


def _name_picture(folder: Path, name: str) -> Path:
    """The picture's file: `name` with a further ending, so that photo.jpg and photo.png both have one."""
    picture = folder / f"{name}.png"
    if not picture.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{name!r} would be drawn outside of {folder}")
    if len(os.fsencode(picture.name)) > _MAX_NAME:
        return picture.with_name(f"{hashlib.sha256(os.fsencode(picture.name)).hexdigest()}.png")
    return picture


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Notes in the folder what draws its pictures, or finds that note there."""
    file, text = folder / EXPLAINED_BY, json.dumps(facts, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_text(file, text)
    elif file.read_bytes() != text.encode():
        raise InputError(
            f"{folder} holds pictures of another model, method, layer, target or source; name another folder"
        )


def _explain_image(
    engine: TorchEngine, image: NDArray[np.uint8], method: str, layer: str, target: str | None, *, is_damaged: bool
) -> tuple[Image.Image, str]:
    """The picture of one image (3, H, W), and its caption."""
    facts = engine.facts
    probabilities, distances = engine.score(image[None])
    _, (unlike,), (verdict,) = give_verdicts(probabilities, distances, facts.classes, facts.point)
    called = int(probabilities[0].argmax())
    wanted = called if target is None else facts.classes.index(target)
    maps, (rows, columns) = explain_network(
        engine.network, torch.from_numpy(image[None]), torch.tensor([wanted]), method, layer
    )
    note = " (unlike anything in training)" if unlike else "" if facts.calibrated else " (not calibrated)"
    if is_damaged:
        verdict, note = REFER, " (the file is damaged)"
    said = f"{facts.classes[called]}, {percent(probabilities[0, called])}: {verdict}{note}"
    where = method if method == "integrated_gradients" else f"{method} of {layer}"
    found = bool(maps.any())
    sought = f"{facts.classes[wanted]} ({percent(probabilities[0, wanted])})"
    notes = (
        f"heatmap for {sought}: bright = strong" if found else f"no evidence for {sought}",
        f"{where}, {rows} x {columns} points",
    )
    caption = make_visible(said if found else f"{said}; nothing speaks for {facts.classes[wanted]}")
    return draw_picture(image, maps[0], make_visible(said), [make_visible(note) for note in notes]), caption


def _save(file: Path, picture: Image.Image, caption: str) -> None:
    """Writes a picture with its caption in it, all or nothing."""
    words = PngImagePlugin.PngInfo()
    words.add_itxt(CAPTION, caption)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(file) as temporary:
        picture.save(temporary, "PNG", pnginfo=words)


def _read_caption(picture: Path) -> str | None:
    """The caption in a picture; None where there is none, or only a part of it, as after a power cut."""
    try:
        with Image.open(picture, formats=["PNG"]) as opened:
            opened.verify()
            return str(opened.info.get(CAPTION, ""))
    # Pillow raises nearly anything at a damaged file.
    except Exception:
        return None
