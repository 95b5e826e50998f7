"""The way from a photograph to a verdict, in words: for whoever writes the line's software."""

from collections.abc import Sequence

from weldnet.data.decode.images import Geometry
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.export.graph import CODES


def describe_input(geometry: Geometry, layout: str | None) -> list[str]:
    """How a file becomes `images`, a sentence each; `layout` as `trace_graph` takes it."""
    windows = {
        "full": "a file of more bits is first mapped to 8, the whole range of its type from black to white",
        "percentile": "each file's grey levels are first mapped to 8 bits, its 0.5th to its 99.5th percentile from "
        "black to white",
    }
    low_high = "grey levels from {} to {} are first mapped to black to white in 8 bits"
    window = geometry.window
    mapped = windows[window] if isinstance(window, str) else low_high.format(*window)
    sentences = [
        "Decode the file to 8 bits a channel in the order R, G, B, not B, G, R; grey gives three equal channels, "
        f"transparent pixels lie over black; {mapped}.",
        "Turn the picture upright, as its EXIF orientation tells; many decoders do not, unless they are asked to.",
        "Whatever the outputs are, refer a file that its decoder finds damaged.",
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


def describe_rule(classes: Sequence[str], point: OperatingPoint, *, takes_photographs: bool) -> list[str]:
    """How the outputs become a verdict, a sentence each."""
    good = ", ".join(point.good_classes) or "none"
    sentences = [
        f"The classes, in the order of `probabilities`: {', '.join(f'{i} {name}' for i, name in enumerate(classes))}.",
        "The temperature is already applied to the probabilities.",
        f"The score is the sum of the probabilities of the good classes ({good}), at most 1.",
        "First: a distance greater than 1 means unlike training, and refers, whatever the score; so does a distance "
        "that is no number.",
        "Then: nothing is accepted, since accept_above is null."
        if point.accept_above is None
        else f"Then: a score greater than {point.accept_above!r} (accept_above), not equal to it, accepts.",
        "Then: nothing is rejected, since reject_below is null."
        if point.reject_below is None
        else f"Then: a score smaller than {point.reject_below!r} (reject_below), not equal to it, rejects.",
        "Everything else refers.",
    ]
    if not takes_photographs:
        return sentences
    codes = ", ".join(f"{code} {verdict}" for verdict, code in CODES.items())
    result = f"`verdict` is what these rules give: {codes}; `class_index`: the class of the highest probability."
    return [result, *sentences]
