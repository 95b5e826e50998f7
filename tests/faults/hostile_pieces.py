"""What people, programs and attackers put into manifests, folders and command lines, in pieces for Hypothesis."""

import os
import shutil
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st

SEAM = "Längsriss"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, SEAM) for form in ("NFC", "NFD"))
NAMES = (
    *(COMPOSED, DECOMPOSED, "\u202egood", "good ", " good", "GOOD", "Crack", "\ufeffgood", "go\u200bod"),
    *("good\u00a0", "😀", "a\rb", "a\nb", "a\tb", 'a"b', "a'b", "a,b", "a;b", "a\\b", "a=b", "a#b", "a%20b"),
    *("`id`", "$(id)", "\x1b[31mred", "${oc.env:HOME}", "${data.root}", "${", "{a: b}", "[a]", "[a", "*", "?"),
    *("**", "~x", "-", "--help", "-c", ".", "data.root=x", "null", "nan", "true", "0", "01", "1e9", "=1+1"),
    *("Training", "testing", "val", "@eaDir", "x" * 200),
)  # fmt: skip
"""Names of classes, groups, folders and files; those of files get an ending."""

CELLS = (*NAMES, "", " ", "\0", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "/", "..", "x" * 100_000, '"')
LABELS = ("good", "crack")
SPLITS = ("train", "val", "test", "Train ", "VALID", "", "none", "train;test")
HEADERS = (
    ("path", "label", "group", "split"),
    ("path", "label"),
    ("path", "label", "group"),
    (" Path ", "LABEL", "Group", "split"),
    ("label", "path", "note", "split"),
    ("path", "label", "path", "split"),
    ("path", "", "", "label"),
    ("file", "class"),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1")
ENDINGS = (".jpg", ".JPG", ".png", "", ".jfif", ".jpg ", ".txt", ".dcm")
KINDS = ("image", "image", "image", "empty", "garbage", "loop", "up", "pipe", "folder", "closed")

Entry = tuple[tuple[str, ...], str]
"""Where something lies below a folder, and what it is, of `KINDS`."""


def mostly(usual: Sequence[str], hostile: Sequence[str]) -> st.SearchStrategy[str]:
    """Three times in four a usual piece: where all is hostile the first check refuses everything."""
    return st.integers(0, 3).flatmap(lambda draw: st.sampled_from(usual if draw else hostile))


@st.composite
def manifests(draw: st.DrawFn, images: Sequence[str]) -> bytes:
    """A manifest of some of these paths and some that do not exist."""
    header = draw(st.sampled_from(HEADERS))
    pieces = {"label": mostly(LABELS, CELLS), "split": mostly(SPLITS[:3], SPLITS), "path": mostly(images, CELLS)}
    groups = mostly(["w1", "w2", "w3", "w4"], CELLS)
    rows = [header]
    for path in draw(st.lists(st.sampled_from(images), max_size=len(images), unique=True)):
        usual = {"path": path, "label": draw(st.sampled_from(LABELS)), "group": draw(groups), "split": "train"}
        names = [name.strip().lower() for name in header]
        odd = draw(st.integers(0, 3)) == 0
        rows.append(tuple(draw(pieces.get(name, groups)) if odd else usual.get(name, "") for name in names))
    quote = draw(st.sampled_from(["right", "right", "never"]))
    comma = draw(st.sampled_from([",", ",", ",", ";", "\t"]))

    def show(cell: str) -> str:
        return cell if quote == "never" or not set('",\r\n') & set(cell) else '"' + cell.replace('"', '""') + '"'

    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(comma.join(map(show, row)) for row in rows) + draw(st.sampled_from([end, "", end * 3, '"']))
    return text.encode(draw(mostly(ENCODINGS[:1], ENCODINGS)), errors="replace")


def trees() -> st.SearchStrategy[list[Entry]]:
    """What lies in a folder of photographs, beside or among the usual class folders."""
    file_names = st.tuples(st.sampled_from(NAMES), mostly(ENDINGS[:1], ENDINGS)).map("".join)
    folders = st.lists(mostly(LABELS, NAMES), min_size=0, max_size=3)
    deep = st.sampled_from([("deep",) * 40, ("good", *("x" * 100,) * 10)])
    # Bytes that are no UTF-8, as an old system writes them.
    strange = st.just(os.fsdecode(b"\xff\xfe.jpg"))
    path = st.builds(
        lambda above, name: (*above, name), st.one_of(folders, folders, folders, deep), file_names | strange
    )
    return st.lists(st.tuples(path, st.sampled_from(KINDS)), max_size=8)


def plant(root: Path, entries: Sequence[Entry], image: Path) -> None:
    """Makes a tree; leaves out what the file system refuses."""
    for parts, kind in entries:
        target = root.joinpath(*parts)
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                target.mkdir()
            elif kind == "loop":
                target.symlink_to(target.name)
            elif kind == "up":
                target.symlink_to("..", target_is_directory=True)
            elif kind == "pipe":
                os.mkfifo(target)
            elif not target.exists():
                shutil.copy(image, target)
                if kind in ("empty", "garbage"):
                    target.write_bytes(b"\xff\xd8\xff\xe0 no picture" if kind == "garbage" else b"")
                if kind == "closed":
                    target.chmod(0)


VALUES = (
    *("nan", "inf", "-inf", "-1", "0", "1", "1e999", "1e-999", str(10**30), "0x10", "1_000", "01", "true"),
    *("null", "", " ", "[]", "{}", "[", "}", "[1,[2]]", "{a:1}", "{a:{b:2}}", "'", '"', "''", "'a", "\\"),
    *("a\\", "$", "${", "${x}", "a=b", "${oc.env:HOME}", "${output_dir}", "${data}", "${now:%Y}", "a,b", "a:b"),
    *("a b", " a", "ä", DECOMPOSED, "\u202ea", "../x", "/proc/x", "/dev/null", "*", "(", "(?P<", "x" * 10_000),
    *("[0,inf]", "[5,1]", "[nan,1]", "full", "os.system"),
)  # fmt: skip
KEYS = """
    seed test data.batch_size data.balance data.window data.groups data.group_pattern data.mixup data.shares.train
    data.shares data.augmentation data.cache data.resize data.on_unreadable data data.num_folds data.fold data.root
    model model.backbone model.weights model.freeze_through model.layer_decay model.label_smoothing optimizer
    optimizer.lr optimizer.weight_decay optimizer.eps optimizer._target_ scheduler.warmup_share scheduler
    scheduler._target_ callbacks callbacks.best callbacks.best.monitor callbacks.best.mode callbacks.best.save_top_k
    callbacks.mine._target_ logger callbacks.early_stopping.patience trainer.precision trainer.gradient_clip_val
    trainer.max_steps trainer.limit_train_batches trainer.limit_test_batches trainer.profiler trainer._target_
    trainer trainer.accelerator trainer.val_check_interval trainer.accumulate_grad_batches trainer.plugins
    decision.confidence decision.max_escape_rate evaluation.good_classes evaluation.vocabulary ckpt_path split
    source precision device explain resume num_folds optimizer.lrr a.b hydra.run.dir data.normalize
""".split()  # noqa: SIM905
WHOLE = (
    "=",
    "a",
    "==",
    "+",
    "~data",
    "~trainer.max_epochs",
    "+a",
    "--multirun",
    "-m",
    "--nonesuch",
    "--cfg",
    "-",
    "@x=1",
)


def overrides() -> st.SearchStrategy[list[str]]:
    """One to three arguments behind those that work."""
    signs = mostly([""], ["+", "++", "~"])
    pair = st.tuples(signs, st.sampled_from(KEYS), st.just("="), st.sampled_from(VALUES)).map("".join)
    return st.lists(st.one_of(pair, pair, pair, pair, st.sampled_from(WHOLE)), min_size=1, max_size=3)
