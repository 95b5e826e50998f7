"""The parity gate from files: a graph that takes photographs, against its checkpoint; and images to check it by."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.images import show_photograph
from weldnet.errors import InputError
from weldnet.evaluation.verdicts import give_verdicts
from weldnet.export.graph import CODES, Framing
from weldnet.export.parity import check, measure
from weldnet.export.quantization import draw_evenly
from weldnet.export.settings import Bounds
from weldnet.hardware import available_cores
from weldnet.inference.engines import Engine, Scores, import_extra
from weldnet.inference.onnx_format import OUTPUTS

MAX_FILES = 200
MAX_LEVEL_ERROR = 1.0
"""Grey levels of 255, mean over an image."""


@dataclass(frozen=True)
class FileAnswers:
    """What a graph and its checkpoint give to N validation files.

    Attributes:
        rows: (N,), of the validation images; `outputs` (N, ...) of the graph, by name.
        reference: the checkpoint's scores of the whole photograph under `Framing`, in torch.
        level_errors: (N,), the mean difference in grey levels between `Framing` and `to_geometry`.
    """

    rows: NDArray[np.int64]
    outputs: dict[str, NDArray[Any]]
    reference: Scores
    level_errors: NDArray[np.float64]


def read_photograph(path: str, data: WeldDataModule) -> tuple[bytes, NDArray[np.uint8]]:
    """A file's content, and its picture in full: upright, under the window, uint8 (h, w, 3)."""
    content = read_content(path)
    return content, np.asarray(open_picture(content, window=data.geometry.window).image.convert("RGB"))


def answer_files(network: Path, layout: str, checkpoint: Engine, data: WeldDataModule) -> FileAnswers:
    """Runs a `model.onnx` that takes photographs in a layout on at most `MAX_FILES` validation files, drawn evenly."""
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    dataset, paths = data.dataset("val"), data.samples("val")["path"]
    rows = draw_evenly(dataset.labels.numpy(), MAX_FILES)
    framing, plain = Framing(data.geometry), Framing(replace(data.geometry, normalize="imagenet"))

    def answer(row: int) -> tuple[list[NDArray[Any]], Scores, float]:
        content, photograph = read_photograph(paths[row], data)
        channels_first = photograph[None].transpose(0, 3, 1, 2)
        given = channels_first if layout == "nchw" else photograph[None]
        outputs = session.run(OUTPUTS, {"images": given})
        with torch.inference_mode():
            images = torch.tensor(channels_first)
            framed, levels = (each(images, torch.tensor(False)).numpy() for each in (framing, plain))
        ours = show_photograph(content, dataset.pictures([row])[0], data.geometry)
        level_error = np.abs(levels[0] - ours).mean()
        return outputs, checkpoint.score(framed.astype(np.uint8)), float(level_error)

    with ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        answers = list(track(pool.map(answer, rows.tolist()), "predicting from files", total=len(rows)))
    outputs, reference, level_errors = zip(*answers, strict=True)
    named = dict(zip(OUTPUTS, map(np.concatenate, zip(*outputs, strict=True)), strict=True))
    return FileAnswers(rows, named, Scores(*map(np.concatenate, zip(*reference, strict=True))), np.array(level_errors))


def check_files(
    answers: FileAnswers, engine: Engine, own: Scores, labels: NDArray[np.int64], bounds: Bounds
) -> dict[str, Any]:
    """The figures of `parity.json` from files; an InputError where the graph is not the checkpoint.

    `labels` and `own` are of all validation images: the checkpoint's scores of them as `to_geometry` decodes them, at
    a fraction where that is near enough.
    """
    facts, rows = engine.facts, answers.rows
    scores = Scores(*(answers.outputs[name].astype(np.float64) for name in OUTPUTS[:2]))
    figures = measure(
        answers.reference, scores, labels[rows], facts.classes, (facts.point,) * 2, bounds.of(is_int8=False)
    )
    verdicts = [
        give_verdicts(*each, facts.classes, facts.point)[2] for each in (scores, Scores(own[0][rows], own[1][rows]))
    ]
    codes = [np.array([CODES[str(verdict)] for verdict in each]) for each in verdicts]
    given = answers.outputs["verdict"]
    figures |= {
        "largest_level_error": float(answers.level_errors.max()),
        "verdict_changes_by_decoding": int((given != codes[1]).sum()),
    }
    check(figures)
    wrong = int(
        (given != codes[0]).sum() + (answers.outputs["class_index"] != scores.probabilities.argmax(axis=1)).sum()
    )
    if wrong or not figures["largest_level_error"] <= MAX_LEVEL_ERROR:
        raise InputError(
            f"the export is refused: of {len(rows)} validation files its graph gives {wrong} wrong verdicts or classes "
            f"and its resize is off by up to {figures['largest_level_error']:.2g} grey levels in the mean, "
            f"{MAX_LEVEL_ERROR:g} is allowed. Type export.input=fixed, and report this as a bug"
        )
    return figures
