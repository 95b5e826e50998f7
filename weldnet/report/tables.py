"""The tables of every page, and of the terminal: plain rows of text and figures."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl
from rich import table as rich
from rich.markup import escape
from rich.text import Text

from weldnet.audit.classes import count_samples
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import count
from weldnet.evaluation.bootstrap import FEWEST_GROUPS
from weldnet.evaluation.metrics import CLASS_METRICS, ERRORS, METRICS, RANKINGS
from weldnet.evaluation.verdicts import VERDICTS
from weldnet.report.words import Figures, name_columns, percent, show_number
from weldnet.spelling import make_visible

MOST_WELDS = 200

LABELS = {metric.key: metric.label for metric in (*METRICS, *RANKINGS)}
# By predicted class, as the page says: by verdict, escapes and false calls are others.
LABELS |= {metric.key: metric.label.partition(": ")[2].capitalize() for metric in ERRORS}
_NUMBERS = [metric.key for metric in METRICS if metric.kind == "number"]

_VERDICTS = {
    "accept": "accepted",
    "reject": "rejected",
    "refer": "referred",
    "escapes": "escapes: defective, yet accepted",
    "false_calls": "false calls: sound, yet not accepted",
    "false_rejects": "false rejects: sound, yet rejected",
}


class Cell(NamedTuple):
    """A figure as text, `-` for none, what stands small below it, and its share of a whole, a depth of colour."""

    value: str
    notes: Sequence[str] = ()
    share: float | None = None


Row = Sequence[str | Cell]


class Table(NamedTuple):
    """The heads of the columns, and the rows, each of which begins with its name."""

    head: Row
    rows: Sequence[Row]

    def draw(self, title: str, caption: str = "") -> rich.Table:
        """For the terminal, without notes, the texts as they are."""
        plain = [[cell if isinstance(cell, str) else cell.value for cell in row] for row in (self.head, *self.rows)]
        # Not every terminal can show a true minus sign.
        texts = [[Text(make_visible(cell).replace("\u2212", "-")) for cell in row] for row in plain]
        table = rich.Table(title=title, title_justify="left", caption=escape(caption), caption_justify="left")
        for number, text in enumerate(texts[0]):
            table.add_column(text, justify="right" if number else "left")
        for row in texts[1:]:
            table.add_row(*row)
        return table


def shape(name: str) -> Callable[[float | None], str]:
    """How a figure of this key becomes text."""
    return show_number if name in _NUMBERS else percent


def show(value: Any) -> str:
    """A count, a share as per cent, or a text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else percent(value)


def tabulate_headlines(report: Figures, validation: Figures | None) -> Table:
    """The figures of a report, beside those of its validation images."""
    reports = [report, *([validation] if validation else [])]
    rows: list[Row] = [
        [title, *(measure(each, name) for each in reports)]
        for name, title in LABELS.items()
        if any(name in each["by_group"] for each in reports)
    ]
    errors = [each["calibration"]["after"]["expected_calibration_error"] for each in reports]
    heads = [Cell(name, [welds] if welds else []) for name, welds in name_columns(report, validation is not None)]
    return Table(["", *heads], [*rows, ["Expected calibration error", *(f"{error:.3f}" for error in errors)]])


def measure(report: Figures, name: str) -> Cell:
    """A figure of all images with both intervals."""
    exact, group = report["proportions"].get(name), report["by_group"].get(name)
    cell = show_proportion(exact) if exact else Cell(shape(name)(group["value"] if group else None))
    # The counts of a class stand beside it.
    notes = cell.notes[1:] if "/" in name else cell.notes
    return Cell(cell.value, [*notes, *_show_bounds("over welds", group, shape(name))])


def show_proportion(row: Figures) -> Cell:
    """k of n with its exact interval."""
    if not row["n"]:
        return Cell("-")
    return Cell(percent(row["value"]), [f"{row['k']:,} of {row['n']:,}", *_show_bounds("95 %", row, percent)])


def _show_bounds(title: str, row: Figures | None, as_text: Callable[[float | None], str]) -> list[str]:
    if row is None or row["high"] is None:
        return []
    if "high_is" in row:
        return [f"{title}: at most {as_text(row['high'])}"]
    return [f"{title}: {as_text(row['low']).removesuffix(' %')} to {as_text(row['high'])}"]


def tabulate_classes(report: Figures) -> Table:
    """For each class its name in ISO 6520-1, support, and `CLASS_METRICS` with their intervals."""
    rows = []
    for name in report["classes"]:
        support = report["per_class"][name]["support"]
        number = (report.get("vocabulary") or {}).get(name, "").removeprefix("ISO 6520-1 no. ").replace(", ", " ", 1)
        notes = [f"ISO 6520-1: {number}"] if number else []
        notes += ["sound"] if name in report["good_classes"] else []
        notes += [] if support else ["not measured: no image of it in this split"]
        cells = [measure(report, f"{metric.key}/{name}") if support else "-" for metric in CLASS_METRICS]
        rows.append([Cell(name, notes), f"{support:,}", *cells])
    return Table(["class", "images", *(metric.label for metric in CLASS_METRICS)], rows)


def count_splits(samples: pl.DataFrame) -> list[dict[str, Any]]:
    """`label, split, images, welds`: how many of each; `welds` is 0 where they are unknown or one an image."""
    counts = count_samples(samples).group_by("label", "split", maintain_order=True)
    return counts.agg(pl.col("images").sum(), welds=pl.col("group").drop_nulls().n_unique()).to_dicts()


def tabulate_data(counts: Sequence[Figures]) -> Table:
    """Each class with its images in each split, and the welds that they show where these are known."""
    known = {(row["label"], row["split"]): row for row in counts}
    splits = [name for name in (*SPLITS, None) if any(split == name for _, split in known)]
    rows: list[Row] = [
        [label, *(_count_welds(known.get((label, split))) for split in splits)]
        for label in dict.fromkeys(label for label, _ in known)
    ]
    return Table(["class", *(split or ("no split" if splits[:-1] else "images") for split in splits)], rows)


def _count_welds(row: Figures | None) -> Cell:
    if row is None:
        return Cell("-")
    return Cell(f"{row['images']:,}", [count(row["welds"], "weld")] if row["welds"] else [])


def tabulate_verdicts(report: Figures) -> Table:
    """Counts and bounds of verdicts and errors, by photograph and, where welds are known, by weld."""
    units = {name: rows for name, rows in (report["verdicts"] or {}).items() if rows}
    # Without a good class, errors are undefined.
    names = _VERDICTS if report["good_classes"] else VERDICTS
    rows: list[Row] = [[_VERDICTS[name], *(show_proportion(rows[name]) for rows in units.values())] for name in names]
    return Table(["", *units], rows)


class MatrixCell(NamedTuple):
    """A number of the confusion matrix, its share of the actual class, and what it counts.

    Attributes:
        kind: `right`, `escape` (a defect predicted as sound), `false_call` (sound predicted as a defect), or `mix_up`.
    """

    number: int
    share: float
    kind: str


def tabulate_confusion(report: Figures) -> list[tuple[str, list[MatrixCell]]]:
    """Rows of the confusion matrix: the actual class, and a cell for each predicted one."""
    sound = [name in report["good_classes"] for name in report["classes"]]
    kinds = {(False, True): "escape", (True, False): "false_call"} if any(sound) else {}
    table = []
    for i, (name, row) in enumerate(zip(report["classes"], report["confusion_matrix"], strict=True)):
        cells = [
            MatrixCell(n, n / (sum(row) or 1), "right" if i == j else kinds.get((sound[i], sound[j]), "mix_up"))
            for j, n in enumerate(row)
        ]
        table.append((name, cells))
    return table


def tabulate_welds(predictions: pl.DataFrame, report: Figures) -> tuple[Table, int] | None:
    """Images, accuracy, escapes and verdicts of each weld, the least accurate first.

    Returns:
        At most `MOST_WELDS` of them, and how many there are; None where no weld is known, or each has one image only.
    """
    known, good = predictions.drop_nulls("group"), list(report["good_classes"])
    if known.is_empty() or known["group"].is_unique().all():
        return None
    defect, is_decided = ~pl.col("label").is_in(good), report["verdicts"] is not None
    columns = {
        "images": (pl.len(), True),
        "accuracy": ((pl.col("label") == pl.col("predicted")).mean(), True),
        "defects": (defect.sum(), good),
        "defects predicted as sound": ((defect & pl.col("predicted").is_in(good)).sum(), good),
        "defects accepted": ((defect & (pl.col("verdict") == "accept")).sum(), good and is_decided),
        **{name: ((pl.col("verdict") == name).sum(), is_decided) for name in VERDICTS},
    }
    table = known.group_by("group").agg(column.alias(name) for name, (column, _) in columns.items())
    order = ["accuracy", "defects predicted as sound", "images", "group"]
    shown = ["group", *(name for name, (_, is_shown) in columns.items() if is_shown)]
    rows = table.sort(order, descending=[False, True, True, False]).select(shown).head(MOST_WELDS).rows()
    return Table(["weld", *shown[1:]], [[show(value) for value in row] for row in rows]), len(table)


def tabulate_each_weld(report: Figures) -> tuple[Table, int] | None:
    """Where welds are too few for an interval, the figures of each, and how many it takes; otherwise None."""
    found = report["by_group"]["accuracy"]["per_group"]
    if found is None:
        return None
    titles = LABELS | {f"recall/{name}": f"Recall of {name}" for name in report["classes"]}
    rows = []
    for name, title in titles.items():
        values = report["by_group"].get(name, {}).get("per_group", {})
        if any(value is not None for value in values.values()):
            rows.append([title, *(shape(name)(values[group]) for group in found)])
    return Table(["", *found], rows), FEWEST_GROUPS
