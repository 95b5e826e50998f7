"""The page and the terminal text of an audit: hostile names stay names, nothing is loaded, nothing grows endless."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from drawing import draw_blobs, draw_noise, make_table, save_image
from pages import check_accessible, check_page
from PIL import Image
from rich.console import Console

from weldnet.audit.audit import Audit, audit
from weldnet.audit.findings import Finding
from weldnet.data.decode.images import Geometry
from weldnet.data.sources.found import Found
from weldnet.errors import InputError
from weldnet.report.album import Album
from weldnet.report.audit_page import judge, list_refusals, render_page
from weldnet.report.audit_report import print_audit, save_audit, summarise
from weldnet.report.audit_tables import tabulate_groups
from weldnet.report.kinds import KINDS, group_findings
from weldnet.report.words import common_folder
from weldnet.spelling import make_visible

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

HOSTILE = (
    "<script>alert(1)</script>",
    "a'\"><img src=x onerror=alert(2)>",
    "[red]b[/red]",
    "\x1b[2Jc",
    "\u202egnp.d",
    "e\nf",
)


@pytest.fixture
def hostile(tmp_path: Path) -> Audit:
    """Six images, three of them alike, with hostile names, classes and groups."""
    rows = []
    for number, name in enumerate(HOSTILE):
        label = HOSTILE[number % 2].replace("/", "")
        file = save_image(tmp_path / label / f"{name.replace('/', '')}.png", draw_blobs(30, 20 + number, number % 3))
        rows.append((str(file), label, name, ("train", "test")[number % 2]))
    return audit(Found(make_table(rows)))


def test_the_page_of_hostile_names(hostile: Audit, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    save_audit(hostile, tmp_path / "out")
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    elements = check_page(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "\\x1b[2Jc" in page
    assert elements.tags.count("img") == len([each for each in elements.addresses if each.startswith("data:")]) > 0
    paths = {
        path for one in json.loads((tmp_path / "out" / "audit.json").read_text())["findings"] for path in one["paths"]
    }
    assert paths <= set(hostile.images["path"])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json"]


def test_the_terminal_obeys_no_name(hostile: Audit) -> None:
    stream = io.StringIO()
    print_audit(hostile, Console(file=stream, width=400))
    printed = stream.getvalue()
    assert not re.search("[\x1b\u202e]", printed)
    assert r"\x1b[2Jc" in printed
    assert "[red]b[red].png" in printed


def finding(kind: str = "exact_duplicate", severity: str = "warning", *paths: str) -> Finding:
    return Finding(kind, severity, paths, "something")  # type: ignore[arg-type]


def audit_of(path: Path, findings: list[Finding]) -> Audit:
    """An audit of one picture with made-up findings."""
    save_image(path, draw_noise(200, 200))
    known = audit(Found(make_table([(str(path), "crack", "seam1", "train")])))
    return Audit(known.images, findings, known.alike, Geometry())


def test_many_findings_and_many_paths_are_counted_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    many = audit_of(path, [finding("exact_duplicate", "warning", *[str(path)] * 1000)] * 5000)
    page = render_page(many, summarise(many))
    assert len(page) < 15_000_000
    assert "and 994 more" in page
    assert "4,976 more of this kind" in page
    stream = io.StringIO()
    print_audit(many, Console(file=stream, width=200))
    lines = stream.getvalue().splitlines()
    assert len(lines) < 30
    assert any("and 4,988 more" in line for line in lines)


def test_photographs_end_where_the_room_does(tmp_path: Path) -> None:
    image = Image.fromarray(draw_noise(400, 300))
    album = Album(bytes_left=1)
    first = album.embed(image, 160 * 160, 160)
    assert first is not None
    assert first.source.startswith("data:image/jpeg;base64,")
    assert album.is_full
    assert album.embed(image, 160 * 160, 160) is None


def test_a_photograph_that_is_gone_leaves_its_words(tmp_path: Path) -> None:
    found = audit_of(tmp_path / "a.png", [finding("clipped", "warning", str(tmp_path / "a.png"))])
    (tmp_path / "a.png").unlink()
    page = render_page(found, summarise(found))
    assert "<img" not in page
    assert page.count("no picture") == 2
    assert "<bdi>a.png</bdi>" in page


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "Nothing found here"),
        ([finding("wrong_extension")], "read the warnings"),
        ([finding("size_predicts_class"), finding()], "the cut of the picture, not the defect"),
        ([finding("size_predicts_class"), finding("same_view")], "would measure memory"),
        ([finding("unreadable", "error")], "Training would stop"),
        ([finding("cross_label_duplicate", "error"), finding("unreadable", "error")], "two labels"),
        ([finding("group_leak", "error"), finding("cross_label_duplicate", "error")], "too high"),
    ],
)
def test_the_verdict_states_how_far_to_trust_a_score(tmp_path: Path, found: list[Finding], message: str) -> None:
    status, sentence = judge(audit_of(tmp_path / "a.png", found))
    assert message in sentence
    is_wrong = any(one.severity == "error" for one in found)
    assert status == ("not_fit" if is_wrong else "not_proven" if found else "fit")


def test_the_verdict_agrees_with_what_training_would_do(tmp_path: Path) -> None:
    found = audit_of(tmp_path / "a.png", [finding("unreadable", "error")])
    assert judge(replace(found, refusals={"train": InputError("it cannot be read")}))[0] == "not_fit"
    status, sentence = judge(replace(found, refusals={"train": None}))
    assert (status, "Training takes these data" in sentence) == ("not_proven", True)


def test_findings_are_listed_by_what_they_do_to_a_test_score() -> None:
    found = [
        finding("multi_page", "note"),
        finding("near_duplicate", "note"),
        finding("clipped"),
        finding("unreadable", "error"),
        finding("size_predicts_class"),
        finding("cross_label_view"),
        finding("near_duplicate"),
        finding("cross_split_view", "error"),
    ]
    order = [(severity, kind) for severity, kind, _ in group_findings(found)]
    assert order == [
        ("error", "cross_split_view"),
        ("warning", "near_duplicate"),
        ("note", "near_duplicate"),
        ("warning", "cross_label_view"),
        ("warning", "size_predicts_class"),
        ("error", "unreadable"),
        ("warning", "clipped"),
        ("note", "multi_page"),
    ]


def test_every_kind_is_explained() -> None:
    assert all(kind.title and kind.meaning.endswith(".") and kind.remedy.endswith(".") for kind in KINDS.values())


def test_every_kind_is_pictured_unless_nothing_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    every = audit_of(path, [finding(kind, "warning", str(path)) for kind in KINDS])
    page = render_page(every, summarise(every))
    sections = page.split("<section>")[1:]
    bare = {section.split("<code>")[-1].split("</code>")[0] for section in sections if "<img" not in section}
    assert len(sections) == len(KINDS)
    assert bare == set()
    assert "200 x 200 pixels" in sections[0]


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("<b>not a picture")
    (tmp_path / "empty.png").touch()
    files = [tmp_path / name for name in ("text.png", "empty.png", "none.png")]
    broken = audit(Found(make_table((str(file), "crack", None, None) for file in files)))
    heic = str(tmp_path / "photo.heic")
    broken = replace(broken, findings=[*broken.findings, finding("unread_format", "warning", heic)])
    page = render_page(broken, summarise(broken))
    missing = re.findall('<span class="missing">(.*?)</span>', page)
    assert sorted(missing) == [
        "no picture: 0 bytes",
        "no picture: 16 bytes, the first: 3c 62 3e 6e 6f 74 20 61 20 70 69 63 (&lt;b&gt;not a pic)",
        "no picture: no such file",
        "no picture: not decoded",
    ]


def refuse(audited: Audit, **messages: str) -> Audit:
    """The audit, with the refusal of each command; an empty one where it takes the data."""
    return replace(audited, refusals={name: InputError(text) if text else None for name, text in messages.items()})


def test_advice_is_given_once(tmp_path: Path) -> None:
    errors = {name: InputError(f"{name} needs welds.", advice="Type X, or Y") for name in ("train", "crossval")}
    told = replace(audit_of(tmp_path / "a.png", []), refusals=errors)
    brief = " needs welds. Type one of the keys above"
    listed = [words for _, words in told.group_refusals()]
    assert listed == ["train needs welds. Type X, or Y", f"crossval{brief}"]
    assert [words for _, words in told.group_refusals(is_advised=True)] == [f"train{brief}", f"crossval{brief}"]
    assert render_page(told, summarise(told)).count("Type X, or Y") == 1


def test_what_training_would_refuse_comes_before_the_findings(tmp_path: Path) -> None:
    known = audit_of(tmp_path / "a.png", [finding("group_leak", "error")])

    def render(train: str, crossval: str) -> str:
        told = refuse(known, train=train, crossval=crossval)
        return render_page(told, summarise(told)).split("<h2>")[0]

    assert "weldnet-train and weldnet-crossval take these data, in spite of the errors below" in render("", "")
    assert "weldnet-train and weldnet-crossval would refuse these data" in render("leaks", "leaks")
    page = render(f"leaks:\n  {tmp_path}/a &amp; <b>", "")
    assert "weldnet-train would refuse these data" in page
    assert '<p class="indented">a &amp;amp; &lt;b&gt;</p>' in page
    assert "weldnet-crossval takes these data" in page
    for top in ("/", "/good/"):
        assert list_refusals(refuse(known, train="leaks:\n  /good/a.png in train/val"), top) == [
            (["weldnet-train"], ["Leaks:", f"  {'/good/' if top == '/' else ''}a.png in train/val"])
        ]


def test_refusals_are_sentences_and_keys_are_code(tmp_path: Path) -> None:
    known = audit_of(tmp_path / "a.png", [])
    refusals = {
        "no image in val (data.shares, or <b>)": "No image in val (<code>data.shares</code>, or &lt;b&gt;).",
        "4 groups: type data.group_pattern='b; c'.": "4 groups: type <code>data.group_pattern=&#39;b; c&#39;</code>.",
        "a larger data.shares.val; data.groups.": "A larger <code>data.shares.val</code>; <code>data.groups</code>.",
        "data.window=[0, 9] is dark; good/a.png": "<code>data.window=[0, 9]</code> is dark; good/a.png.",
        "type data=folder data.root=a": "Type <code>data=folder</code> <code>data.root=a</code>.",
        "'data.group_pattern=(a|b)_(c)' 4 groups": "<code>&#39;data.group_pattern=(a|b)_(c)&#39;</code> 4 groups.",
        "good/a.png: audit.suggest_split=X.csv, or": "good/a.png: <code>audit.suggest_split=X.csv</code>, or.",
    }
    for refusal, shown in refusals.items():
        told = refuse(known, train=refusal)
        assert f"<p>{shown}</p>" in render_page(told, summarise(told))


def test_names_are_made_visible() -> None:
    assert make_visible("Schweißnaht 1 (ü).jpg") == "Schweißnaht 1 (ü).jpg"
    assert make_visible("a\x1b\u202eb\n") == r"a\x1b\u202eb\n"
    assert common_folder(["/a/b/c.png", "/a/bd/e.png"]) == "/a/"
    assert common_folder(["/c.png", "/d.png"]) == "/"


def test_groups_are_tabulated_with_their_splits() -> None:
    rows = [(f"/{i}", "ab"[i % 2], f"g{i % 30:02}", "train") for i in range(120)] + [("/t", "b", "g00", "test")]
    (head, (first, second)), left = tabulate_groups(make_table(rows)) or pytest.fail("groups are known")
    assert (len(head), left, first[0], second[0]) == (25, 6, "a", "b")
    assert head[1] == ("g00", ["test", "train"], None)
    assert (first[1], second[1]) == (("4", (), 4 / 60), ("1", (), 1 / 61))
    assert tabulate_groups(make_table([(f"/{i}", "a", f"/{i}", None) for i in range(4)])) is None
    assert tabulate_groups(make_table([("/1", "a", None, None)])) is None


@pytest.mark.slow
def test_axe_finds_nothing_on_the_page_of_every_kind(browser: "WebDriver", tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    every = audit_of(path, [finding(kind, "warning", str(path)) for kind in KINDS])
    # One class of one group, so that a cell is as dark as any.
    cells = [("crack", "A"), ("pore", "A"), ("pore", "B"), ("pore", "a group with a long name " * 5)]
    labels = make_table((str(path), label, group, "train") for label, group in cells)
    images = pl.concat([every.images.drop(labels.columns)] * 4).hstack(labels)
    every = replace(
        every, images=images, refusals={"train": InputError("these data leak:\n  1 group"), "crossval": None}
    )
    page = tmp_path / "audit.html"
    page.write_text(render_page(every, summarise(every)), "utf-8")
    browser.get(page.as_uri())
    check_accessible(browser)
