"""Labels that a cross-validation doubts, and the list on which a person decides about each of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.audit.findings import Finding
from weldnet.data.sources.manifest import read_typed, refuse_rows
from weldnet.data.splits.leaks import Fingerprints, is_known
from weldnet.errors import InputError, check_choice, count, shorten
from weldnet.evaluation.arrays import Floats, Labels
from weldnet.spelling import tidy_all

REVIEW = "review.csv"
"""In the folder of an audit: the doubted labels, with an empty column `corrected`."""

_FORMULA = r"('*[=+\-@])"

_AGAIN = (
    "Audit the data of the cross-validation (they stand in its config.yaml), or cross-validate these: weldnet-crossval "
    "with the same data keys"
)


@dataclass(frozen=True)
class HeldOut:
    """What a cross-validation predicts for its images, each by a network that has not seen the weld.

    Attributes:
        images: `path`, `label` and `predicted` of N images; `labels` (N,) are indices of the C classes.
        probabilities: (N, C), calibrated.
        fingerprints: of the content of each image.
    """

    images: pl.DataFrame
    probabilities: Floats
    labels: Labels
    fingerprints: Fingerprints

    def check(self, samples: pl.DataFrame) -> None:
        """Refuses samples that lack an image of the cross-validation, or that have it under a different label."""
        known = self.images.join(samples.select("path", now="label"), on="path", how="left")
        _refuse("the data lack {} of the cross-validation", known.filter(pl.col("now").is_null()))
        _refuse("{} had a different label in the cross-validation", known.filter(pl.col("now") != pl.col("label")))

    def doubt(self, files: pl.DataFrame) -> pl.DataFrame:
        """The images whose label may be wrong, the least probable label first.

        Their columns are `path`, `label`, `predicted`, `probability` (of `predicted`) and `probability_of_label`. A
        readable file that the cross-validation has not seen, or that has changed since, is an InputError.
        """
        _refuse("{} of the data not in the cross-validation", files.join(self.images, on="path", how="anti"))
        _refuse("{} changed since the cross-validation", files.filter(~is_known(files, self.fingerprints)))
        rows = find_label_errors(self.probabilities, self.labels)
        return self.images[rows].with_columns(
            probability=pl.Series(self.probabilities[rows].max(axis=1)),
            probability_of_label=pl.Series(self.probabilities[rows, self.labels[rows]]),
        )


def _refuse(fault: str, rows: pl.DataFrame) -> None:
    if len(rows):
        what = fault.format(count(len(rows), "image"))
        raise InputError(f"crossval: {what}: {shorten(rows['path'].to_list())}. {_AGAIN}")


def check_labels(doubts: pl.DataFrame) -> list[Finding]:
    """One finding for each row of `HeldOut.doubt`, in its order."""
    findings = []
    for row in doubts.iter_rows(named=True):
        labelled = f"labelled {row['label']} ({100 * row['probability_of_label']:.1f} %)"
        predicted = f"predicted {row['predicted']} ({100 * row['probability']:.1f} %)"
        findings.append(Finding("label_error", "warning", (row["path"],), f"{labelled}, {predicted}"))
    return findings


def list_for_review(doubts: pl.DataFrame) -> pl.DataFrame:
    """The rows of `HeldOut.doubt` with the empty column `corrected`, for a person to fill in.

    A class that Excel would run as a formula gets an apostrophe.
    """
    classes = pl.col("label", "predicted").str.replace(f"^{_FORMULA}", "'${1}")
    return doubts.with_columns(classes, pl.col(pl.Float64).round(4), corrected=pl.lit(None, pl.String))


def correct_labels(samples: pl.DataFrame, file: Path) -> tuple[pl.DataFrame, str]:
    """The samples with the labels of a reviewed list, and a sentence on how many were corrected.

    A row whose `corrected` is empty was not reviewed: its label stays. An InputError where the list cannot be read, or
    a row names an image that the samples do not have under this label, or a class that they do not have.
    """
    if not file.is_file():
        raise InputError(f"audit.reviewed={file}: no such file; type the list {REVIEW} that an audit wrote")
    columns = ("path", "label", "corrected")
    table = read_typed(file, columns, columns)
    table = table.with_columns(tidy_all(table["label"]), tidy_all(table["corrected"]))
    table = table.with_columns(pl.col("label", "corrected").str.replace(f"^'{_FORMULA}", "${1}"))
    table = table.filter(~pl.all_horizontal(pl.col(columns).is_null()))
    now = table.select("path").join(samples.select("path", now="label"), on="path", how="left", maintain_order="left")
    is_absent, is_changed = now["now"].is_null(), now["now"].ne_missing(table["label"])
    refuse_rows(file, table, pl.col("path").is_duplicated(), "one image in more than one row; keep one of them")
    refuse_rows(file, table, pl.lit(is_absent), "no such image in the data; type the data that the list was made of")
    refuse_rows(file, table, pl.lit(is_changed), "the data have a different label, so the list was made of others")
    reviewed = table.drop_nulls("corrected")
    classes = sorted(samples["label"].unique())
    for row, corrected in reviewed.select("row", "corrected").iter_rows():
        check_choice(f"{file} row {row}: corrected", corrected, classes)
    changed = reviewed.filter(pl.col("label") != pl.col("corrected"))
    corrected = samples.join(changed.select("path", "corrected"), on="path", how="left", maintain_order="left")
    corrected = corrected.with_columns(label=pl.coalesce("corrected", "label")).drop("corrected")
    return corrected, (
        f"{count(len(changed), 'label')} corrected, {len(reviewed) - len(changed):,} confirmed, "
        f"{len(table) - len(reviewed):,} not reviewed"
    )


def find_label_errors(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """The rows whose label may be wrong, the least probable label first.

    A label contradicts where a different class is the most probable one; it does so confidently where that class is at
    least as probable as it is on average for the images that carry its label. As many rows are returned as contradict
    confidently: of those that contradict, the ones whose label has the lowest probability.
    Probabilities (N, C) are out of fold, labels (N,) are indices of classes.
    Reference: Northcutt, Jiang and Chuang, Confident Learning, 2021; cleanlab's `low_self_confidence`.
    """
    predicted, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    of_label, num_classes = probabilities[np.arange(len(labels)), labels], probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    # Of a class without images nothing is usual, and no probability reaches infinity.
    usual = np.where(counts > 0, np.bincount(labels, of_label, num_classes) / np.maximum(counts, 1), np.inf)
    contradicting = predicted != labels
    number = np.count_nonzero(contradicting & (highest >= usual[predicted]))
    rows = np.flatnonzero(contradicting)
    return rows[np.argsort(of_label[rows], kind="stable")][:number]
