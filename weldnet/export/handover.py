"""Writes what the programmer of the line's software needs of an export: a README, a check to run, the graph's facts."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.evaluation.verdicts import give_verdicts
from weldnet.export.file_parity import FileAnswers, read_photograph
from weldnet.export.graph import CODES
from weldnet.export.parity import measure_margins
from weldnet.files import replace_file, write_json, write_text
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.exported import FORMATS
from weldnet.inference.model_card import ExportCard
from weldnet.inference.onnx_format import FINISHED

NUM_CHECKS = 3

TOLERANCE, TOLERANCE_INT8 = 1e-3, 0.1
"""The largest allowed error of an output, absolute up to 1 and relative above. Processors differ in int8."""

DESCRIPTIONS = {
    "probabilities": "float32 (batch, {classes}), calibrated, in the order of the classes",
    "distance": "float32 (batch), from the training images; greater than 1 means unlike training",
    "class_index": "int64 (batch), the class of the highest probability",
    "score": "float32 (batch), the sum of the good classes' probabilities",
    "verdict": "int64 (batch): 0 refer, 1 accept, 2 reject",
}
"""What each output holds; exports of a fixed size have the first two."""

README = """\
# {title}

Written by weldnet {weldnet} on {date} from the checkpoint {checkpoint}.

## In
{described_input}

## Out
{outputs}

## From the outputs to a verdict
{rule}

## Runtime
{runtime}

## Check
`python check.py`, which needs only numpy, Pillow and the runtime, runs the images of `check/` and compares the outputs
with those that this export gave when it was made; it exits with 1 if they differ. Run it on the line's PC, and send the
same images through your own software: `check/expected.json` holds the outputs that it must give.

`model.json` holds all of this for programs to read; `parity.json`, how closely the export agrees with its checkpoint.
"""


def describe_input(geometry: Geometry, layout: str | None) -> list[str]:
    """How a file becomes `images`, a sentence each; `layout` as `trace_graph` takes it."""
    windows = {
        "full": "a file of more bits is first mapped to 8 bits, the whole range of its type from black to white",
        "percentile": "each file's grey levels are first mapped to 8 bits, its 0.5th to its 99.5th percentile from "
        "black to white",
    }
    low_high = "grey levels from {} to {} are first mapped to black to white in 8 bits"
    window = geometry.window
    mapped = windows[window] if isinstance(window, str) else low_high.format(*window)
    sentences = [
        "Decode the file to 8 bits a channel in the order R, G, B, not B, G, R; a grey file gives three equal "
        f"channels, transparent pixels are laid over black; {mapped}.",
        "Turn the picture upright by its EXIF orientation; many decoders do so only if they are asked to.",
        "If the decoder reports that a file is damaged, refer it, whatever the outputs.",
    ]
    if layout:
        shape = "height, width, 3" if layout == "nhwc" else "3, height, width"
        turn = "turns a photograph that is wider than high by 90 degrees counter-clockwise, "
        return [
            *sentences,
            f"`images` is uint8 (batch, {shape}), of any size: do not resize, turn, crop or normalise. The graph "
            f"{turn if geometry.orient == 'long_side_vertical' else 'turns nothing, '}"
            f"resizes ({geometry.resize}) to {geometry.width} x {geometry.height} pixels and normalises.",
        ]
    return [
        *sentences,
        f"`images` is uint8 (batch, 3, {geometry.height}, {geometry.width}): turned (`orient`), resized (`resize`, "
        "bilinear with antialiasing, as Pillow does; OpenCV's INTER_LINEAR and INTER_AREA give other verdicts) and "
        "standardised (`normalize`) exactly as docs/deployment.md of weldnet describes.",
    ]


def describe_rule(card: ExportCard) -> list[str]:
    """How the outputs become a verdict, a sentence each."""
    point, names = card.point, ", ".join(f"{i} {name}" for i, name in enumerate(card.classes))
    good = ", ".join(point.good_classes) or "none"
    sentences = [
        f"The classes, in the order of `probabilities`: {names}.",
        "The temperature is already applied to the probabilities.",
        f"The score is the sum of the probabilities of the good classes ({good}), at most 1.",
        "First: a distance greater than 1 means unlike training, and refers, whatever the score; so does a distance "
        "that is not a number.",
        "Then: nothing is accepted, since accept_above is null."
        if point.accept_above is None
        else f"Then: a score greater than {point.accept_above!r} (accept_above), not equal to it, accepts.",
        "Then: nothing is rejected, since reject_below is null."
        if point.reject_below is None
        else f"Then: a score smaller than {point.reject_below!r} (reject_below), not equal to it, rejects.",
        "Everything else refers.",
    ]
    if card.input == "fixed":
        return sentences
    codes = ", ".join(f"{code} {verdict}" for verdict, code in CODES.items())
    result = f"`verdict` is the result of these rules: {codes}; `class_index`, the class of the highest probability."
    return [result, *sentences]


def write_file_check(folder: Path, answers: FileAnswers, card: ExportCard, data: WeldDataModule) -> None:
    """Writes the check of an export that takes photographs, from its outputs for validation files."""
    scores = Scores(*(answers.outputs[name].astype(np.float64) for name in ("probabilities", "distance")))
    chosen, paths = choose_checks(scores, card), data.samples("val")["path"]
    images = [read_photograph(paths[int(answers.rows[index])], data)[1] for index in chosen]
    _write_check(folder, images, {name: rows[chosen] for name, rows in answers.outputs.items()}, card)


def write_image_check(folder: Path, scores: Scores, engine: Engine, card: ExportCard, data: WeldDataModule) -> None:
    """Writes the check of an export of a fixed size, from its scores of all validation images."""
    images = [data.dataset("val").pictures([index]) for index in choose_checks(scores, card)]
    # One by one, as the check does: batches of different sizes round differently, most of all in int8.
    given = [engine.score(image) for image in images]
    outputs = {
        "probabilities": np.concatenate([each.probabilities for each in given]),
        "distance": np.concatenate([each.distances for each in given]),
    }
    _write_check(folder, [image[0].transpose(1, 2, 0) for image in images], outputs, card)


def choose_checks(scores: Scores, card: ExportCard) -> list[int]:
    """Chooses the images of the check: for each verdict the one farthest from any threshold, then the next farthest."""
    sound, _, verdicts = give_verdicts(*scores, card.classes, card.point)
    order = np.argsort(-measure_margins(scores.distances, sound, card.point), kind="stable")
    _, first = np.unique(verdicts[order], return_index=True)
    rest = np.delete(np.arange(len(order)), first)
    return [int(index) for index in order[np.concatenate([first, rest])][:NUM_CHECKS]]


def _write_check(
    folder: Path, images: Sequence[NDArray[np.uint8]], outputs: Mapping[str, NDArray[Any]], card: ExportCard
) -> None:
    """Writes `check.py`, and `check/` with N `images`, uint8 (h, w, 3), and their `outputs` by name, (N, ...)."""
    (folder / "check").mkdir()
    cases, tolerance = [], TOLERANCE_INT8 if FORMATS[card.format].is_int8 else TOLERANCE
    for index, image in enumerate(images):
        name = f"{index + 1}.png"
        with replace_file(folder / "check" / name) as temporary:
            Image.fromarray(image).save(temporary, "PNG")
        values = {output: np.ravel(rows[index]).tolist() for output, rows in outputs.items()}
        cases.append({"file": name, "layout": card.layout, "tolerance": tolerance, "outputs": values})
    write_json(folder / "check" / "expected.json", cases)
    open_alone = FORMATS[card.format].open_alone
    pieces = [
        files("weldnet.export").joinpath("check.py").read_text(encoding="utf-8"),
        inspect.getsource(open_alone),
        f'if __name__ == "__main__":\n    check({open_alone.__name__}(FOLDER))\n',
    ]
    write_text(folder / "check.py", "\n\n".join(pieces))


def describe_outputs(card: ExportCard) -> dict[str, str]:
    """What each output of an export holds, by name."""
    names = list(DESCRIPTIONS)[: None if card.input == "photograph" else 2]
    return {name: DESCRIPTIONS[name].format(classes=len(card.classes)) for name in names}


def write_readme(folder: Path, card: ExportCard) -> None:
    """Writes `README.md`."""
    chosen = FORMATS[card.format]
    runtime = chosen.runtime.format(version=card.versions[chosen.packages[-1]])
    if card.input == "photograph" and card.geometry.normalize == "per_image":
        runtime += f" The optional input `{FINISHED}`, about which ONNX Runtime warns, is for weldnet: leave it out."
    text = README.format(
        title=f"A weld classifier: {', '.join(card.classes)}",
        weldnet=version("weldnet"),
        date=card.date,
        checkpoint=card.checkpoint.digest,
        described_input=_list(card.input_rule),
        outputs=_list(f"`{name}`: {text}" for name, text in describe_outputs(card).items()),
        rule=_list(card.rule),
        runtime=runtime,
    )
    write_text(folder / "README.md", text)


def _list(sentences: Any) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def describe_network(network: Any, card: ExportCard) -> None:
    """Writes an export's facts into an `onnx_ir.Model`."""
    network.producer_name, network.producer_version = "weldnet", version("weldnet")
    # Of the graph's inputs and outputs, which changed with that of `model.json`.
    network.domain, network.model_version = "weldnet", card.format_version
    network.doc_string = "\n".join(
        ["A weld classifier; metadata_props hold its classes and its rule.", *card.input_rule]
    )
    values = {
        "classes": card.classes,
        "geometry": asdict(card.geometry),
        "operating_point": asdict(card.point),
        "rule": card.rule,
    }
    # Escape "location": our reader refuses files with this word, the key of weights that lie outside the file.
    facts = {name: json.dumps(value).replace("location", r"\u006cocation") for name, value in values.items()} | {
        "input": card.input,
        "layout": card.layout,
        "checkpoint_digest": card.checkpoint.digest,
        "split_digest": card.split_digest,
        "date": card.date,
        "licence": "set by whoever trained it, within the licences of the photographs and of the weights that training "
        "began with; weldnet's own licence, MIT, does not cover it",
    }
    network.metadata_props.update(facts)
    texts = describe_outputs(card) | {
        "images": " ".join(card.input_rule),
        FINISHED: "for weldnet: whether the images already have the network's geometry. Leave it out",
    }
    for value in (*network.graph.inputs, *network.graph.outputs):
        value.doc_string = texts[value.name]
