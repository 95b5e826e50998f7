"""The audit: what is wrong with a set of images, before anyone trains on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from weldnet.audit.classes import check_confounding, check_groups, check_names, check_small_classes
from weldnet.audit.copies import check_alike, find_alike_contents
from weldnet.audit.cues import check_cues
from weldnet.audit.facts import read_facts
from weldnet.audit.findings import SEVERITIES, Finding, Severity
from weldnet.audit.labels import HeldOut, check_labels
from weldnet.audit.photographs import check_files, check_photographs
from weldnet.data.decode.images import Geometry, Shapes, measure_shapes
from weldnet.data.duplicates import Alike, connect
from weldnet.data.sources.found import Found, Skipped
from weldnet.data.sources.groups import knows_groups, per_image
from weldnet.errors import InputError


@dataclass(frozen=True)
class Audit:
    """What is known of a set of images.

    Attributes:
        images: one row an image: the columns of `weldnet.data.sources.manifest.SCHEMA` and of
            `weldnet.audit.facts.FACTS`, and `content`: a number for each distinct content, null where unreadable.
        findings: worst first.
        alike: pairs of contents that look alike.
        geometry: the one that training would use.
        shapes: what it does to the photographs that can be read; None where none can be.
        doubts: of a cross-validation about the labels, as `HeldOut.doubt` gives them; None without one.
        refusals: by which each command would refuse these images; None where it takes them.
    """

    images: pl.DataFrame
    findings: list[Finding]
    alike: Alike
    geometry: Geometry
    shapes: Shapes | None = None
    skipped: Skipped = field(default_factory=Skipped)
    doubts: pl.DataFrame | None = None
    refusals: Mapping[str, InputError | None] = field(default_factory=dict)

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def group_refusals(self, *, is_advised: bool = False) -> Iterator[tuple[list[str], str]]:
        """The commands that refuse alike, and their words, empty where they take the images.

        The advice stands in the first of them, or in none where it `is_advised` already.
        """
        groups: dict[tuple[str, str], list[str]] = {}
        for name, refusal in self.refusals.items():
            words = (refusal.fault, refusal.advice) if refusal else ("", "")
            groups.setdefault(words, []).append(f"weldnet-{name}")
        for (fault, advice), names in groups.items():
            yield names, str(InputError(fault, "Type one of the keys above" if advice and is_advised else advice))
            is_advised = is_advised or bool(advice)


def audit(found: Found, geometry: Geometry | None = None, held_out: HeldOut | None = None) -> Audit:
    """Reads every image once and finds what would make training fail or a score wrong.

    Args:
        found: at least one image.
        geometry: the one that training would use.
        held_out: of a cross-validation, which may doubt the labels; one of different images is an InputError.
    """
    samples, geometry = found.table, geometry or Geometry()
    if held_out is not None:
        held_out.check(samples)
    window = geometry.window
    facts, thumbnails = read_facts(samples["path"], window, found.within)
    content = pl.when(pl.col("reason").is_null()).then(pl.col("digest")).rank("dense") - 1
    images = samples.hstack(facts).with_columns(content=content.cast(pl.Int64))
    readable = images.filter(pl.col("reason").is_null())
    alike = find_alike_contents(images, thumbnails, window)
    doubts = None if held_out is None else held_out.doubt(readable)
    sizes = readable["width", "height"].to_numpy()
    shapes = measure_shapes(sizes, geometry) if len(sizes) else None
    findings = [
        *check_names(found),
        *check_groups(samples),
        *check_files(images, window),
        *check_photographs(images, window),
        *check_alike(readable, alike),
        *(() if doubts is None else check_labels(doubts)),
        *check_small_classes(readable),
        *check_confounding(readable),
        *check_cues(readable),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(images, findings, alike, geometry, shapes, found.skipped, doubts)


def suggest_groups(audit: Audit) -> pl.DataFrame:
    """The samples that can be read and are not damaged, with groups that share no picture and no view of one spot.

    Groups that do are joined under the name of the first one. Where none are known, a group is the photographs of one
    spot: `spot_1` and so on, in the order of the files. That no image can be read is an InputError.
    """
    readable = audit.images.filter(pl.col("reason").is_null())
    if readable.is_empty():
        raise InputError("none of the images can be read, so there is nothing to group")
    named = readable.with_columns(group=pl.col("group").fill_null(per_image(readable)["group"]))
    names = named["group"].unique().sort()
    group = named["group"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    # Groups and contents are the nodes of one graph; a group touches its contents, a pair two contents.
    by_group = np.column_stack([group, len(names) + readable["content"].to_numpy()])
    edges = np.concatenate([by_group, *(len(names) + pairs for pairs in audit.alike)])
    component = connect(edges, int(edges.max()) + 1)[group]
    clusters = named.with_row_index("row").with_columns(component=component)
    if knows_groups(named):
        joined = clusters.select(pl.col("group").min().over("component")).to_series()
    else:
        number = clusters.select(pl.col("row").min().over("component").rank("dense").cast(pl.String)).to_series()
        joined = "spot_" + number.str.zfill(len(str(len(number))))
    return readable.select("path", "label", group=joined, split="split")
