"""Class names and the numbers of ISO 6520-1."""

from pathlib import Path

import pytest

from weldnet.data.sources.vocabulary import BUILT_IN, describe_classes, read_vocabulary
from weldnet.errors import InputError
from weldnet.synthetic.drawn_set import CLASSES

ISO_6520 = {"crack": 100, "surface_pore": 2017, "undercut": 501, "spatter": 602, "burn_through": 510}
HEADER = "label,iso_6520_1,name\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "words.csv"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("label", CLASSES)
def test_synthetic_classes_are_built_in(label: str) -> None:
    number = ISO_6520.get(label)
    name = label.replace("_", "-" if label == "burn_through" else " ")
    assert describe_classes([label]) == ({label: f"ISO 6520-1 no. {number}, {name}"} if label != "no_defect" else {})


@pytest.mark.parametrize("label", ["surface pore", "Surface Pore", "surface_pore", "SURFACE-PORE", " SurfacePore "])
def test_spellings(label: str) -> None:
    assert describe_classes([label]) == {label: "ISO 6520-1 no. 2017, surface pore"}


@pytest.mark.parametrize("label", ["no_defect", "good", "", "pores"])
def test_no_number_is_guessed(label: str) -> None:
    assert describe_classes([label]) == {}


def test_numbers_are_stated_once() -> None:
    numbers = [text.partition(",")[0] for text in BUILT_IN.values()]
    assert len(set(numbers)) == len(numbers) == 27


def test_file_adds_and_overrides(tmp_path: Path) -> None:
    text = 'note,label,iso_6520_1,name\n,Poren, 2017 ,surface pore\n,,,\nmine,crack,104,"crater crack"\n'
    vocabulary = read_vocabulary(write(tmp_path, text))
    assert describe_classes(["poren", "Crack", "burn_through"], vocabulary) == {
        "poren": "ISO 6520-1 no. 2017, surface pore",
        "Crack": "ISO 6520-1 no. 104, crater crack",
        "burn_through": "ISO 6520-1 no. 510, burn-through",
    }
    assert describe_classes(["crack"]) == {"crack": "ISO 6520-1 no. 100, crack"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["cannot be read as CSV", "words.csv"]),
        ("label\tiso_6520_1\tname\n", ["no column label", "label,iso_6520_1,name"]),
        ("label,name\ncrack,crack\n", ["no column iso_6520_1", "label, name"]),
        (HEADER + "crack,100,crack\ngood,,\n", ["row 3", "label=good", "leave out"]),
        (HEADER + "crack,1OO,crack\n", ["row 2", "1OO", "3 or 4 digits"]),
        (HEADER + "crack,10,crack\n", ["row 2", "3 or 4 digits"]),
        (HEADER + "crack,700,crack\n", ["row 2", "the first 1 to 6"]),
        (HEADER + "\nmy crack,100,crack\nMy_Crack,101,crack\n", ["row 4", "more than one row"]),
    ],
)
def test_faults_name_file_and_row(tmp_path: Path, text: str, words: list[str]) -> None:
    file = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_vocabulary(file)
    assert all(word in str(caught.value) for word in [str(file), *words]), caught.value


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no vocabulary at"):
        read_vocabulary(tmp_path / "none.csv")
