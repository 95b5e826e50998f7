"""The confusion matrix as a picture, in the colours of the report."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from weldnet.report.tables import tabulate_confusion

_KINDS = {
    "right": ("#0072b2", "", ""),
    "mix_up": ("#8c8c8c", "", ""),
    "escape": ("#a3123a", "-", "escape: a defect predicted as sound"),
    "false_call": ("#8a5200", "--", "false call: sound predicted as a defect"),
}
"""The colour of each kind of `tabulate_confusion`, as in the report, its frame, and its meaning."""


def draw_confusion(
    matrix: NDArray[np.int64], classes: Sequence[str], title: str, good_classes: Sequence[str] = ()
) -> Figure:
    """A confusion matrix (C, C): counts as text, shares of each actual class (row) as depth of colour.

    Args:
        good_classes: of sound welds; where there are any, escapes and false calls are coloured and framed.
    """
    size = max(4.0, 1.8 + 0.62 * len(classes))
    figure = Figure(figsize=(size, size + 0.3), layout="constrained")
    axes = figure.subplots()
    facts = {"classes": classes, "confusion_matrix": matrix.tolist(), "good_classes": good_classes}
    rows = [cells for _, cells in tabulate_confusion(facts)]
    axes.imshow(
        [[to_rgba(_KINDS[each.kind][0], each.number and 0.15 + 0.45 * each.share) for each in row] for row in rows]
    )
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set(xlabel="predicted", ylabel="actual", title=title)
    frames = {}
    for (i, j), count in np.ndenumerate(matrix):
        colour, line, label = _KINDS[rows[i][j].kind]
        if count:
            axes.text(j, i, str(count), ha="center", va="center", color="black")
            if line:
                frame = Rectangle(
                    (j - 0.46, i - 0.46), 0.92, 0.92, fill=False, color=colour, linestyle=line, linewidth=2
                )
                frames[label] = axes.add_patch(frame)
    if frames:
        figure.legend(list(frames.values()), list(frames), loc="outside lower center", frameon=False, fontsize=8)
    return figure
