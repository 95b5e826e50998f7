"""The ensemble that weldnet-crossval leaves, through the commands that take it as one model."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from calling import call, exit_code, refuse
from drawing import draw_noise, write_welds
from numpy.typing import NDArray
from scipy.stats import binom
from serving import Client
from trained import CLASSES, DECISION, QUIET

from weldnet.data.decode.images import to_geometry
from weldnet.data.splits.leaks import fingerprint, fingerprint_names
from weldnet.errors import InputError
from weldnet.evaluation.decision import BOUND_OF_MEMBERS, choose_operating_point
from weldnet.explain.attribution import attribute, explain_images, scale_evidence
from weldnet.inference.checkpoint import RECORD, file_digest, load_checkpoint
from weldnet.inference.finished_runs import kept_checkpoint
from weldnet.inference.predictor import Predictor, load_engine
from weldnet.inference.torch_engine import TorchEngine
from weldnet.model.classifier import WeldClassifier
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords
from weldnet.training.crossval_report import read_folds
from weldnet.training.fold_ensemble import write_ensemble

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

FOLDS = range(3)
TARGETS = {"max_escape_rate": 0.25, "max_false_reject_rate": 0.25, "confidence": 0.8}
"""As `DECISION` types them."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`welds`, their cross-validation `cv`, and `others`, welds that none of its members has seen."""
    home = tmp_path_factory.mktemp("home")
    write_welds(home / "welds", CLASSES, seams=range(12), shots=4)
    write_welds(home / "others", CLASSES, seams=range(50, 54), shots=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("WELDNET_CACHE", str(home / "cache"))
        call("crossval", *QUIET, *DECISION, f"num_folds={len(FOLDS)}", "trainer.max_epochs=2", "output_dir=cv")
    return home


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with links to what stands in `home`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WELDNET_CACHE", str(home / "cache"))
    for name in ("welds", "others", "cv"):
        (tmp_path / name).symlink_to(home / name)
    return tmp_path


@pytest.fixture(scope="module")
def engine(home: Path) -> TorchEngine:
    return TorchEngine(load_checkpoint(kept_checkpoint(home / "cv")), "cpu")


@pytest.fixture(scope="module")
def members(home: Path) -> list[TorchEngine]:
    return [TorchEngine(load_checkpoint(kept_checkpoint(home / "cv" / f"fold_{fold}")), "cpu") for fold in FOLDS]


@pytest.fixture(scope="module")
def images(home: Path, engine: TorchEngine) -> NDArray[np.uint8]:
    """Welds that no member has seen, and noise."""
    files = sorted((home / "others").rglob("*.jpg"))
    welds = [to_geometry(file.read_bytes(), engine.facts.geometry)[0] for file in files]
    noise = [draw_noise(32, 16, seed=seed).transpose(2, 0, 1) for seed in range(4)]
    return np.stack([*welds, *noise])


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def read_rows(folder: Path) -> pl.DataFrame:
    return pl.read_csv(folder / "predictions.csv")


def test_it_scores_as_its_members_do_together(
    engine: TorchEngine, members: list[TorchEngine], images: NDArray[np.uint8]
) -> None:
    scores = [member.score(images) for member in members]
    own = engine.score(images)
    np.testing.assert_allclose(own.probabilities, np.mean([each.probabilities for each in scores], axis=0), atol=1e-6)
    np.testing.assert_allclose(own.distances, np.mean([each.distances for each in scores], axis=0), rtol=1e-5)
    assert len({each.distances.tobytes() for each in scores}) == len(FOLDS), "else a mean would show nothing"


def find_threshold(scores: NDArray[np.float64], max_rate: float, confidence: float) -> float:
    """The lowest threshold down to which each one holds a rate, by trying them all."""
    found = np.inf
    for threshold in sorted(scores, reverse=True):
        if binom.cdf((scores > threshold).sum(), len(scores), max_rate) > 1 - confidence:
            break
        found = threshold
    return float(found)


def test_its_thresholds_are_those_of_the_pooled_scores_of_unseen_welds(
    home: Path, engine: TorchEngine, members: list[TorchEngine]
) -> None:
    tables = [read_rows(home / "cv" / f"fold_{fold}") for fold in FOLDS]
    for member, table in zip(members, tables, strict=True):
        assert not np.isin(fingerprint_names(table["group"]), member.checkpoint.card.groups).any()
    pooled = pl.concat(tables)
    assert sorted(pooled["path"]) == sorted(map(str, (home / "welds").rglob("*.jpg")))
    sound, is_defect = pooled["p_good"].to_numpy(), (pooled["label"] == "pore").to_numpy()
    point = engine.facts.point
    assert point.accept_above == pytest.approx(max(0.5, find_threshold(sound[is_defect], 0.25, 0.8)))
    assert point.reject_below == pytest.approx(min(0.5, -find_threshold(-sound[~is_defect], 0.25, 0.8)))
    expected = choose_operating_point(sound, is_defect, ["good"], **TARGETS)
    assert point.reasons == (*expected.reasons, BOUND_OF_MEMBERS)
    assert (point.num_defects, point.num_sound) == (is_defect.sum(), (~is_defect).sum()) == (48, 48)


def test_it_knows_what_any_member_has_seen(home: Path, engine: TorchEngine, members: list[TorchEngine]) -> None:
    card, cards = engine.checkpoint.card, [member.checkpoint.card for member in members]
    every_image = {fingerprint(file.read_bytes()) for file in (home / "welds").rglob("*.jpg")}
    assert set(card.validation_fingerprints.tolist()) == every_image
    assert set(card.fingerprints.tolist()) == set().union(*(each.fingerprints.tolist() for each in cards))
    assert len(card.groups) == 12
    assert card.members == [member.checkpoint.digest for member in members]


def test_its_heatmap_is_the_mean_of_its_members(
    engine: TorchEngine, members: list[TorchEngine], images: NDArray[np.uint8]
) -> None:
    pixels, targets = torch.from_numpy(images), torch.ones(len(images), dtype=torch.int64)
    evidence = []
    for member in members:
        backbone, trunk = member.network.backbone, member.network.trunk
        layer = trunk.get_submodule(backbone.layers[backbone.layer])
        found = attribute(member.network, layer, pixels, targets, "hires_cam", backbone.to_map)
        evidence.append(found / member.facts.temperature)
    expected = scale_evidence(torch.stack(evidence).mean(dim=0), pixels.shape[2:])
    found_maps, resolution = explain_images(engine.network, pixels, targets)
    np.testing.assert_allclose(found_maps, expected.maps, atol=1e-4)
    assert resolution == expected.resolution


def test_every_command_takes_it_as_one_model(here: Path) -> None:
    call("predict", "ckpt_path=cv", "source=others", "output_dir=predicted", "explain=worst")
    call("export", "ckpt_path=cv", "format=onnx", "export.input=fixed", "output_dir=onnx")
    call("predict", "ckpt_path=onnx", "source=others", "output_dir=exported")
    call("explain", "ckpt_path=cv", "source=others/pore", "output_dir=heatmaps")
    assert len(list((here / "heatmaps").rglob("*.png"))) == 12
    rows, exported = (read_rows(here / name) for name in ("predicted", "exported"))
    assert len(list((here / "predicted" / "explained").rglob("*.png"))) == 24
    assert {"accept", "refer"} <= {*rows["verdict"]}
    files = [(Path(path).name, Path(path).read_bytes()) for path in rows["path"]]
    engine = load_engine("cv")
    with (
        Predictor(engine, 1) as predictor,
        DecisionRecords(here / "a.jsonl", engine.facts) as records,
        Client(create_app(predictor, records, Limits())) as client,
    ):
        results, model = client.send(*files).json()["results"], client.ask("/model").json()
    assert model["explains"]
    for answers in (exported, pl.DataFrame([each | {"p_good": each["probabilities"]["good"]} for each in results])):
        np.testing.assert_allclose(answers["p_good"], rows["p_good"], atol=1e-5)
        assert answers["verdict"].to_list() == rows["verdict"].to_list()
    cards = [model, read(here / "onnx" / "model.json"), read(here / "predicted" / "judged_by.json")]
    assert all(BOUND_OF_MEMBERS in card["point"]["reasons"] for card in cards)


def test_images_that_no_member_has_seen_test_it(here: Path) -> None:
    others = ["data=folder", "data.root=others", r"data.group_pattern=seam\d+"]
    call("test", "ckpt_path=cv", *others, "output_dir=tested")
    report, page = read(here / "tested" / "report.json"), (here / "tested" / "report.html").read_text()
    assert (report["num_images"], report["num_trained_on"], report["leaks"]) == (24, 0, [])
    assert report["validation_groups"] == "out_of_fold"
    assert BOUND_OF_MEMBERS in report["statements"]
    assert page.count(BOUND_OF_MEMBERS[1:]) == 1, "beside the thresholds"
    call("test", "ckpt_path=[cv,cv/fold_0]", *others, "decision.max_escape_rate=0.5", "output_dir=compared")
    point = read(here / "compared" / "a" / "report.json")["operating_point"]
    assert point["max_escape_rate"] == 0.5
    assert point["reasons"][-1] == BOUND_OF_MEMBERS


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["test", "ckpt_path=cv"], "cv/crossval.json has the figures of each member"),
        (["test", "ckpt_path=cv", "split=train"], "type images that none of them has seen: data=folder data.root=DIR"),
        (["test", "ckpt_path=[cv/fold_0,cv]"], "is the ensemble of a cross-validation"),
        (["test", "ckpt_path=cv", "data=folder", "data.root=welds"], "images of the test trained the network"),
        (["export", "ckpt_path=cv", "format=openvino_int8"], "not for an ensemble of 3 test_resnet"),
        (["train", "ckpt_path=cv"], "resume it by weldnet-crossval"),
        (["train", "ckpt_path=cv/checkpoints/ensemble.ckpt"], "resume it by weldnet-crossval"),
    ],
)
def test_what_does_not_suit_an_ensemble_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    before = sorted(here.iterdir())
    assert message in refuse(capsys, *typed)
    assert sorted(here.iterdir()) == before


def test_it_is_no_single_module(home: Path) -> None:
    with pytest.raises(InputError, match="ensemble, not one network"):
        WeldClassifier.load_from_checkpoint(kept_checkpoint(home / "cv"))


def test_it_is_made_of_finished_folds_without_their_images(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a run that an older version finished."""
    monkeypatch.chdir(home)
    file = home / "cv" / "checkpoints" / "ensemble.ckpt"
    before = load_checkpoint(file)
    file.unlink()
    message = refuse(capsys, "predict", "ckpt_path=cv", "source=others")
    assert f"finish it by weldnet-crossval ckpt_path={home / 'cv'}, or name one of its folds" in message
    assert exit_code("predict", "ckpt_path=cv/fold_0", "source=others") == 0
    (home / "welds").rename(home / "gone")
    try:
        capsys.readouterr()
        call("crossval", "ckpt_path=cv")
        printed = capsys.readouterr().out
        assert "epoch" not in printed
        assert "weldnet-predict ckpt_path=cv source=DIR" in printed
        page = home / "cv" / "crossval.html"
        page.unlink()
        for is_complete in (False, True):
            # As a kill leaves it that comes after the last file.
            (home / "cv" / ".lock").touch()
            call("crossval", "ckpt_path=cv")
            assert not (home / "cv" / ".lock").exists()
            assert ("nothing was done" in capsys.readouterr().out) == is_complete
            assert page.is_file()
    finally:
        (home / "gone").rename(home / "welds")
    after = load_checkpoint(file)
    assert after.card.point == before.card.point
    assert all(torch.equal(value, before.weights[name]) for name, value in after.weights.items())


Change = Callable[[Path], None]


def edit(name: str, old: str, new: str) -> Change:
    """Changes a text in a file of fold 1."""

    def change(cv: Path) -> None:
        file = cv / "fold_1" / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


def rewrite(cv: Path) -> None:
    file = cv / "fold_1" / "checkpoints" / "best.ckpt"
    torch.save(torch.load(file, weights_only=True) | {"epoch": 7}, file)


def change_card(point: Mapping[str, Any], **fields: Any) -> Change:
    """Fold 1 as if other things stood in its operating point and its card when it was tested."""

    def change(cv: Path) -> None:
        file, metrics = cv / "fold_1" / "checkpoints" / "best.ckpt", cv / "fold_1" / "metrics.json"
        content = torch.load(file, weights_only=True)
        content[RECORD]["judge"]["point"] |= point
        content[RECORD] |= fields
        torch.save(content, file)
        metrics.write_text(json.dumps(read(metrics) | {"checkpoint_digest": file_digest(file)}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite, "best.ckpt is not as it was tested; to test it again, remove metrics.json in .*fold_1"),
        (change_card({}, judge=None), "best.ckpt is not as it was tested"),
        (change_card({}, channels_last=False), "differ in their channels_last"),
        (change_card({"confidence": 0.7}), "have different targets"),
        (lambda cv: (cv / "fold_1" / "checkpoints" / "best.ckpt").write_bytes(b"half"), "truncated"),
        (edit("predictions.csv", "p_pore", "p_crack"), "predictions.csv of a fold is damaged"),
        (edit("predictions.csv", "0.", "1."), "do not sum to 1"),
        (edit("predictions.csv", "good,seam", "sound,seam"), "predictions.csv of a fold is damaged"),
    ],
)
def test_damaged_folds_make_no_ensemble(home: Path, tmp_path: Path, change: Change, message: str) -> None:
    cv = tmp_path / "cv"
    shutil.copytree(home / "cv", cv)
    change(cv)
    folders = {fold: cv / f"fold_{fold}" for fold in FOLDS}
    with pytest.raises(InputError, match=message):
        write_ensemble(read_folds(folders, len(FOLDS)), folders, tmp_path / "ensemble.ckpt")
    assert not (tmp_path / "ensemble.ckpt").exists()


def drop_member(content: dict[str, Any]) -> None:
    for name in [name for name in content["state_dict"] if ".members.1." in name]:
        del content["state_dict"][name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_member, "its weights do not fit its test_resnet; the file is damaged"),
        (lambda content: content[RECORD].update(members=[]), "a different number of members"),
        (lambda content: content[RECORD].update(members=["a"] * 1001), "at most 1000"),
        (lambda content: content[RECORD]["judge"].update(novelty=()), "at least 1"),
        (lambda content: content[RECORD]["judge"].update(novelty="none"), "judge"),
    ],
)
def test_a_damaged_ensemble_is_one_message(
    home: Path, here: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = torch.load(kept_checkpoint(home / "cv"), weights_only=True)
    change(content)
    torch.save(content, here / "a.ckpt")
    assert message in refuse(capsys, "predict", "ckpt_path=a.ckpt", "source=others")
