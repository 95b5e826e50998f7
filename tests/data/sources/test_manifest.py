"""Manifests and folders: what is read, and how each mistake is named."""

import os
import re
import unicodedata
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from drawing import SEAM, draw_noise, make_table, save_image, write_welds

from weldnet.data.sources.folders import scan_folder
from weldnet.data.sources.manifest import SCHEMA, read_manifest, write_manifest
from weldnet.data.sources.source import Grouping
from weldnet.errors import InputError


@pytest.fixture
def welds(tmp_path: Path) -> Path:
    return write_welds(tmp_path / "welds", seams=range(2), shots=1)


def write_lines(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    file = folder / "manifest.csv"
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    return file


def test_relative_and_absolute_paths(welds: Path) -> None:
    absolute = welds.parent / "elsewhere.jpg"
    absolute.touch()
    file = write_lines(
        welds, "path,label", "crack/seam0_0.jpg,crack", "./pore/../pore/seam1_0.jpg,pore", f"{absolute},pore"
    )
    table = read_manifest(file)
    assert dict(table.schema) == SCHEMA
    expected = [str(welds / "crack/seam0_0.jpg"), str(welds / "pore/seam1_0.jpg"), str(absolute)]
    assert table["path"].to_list() == expected
    assert table["group"].null_count() == table["split"].null_count() == 3


def test_relative_manifest_gives_absolute_paths(welds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(welds, "path,label", "crack/seam0_0.jpg,crack")
    monkeypatch.chdir(welds)
    assert read_manifest("manifest.csv")["path"].to_list() == [str(welds / "crack/seam0_0.jpg")]


def test_semicolons(welds: Path) -> None:
    file = write_lines(welds, "path;label", '"crack/seam0_0.jpg";"pore, small"')
    assert read_manifest(file).row(0)[:2] == (str(welds / "crack/seam0_0.jpg"), "pore, small")


def test_columns_in_any_dress(welds: Path) -> None:
    file = write_lines(
        welds,
        "camera, Label ,SPLIT,path,Group",
        "7,crack,train, crack/seam0_0.jpg ,a",
        "7,crack,Valid,crack/seam1_0.jpg,b",
        '7,pore,validation,pore/seam0_0.jpg,"c,d"',
        "7,pore,test,pore/seam1_0.jpg,d",
        encoding="utf-8-sig",
    )
    table = read_manifest(file)
    assert table.columns == list(SCHEMA)
    assert table["split"].to_list() == ["train", "val", "val", "test"]
    assert table["group"].to_list() == ["a", "b", "c,d", "d"]
    assert table["label"].to_list() == ["crack", "crack", "pore", "pore"]


def write_rows(folder: Path, text: bytes) -> pl.DataFrame:
    (folder / "manifest.csv").write_bytes(text)
    return read_manifest(folder / "manifest.csv")


@pytest.mark.parametrize(
    "text",
    [
        b"path,label\na.jpg,crack\nb.jpg,pore\n",
        b"\xef\xbb\xbfpath,label\r\na.jpg,crack\r\nb.jpg,pore\r\n",
        b'\xef\xbb\xbf"path","label"\r\n"a.jpg","crack"\r\n"b.jpg","pore"',
        b"path,label," + b",".join(b"c%d" % i for i in range(5000)) + b"\n"
        b"a.jpg,crack" + b"," * 5000 + b"\nb.jpg,pore" + b",1" * 5000,
        b"note,label,path\nx,crack,a.jpg\ny,pore,b.jpg",
    ],
    ids=["plain", "Windows", "Excel", "5,000 columns", "other order"],
)
def test_whoever_wrote_it(tmp_path: Path, text: bytes) -> None:
    table = write_rows(tmp_path, text)
    assert table.rows() == [(f"{tmp_path}/a.jpg", "crack", None, None), (f"{tmp_path}/b.jpg", "pore", None, None)]


@pytest.mark.parametrize("name", ['a "b", c.jpg', "a,b.jpg", "two\nlines.jpg", "ä (1).jpg", "a=b;c.jpg", "日本.jpg"])
def test_names_survive_a_manifest(tmp_path: Path, name: str) -> None:
    write_manifest(make_table([(str(tmp_path / name), "crack", "w,1", "train")]), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").rows() == [(str(tmp_path / name), "crack", "w,1", "train")]


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_path_is_found_composed_or_decomposed(
    tmp_path: Path, on_disk: Literal["NFC", "NFD"], written: Literal["NFC", "NFD"]
) -> None:
    file = save_image(tmp_path / f"{unicodedata.normalize(on_disk, 'Naht-ä')}.png", draw_noise(4, 4))
    name = unicodedata.normalize(written, file.name)
    (tmp_path / "welds.csv").write_text(f"path,label\n{name},crack\n", encoding="utf-8")
    assert read_manifest(tmp_path / "welds.csv")["path"].to_list() == [str(file)]


def test_names_that_are_not_utf8(welds: Path) -> None:
    os.rename(os.fsencode(welds / "crack/seam0_0.jpg"), os.fsencode(welds) + b"/crack/\xe4.jpg")
    with pytest.raises(InputError, match=r"not UTF-8.*convmv(.*\n)+.*\\xe4\.jpg"):
        scan_folder(welds)


def test_linked_folders(welds: Path, tmp_path: Path) -> None:
    (welds / "crack" / "again").symlink_to(welds / "pore")
    assert len(scan_folder(welds)) == 4
    (tmp_path / "elsewhere").mkdir()
    (welds / "crack" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"crack/out is a symbolic link that leaves"):
        scan_folder(welds)


GOOD = "crack/seam0_0.jpg,crack,train"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,class", "a.jpg,crack"], r"has no column label; its columns are path, class"),
        (["file,class", "a.jpg,crack"], r"has no column path and no column label"),
        (["path,label,split"], r"has no rows"),
        (["path,label,group", "crack/seam0_0.jpg,crack,a", "pore/seam0_0.jpg,pore,"], r"group is empty.*\n  row 3: "),
        (["path,label,split", GOOD, GOOD], r"one file in more than one row.*\n  row 2: .*\n  row 3: "),
        (["path,label,split", GOOD, ",crack,train"], r"path or label is empty:\n  row 3: "),
        (["path,label,split", GOOD, GOOD, "pore/seam0_0.jpg, ,train"], r"path or label is empty:\n  row 4: "),
        (["path,label,split", GOOD, "pore/seam0_0.jpg,pore,later"], r"split is none of train, val, test:\n  row 3: "),
        (["path,label,split", "pore/seam0_0.jpg,pore,", GOOD], r"split is empty, while other rows have one:\n  row 2"),
        (["path,label,split", GOOD, "../a.jpg,crack,train"], r"may not leave the manifest's folder.*\n  row 3: \.\./a"),
        (["path,label,split", "crack/../../welds2/a.jpg,crack,train"], r"may not leave .*\n  row 2: "),
        (["path,label,split", GOOD, "", ",crack,train"], r"path or label is empty:\n  row 4: "),
        (["path,label,split", GOOD + ",more,and more"], r"cannot be read as CSV"),
        (["path,Path,label", "a,b,c"], r"path"),
    ],
)
def test_mistakes_are_named_with_their_row(welds: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_manifest(write_lines(welds, *lines))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01\x80", b"\x89PNG\r\n\x1a\n" + bytes(range(256))])
def test_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "manifest.csv"))):
        read_manifest(tmp_path / "manifest.csv")


def test_missing_manifest_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest at"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no folder at"):
        scan_folder(tmp_path / "none")


def test_long_lists_are_cut(welds: Path) -> None:
    lines = [f"../gone{i}.jpg,crack" for i in range(50)]
    with pytest.raises(InputError, match=r"\.\.\. and 30 more") as caught:
        read_manifest(write_lines(welds, "path,label", *lines))
    assert str(caught.value).count("\n") == 21


def test_scan_classes(tmp_path: Path) -> None:
    root = write_welds(tmp_path / "welds", seams=range(2), shots=1)
    write_welds(root / "crack" / "nested", ("deeper",), seams=range(2, 4), shots=1, ending="PNG")
    for junk in ("crack/.hidden.jpg", "crack/notes.txt", ".git/a.jpg", "crack/.thumbnails/seam0_0.jpg", "top.jpg"):
        (root / junk).parent.mkdir(exist_ok=True)
        (root / junk).touch()
    table = scan_folder(root)
    expected = {
        (str(root / path), label)
        for path, label in [
            ("crack/seam0_0.jpg", "crack"),
            ("crack/seam1_0.jpg", "crack"),
            ("crack/nested/deeper/seam2_0.PNG", "crack"),
            ("crack/nested/deeper/seam3_0.PNG", "crack"),
            ("pore/seam0_0.jpg", "pore"),
            ("pore/seam1_0.jpg", "pore"),
        ]
    }
    assert set(table.select("path", "label").iter_rows()) == expected
    assert table["path"].is_sorted()
    assert table["group"].null_count() == table["split"].null_count() == len(table)


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_scan_splits(tmp_path: Path, val: str) -> None:
    for folder, seams in (("train", [0, 1]), (val, [2]), ("test", [3])):
        write_welds(tmp_path / folder, seams=seams, shots=1)
    table = scan_folder(tmp_path)
    assert table["split"].value_counts().sort("split").rows() == [("test", 2), ("train", 4), ("val", 2)]
    for path, label, _, split in table.iter_rows():
        assert f"/{val if split == 'val' else split}/{label}/" in path


def test_scan_names_the_class_without_images(tmp_path: Path) -> None:
    write_welds(tmp_path, seams=range(1))
    (tmp_path / "undercut").mkdir()
    (tmp_path / "undercut" / "a.gif").touch()
    with pytest.raises(InputError, match="no image in any split for 'undercut' "):
        scan_folder(tmp_path)


def test_scan_takes_a_class_that_one_split_lacks(tmp_path: Path) -> None:
    write_welds(tmp_path / "train", seams=range(1))
    write_welds(tmp_path / "test", ("crack",), seams=range(1))
    (tmp_path / "test" / "pore").mkdir()
    assert set(scan_folder(tmp_path).filter(split="test")["label"]) == {"crack"}


def test_scan_refuses_splits_beside_classes(tmp_path: Path) -> None:
    write_welds(tmp_path / "train", seams=range(1))
    write_welds(tmp_path, ("crack",), seams=range(1))
    with pytest.raises(InputError, match="holds the splits train and beside them crack"):
        scan_folder(tmp_path)


def test_scan_refuses_a_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="holds no class folders"):
        scan_folder(tmp_path)


NAMES = ("/x/crack/Plate-07_003.jpg", "/seam9/pore/Plate-12_001.jpg")


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"Plate-\d+", ["Plate-07", "Plate-12"]),
        (r"Plate-(\d+)", ["07", "12"]),
        (r"(?:Plate)-(\d+)_(\d+)", ["07", "12"]),
        (r"(?i)^plate", ["Plate", "Plate"]),
    ],
)
def test_group_pattern(pattern: str, groups: list[str]) -> None:
    table = make_table((path, "crack", None, None) for path in NAMES)
    assert Grouping(pattern).add_groups(table, Path())["group"].to_list() == groups


def test_group_per_image_and_untouched() -> None:
    table = make_table((path, "crack", None, None) for path in NAMES)
    assert Grouping(groups="per_image").add_groups(table, Path())["group"].to_list() == list(NAMES)
    assert Grouping().add_groups(table, Path()).equals(table)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"Plate-0\d", r"is not found in 1 of 2 file names:\n  /seam9/pore/Plate-12_001\.jpg"),
        (r"seam\d", r"is not found in 2 of 2 file names"),
        (r"Plate-(\d", r"data\.group_pattern=Plate-\(\\d is not a regular expression"),
        # Neither of these two names the weld: the first finds nothing, the second finds it in one file only.
        (r"x*", r"data\.group_pattern=x\* "),
        (r"Plate-(07)?", r"is not found in 1 of 2 file names:\n  /seam9/pore/Plate-12_001\.jpg"),
    ],
)
def test_group_pattern_mistakes(pattern: str, message: str) -> None:
    table = make_table((path, "crack", None, None) for path in NAMES)
    with pytest.raises(InputError, match=message):
        Grouping(pattern).add_groups(table, Path())


def test_round_trip(tmp_path: Path) -> None:
    table = Grouping(SEAM).add_groups(scan_folder(write_welds(tmp_path / 'a "b", c')), tmp_path)
    table = table.with_columns(split=pl.lit("train"))
    write_manifest(table, tmp_path / "split.csv")
    assert read_manifest(tmp_path / "split.csv").equals(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a "b", c', "split.csv"]
