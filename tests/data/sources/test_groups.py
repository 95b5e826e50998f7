"""Which weld a photograph shows, by its folder or name, and what names offer."""

import shlex
from pathlib import Path

import polars as pl
import pytest

from weldnet.data.sources.groups import explain_groups, offer_groups
from weldnet.data.sources.source import Folder, Grouping, Manifest
from weldnet.errors import InputError
from weldnet.spelling import tidy_all


def make_table(*paths: str) -> pl.DataFrame:
    """Photographs below /photos/<class>/."""
    rows = [(f"/photos/{path}", path.split("/")[0], None, None) for path in paths]
    return pl.DataFrame(rows, ["path", "label", "group", "split"], orient="row").cast(pl.String)


@pytest.mark.parametrize(
    ("way", "path", "group"),
    [
        ("prefix:1", "pore/S1_p0403_b01.jpg", "S1"),
        ("prefix:2", "pore/S1_p0403_b01.jpg", "S1_p0403"),
        ("prefix:3", "pore/S1_p0403_b01.jpg", "S1_p0403_b01"),
        ("prefix:2", "pore/Pipe 7 - run 12.tiff", "Pipe 7"),
        ("prefix:1", "pore/__weld12__3.jpg", "weld12"),
        ("prefix:2", "pore/a.b.c.jpg", "a.b"),
        ("prefix:1", "pore/La\u0308ngs-1.jpg", "L\u00e4ngs"),
        ("prefix:1", "pore/焊缝3_1.jpg", "焊缝3"),
        ("prefix:1", "pore/S1_2", "S1"),
        ("folder", "pore/weld12/1.jpg", "weld12"),
        ("folder", "pore/weld12/left/1.jpg", "weld12"),
        ("per_image", "pore/weld12/1.jpg", "/photos/pore/weld12/1.jpg"),
    ],
)
def test_group_by(way: str, path: str, group: str) -> None:
    assert Grouping(group_by=way).add_groups(make_table(path), Path())["group"].to_list() == [group]


def test_in_a_manifest_the_folder_is_the_one_that_holds_the_photograph() -> None:
    table = make_table("pore/weld12/1.jpg").with_columns(label=pl.lit("crack"))
    assert Grouping(group_by="folder").add_groups(table, Path())["group"].to_list() == ["weld12"]


def test_the_older_keys_say_the_same() -> None:
    table = make_table("pore/S1_2.jpg", "good/S2_1.jpg")
    for new, old in (
        (Grouping(group_by="per_image"), Grouping(groups="per_image")),
        (Grouping(group_by="pattern", group_pattern=r"S\d"), Grouping(group_pattern=r"S\d")),
        (Grouping(group_by="prefix:1"), Grouping(group_pattern=r"S\d")),
    ):
        assert new.add_groups(table, Path()).equals(old.add_groups(table, Path()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_by": "prefx:1"}, r"data\.group_by=prefx:1: allowed are folder, prefix:N, .*did you mean 'prefix:N'"),
        ({"group_by": "prefix:0"}, r"data\.group_by=prefix:0: allowed are"),
        ({"group_by": "prefix:N"}, "N is a number, as in prefix:1"),
        ({"group_by": "pattern"}, "needs data.group_pattern='REGEX'"),
        (
            {"group_by": "folder", "group_pattern": "x"},
            "data.group_by=folder and data.group_pattern exclude each other",
        ),
        ({"group_by": "folder", "groups": "per_image"}, "data.group_by=folder and data.groups=per_image exclude"),
        ({"group_pattern": "x", "groups": "per_image"}, "data.group_pattern and data.groups=per_image exclude"),
    ],
)
@pytest.mark.parametrize("source", [Folder, Manifest])
def test_mistakes(source: type[Grouping], settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source(**settings)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("column", "has no column group"),
        ("folder", r"data\.group_by=folder is not found in 4 of 4 file names:\n(  .*\n){3}  \.\.\. and 1 more\n"),
        ("prefix:3", r"data\.group_by=prefix:3 is not found in 4 of 4 file names(.|\n)*data\.group_by=prefix:1 "),
    ],
)
def test_what_the_files_do_not_have(way: str, message: str) -> None:
    table = make_table("good/S1_1.jpg", "good/S2_1.jpg", "pore/S1_2.jpg", "pore/S2_2.jpg")
    with pytest.raises(InputError, match=message):
        Grouping(group_by=way).add_groups(table, Path("photos"))


def test_groups_that_are_there_are_not_replaced() -> None:
    table = make_table("good/S1_1.jpg").with_columns(group=pl.lit("A"))
    assert Grouping(group_by="column").add_groups(table, Path()).equals(table)
    with pytest.raises(InputError, match="has a group column already"):
        Grouping(group_by="prefix:1").add_groups(table, Path())


def test_where_some_groups_are_there_no_names_are_offered() -> None:
    table = make_table("good/S1_1.jpg", "good/S2_1.jpg").with_columns(group=pl.Series(["A", None]))
    assert explain_groups(table) == "Give every row of the manifest its group, or leave the column out"


SEAMS = [
    f"{label}/S{seam}_p{photo:04}_b01.jpg" for label in ("good", "pore") for seam in (1, 2, 3) for photo in range(9)
]


AFTER_CLASS = r"(?i)^[\W_]*(?:good|pore)[\W_]+([^\W_]+)"


@pytest.mark.parametrize(
    ("paths", "keys", "first"),
    [
        # The seams come first; single photographs last, and marked.
        (SEAMS, ["prefix:1", "prefix:2"], "3 groups of 18 photographs each (S1, S2, S3)"),
        # A weld of two classes is one weld, whatever its photographs are called.
        (
            [f"{path.split('/')[0]}/{path.replace('/', '_')}" for path in SEAMS],
            [AFTER_CLASS, f"{AFTER_CLASS[:-1]}(?:[\\W_]+[^\\W_]+){{1}})"],
            "3 groups of 18 photographs each (S1, S2, S3)",
        ),
        # As many folders as welds, of something else.
        (
            [path.replace("/", f"/side{number % 3}/") for number, path in enumerate(SEAMS)],
            ["folder", "prefix:1", "prefix:2"],
            "side0, side1, side2",
        ),
        # One prefix for all.
        ([path.replace("S", "line_S") for path in SEAMS], ["prefix:2", "prefix:3"], "line_S1, line_S2, line_S3)"),
        # Folders of welds, and numbers in them.
        ([f"good/w{weld}/{shot}.jpg" for weld in range(3) for shot in range(7)], ["folder", "prefix:1"], "w0, w1, w2"),
        ([f"good/{number}.jpg" for number in range(12)], ["prefix:1"], "probably one photograph, not one weld"),
        (["good/a.jpg"], [], ""),
    ],
)
def test_names_offer_their_levels_coarsest_first(paths: list[str], keys: list[str], first: str) -> None:
    table = make_table(*paths)
    offers = offer_groups(table)
    typed = [shlex.split(offer.key)[0].removeprefix("data.").split("=", 1) for offer in offers]
    assert [value for _, value in typed] == keys
    assert first in str(offers[0] if offers else "")
    assert [offer.is_doubtful for offer in offers] == sorted(offer.is_doubtful for offer in offers)
    # What is offered can be typed.
    for offer, (key, value) in zip(offers, typed, strict=True):
        grouped = Grouping(**{key: value}).add_groups(table, Path())["group"]
        assert grouped.n_unique() == offer.num_groups
        assert set(offer.groups) == set(tidy_all(grouped))
    assert "data.group_by=per_image, if every photograph shows a different weld" in explain_groups(table)
