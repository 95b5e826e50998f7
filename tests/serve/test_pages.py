"""The page in a browser, and the heatmaps of a real network."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from decoding import read_image
from drawing import draw_noise, save_image
from pages import check_accessible
from PIL import Image
from serving import CONTENT_TYPE, Brightness, Client, listening, make_body, paint, read_lines

from weldnet.explain.attribution import draw_overlay, explain_images
from weldnet.inference.prediction import Prediction
from weldnet.inference.predictor import Predictor, load_engine
from weldnet.inference.torch_engine import TorchEngine
from weldnet.report.words import percent
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef"
WORDS = {"accept": "Accept", "reject": "Reject", "refer": "Refer to an inspector"}
HOSTILE = "<img src=x onerror=alert(1)>.jpg"

DROP = """const data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(arguments[0]), (mark) => mark.charCodeAt(0))], arguments[1]));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));"""
SHORTER_SIDES = "[...document.querySelectorAll('canvas')].map((each) => Math.min(each.width, each.height)).join()"
"""Of thumbnails, which so fill their square whether wide or tall; 150 is that of a canvas without a picture."""
LOADED = "return performance.getEntriesByType('resource').map((entry) => entry.name)"


def find(browser: "WebDriver", name: str) -> "WebElement":
    return browser.find_element("id", name)


def wait_for(browser: "WebDriver", script: str) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda _: browser.execute_script(f"return {script}"))


def write_photographs(small: Path, folder: Path) -> list[Path]:
    """Some of each verdict, and one that cannot be read, under a hostile name."""
    files = [
        shutil.copy(small / "welds" / label / "seam29_0.jpg", folder / f"{label}.jpg") for label in ("good", "pore")
    ]
    noise = [save_image(folder / f"noise_{size[0]}.png", draw_noise(*size)) for size in ((40, 20), (20, 40))]
    broken = folder / HOSTILE
    broken.write_bytes(b"no image")
    return [*map(Path, files), *noise, broken]


def test_the_page_shows_what_the_predictor_says(small: Path, tmp_path: Path, browser: "WebDriver") -> None:
    from selenium.webdriver.common.keys import Keys

    files = write_photographs(small, tmp_path)
    engine = load_engine(str(small / "run"), device="cpu")
    with Predictor(engine, 2) as predictor:
        expected = list(predictor.predict_files([str(file) for file in files]))
    assert {prediction.verdict for prediction in expected} == {"accept", "reject", "refer", None}
    with listening(tmp_path / "decisions", engine, Limits()) as port:
        browser.get(f"http://127.0.0.1:{port}")
        wait_for(browser, "document.getElementById('model').textContent.length > 20")
        assert engine.facts.digest[:12] in find(browser, "model").text
        assert find(browser, "rule").text.split("\n") == engine.facts.point.describe()
        assert find(browser, "fit").text.startswith("This model does not record whether it is proven fit")
        find(browser, "choose").send_keys("\n".join(map(str, files)))
        wait_for(browser, "document.querySelectorAll('#history li').length == 5")
        wait_for(browser, "!document.querySelector('#history svg.waiting')")
        wait_for(browser, f"{SHORTER_SIDES} == '96,96,96,96,150'")
        browser.execute_script("document.querySelector('#history button').focus()")
        for prediction in expected:
            check_shown(browser, prediction)
            browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
        browser.switch_to.active_element.send_keys(Keys.HOME)
        check_review_of_referred(browser, expected, tmp_path / "decisions")
        assert find(browser, "name").text == "good.jpg"
        find(browser, "explain").click()
        wait_for(browser, "document.getElementById('overlay').naturalWidth > 0")
        assert find(browser, "heatmap").text.endswith("bright = strong. It shows the region, not the spot.")
        assert all(name.startswith((f"http://127.0.0.1:{port}/", "blob:")) for name in browser.execute_script(LOADED))
    noted = browser.get_log("browser")  # type: ignore[no-untyped-call]
    check_accessible(browser)
    complaints = [entry["message"] for entry in noted if "422" not in entry["message"]]
    assert complaints == [], "the page keeps to its own policy"


def check_review_of_referred(browser: "WebDriver", expected: list[Prediction], records: Path) -> None:
    """One button, which agrees where the class is the one that was guessed."""
    row = next(number for number, prediction in enumerate(expected) if prediction.verdict == "refer")
    history = browser.find_elements("css selector", "#history button")
    predicted = expected[row].predicted
    history[row].click()
    find(browser, "reviewer").send_keys("Kim")
    for label in sorted(expected[row].probabilities):
        find(browser, "label").find_element("css selector", f"[value={label}]").click()
        (button,) = [
            each for each in find(browser, "review").find_elements("tag name", "button") if each.is_displayed()
        ]
        assert button.text == "Record this class"
        button.click()
        wait_for(browser, f"document.getElementById('reviewed').textContent == 'Recorded by Kim: {label}.'")
        review = read_lines(records)[-1]
        assert (review["label"], review["agree"]) == (label, label == predicted)
        assert history[row].text.endswith(f"Reviewed: {label}")
    history[0].click()


def check_shown(browser: "WebDriver", prediction: Prediction) -> None:
    assert find(browser, "name").text == Path(prediction.path).name
    if prediction.verdict is None:
        assert find(browser, "verdict").text == "No verdict"
        assert find(browser, "why").text == prediction.error
        assert not find(browser, "bars").is_displayed()
        return
    assert find(browser, "verdict").text == WORDS[prediction.verdict]
    assert browser.execute_script("return document.querySelector('#verdict use').getAttribute('href')") == (
        f"#{prediction.verdict}"
    )
    assert ("unlike anything in training" in find(browser, "why").text) == prediction.unlike_training
    ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    shown = [line.text.splitlines() for line in find(browser, "bars").find_elements("tag name", "li")]
    assert shown == [[name, percent(share)] for name, share in ranked]
    assert wait_for(browser, "document.getElementById('picture').naturalWidth") in (20, 40)


def test_the_page_asks_for_the_key_and_takes_drops_and_camera_pictures(tmp_path: Path, browser: "WebDriver") -> None:
    import base64

    with listening(tmp_path / "decisions", Brightness(), Limits(), KEY) as port:
        browser.get(f"http://127.0.0.1:{port}")
        for key, asked in (
            ("wrong-wrong-wrong", "This server asks for a key."),
            ("schlüssel-schlüssel", "That is not this server's key."),
            (KEY, "That is not this server's key."),
        ):
            wait_for(browser, f'document.getElementById("asked").textContent == "{asked}"')
            wait_for(browser, "document.getElementById('ask').open")
            find(browser, "key").send_keys(key + "\n")
        wait_for(browser, "document.getElementById('model').textContent.includes('brightness')")
        browser.execute_script(DROP, base64.b64encode(paint(250)).decode(), "a\u202egnp.png")
        wait_for(browser, "document.getElementById('verdict').textContent == 'Accept'")
        assert find(browser, "name").text == "a\\u202egnp.png"
        assert "accepted" in wait_for(browser, "document.getElementById('status').textContent")
        assert not find(browser, "explains").is_displayed(), "an export explains nothing"
        assert find(browser, "heatmap").text.startswith("An export has no heatmaps")
        assert find(browser, "why").text == "Sound: 98.0 %, above the limit of 75.0 %."
        find(browser, "zoom").click()
        assert find(browser, "zoom").get_attribute("aria-pressed") == "true"
        find(browser, "reviewer").send_keys(" ")
        find(browser, "review").find_element("css selector", "[value=agree]").click()
        wait_for(browser, "document.querySelector('#reviewer:invalid') == document.activeElement")
        find(browser, "reviewer").send_keys("Kim\n")
        find(browser, "remark").send_keys("a pore\n")
        find(browser, "label").find_element("css selector", "[value=pore]").click()
        find(browser, "review").find_element("css selector", "[value=overrule]").click()
        wait_for(browser, "document.getElementById('reviewed').textContent == 'Recorded: Kim overrules the verdict.'")
        assert find(browser, "counts").text.endswith(", 1 reviewed")
        decision, review = read_lines(tmp_path / "decisions")
        assert {key: review[key] for key in ("agree", "label", "name", "remark", "request_id", "file")} == {
            "agree": False,
            "label": "pore",
            "name": "Kim",
            "remark": "a pore",
            **{key: decision[key] for key in ("request_id", "file")},
        }
        find(browser, "camera").click()
        wait_for(browser, "document.getElementById('video').videoWidth > 0")
        find(browser, "take").click()
        wait_for(browser, "document.querySelectorAll('#history li').length == 2")
        wait_for(browser, "!document.querySelector('#history svg.waiting')")
        assert find(browser, "name").text.startswith("camera_")
        find(browser, "close").click()
        assert not find(browser, "viewfinder").is_displayed()


def test_the_interface_can_be_tried_out(tmp_path: Path, browser: "WebDriver") -> None:
    (tmp_path / "a.png").write_bytes(paint(250))

    def click(selector: str) -> None:
        wait_for(browser, f"document.querySelector('{selector}')")
        browser.find_element("css selector", selector).click()

    with listening(tmp_path / "decisions", Brightness(), Limits(), KEY) as port:
        browser.get(f"http://127.0.0.1:{port}/docs")
        click("button.authorize")
        wait_for(browser, "document.querySelector('.auth-container input')")
        browser.find_element("css selector", ".auth-container input").send_keys(KEY)
        click(".auth-btn-wrapper .authorize")
        click(".auth-btn-wrapper .btn-done")
        click("#operations-default-predict .opblock-summary-control")
        click(".try-out__btn")
        wait_for(browser, "document.querySelector('input[type=file]')")
        browser.find_element("css selector", "input[type=file]").send_keys(str(tmp_path / "a.png"))
        click("button.execute")
        assert '"verdict": "accept"' in wait_for(
            browser, "document.querySelector('.live-responses-table .highlight-code')?.textContent"
        )
        assert all(name.startswith(f"http://127.0.0.1:{port}/") for name in browser.execute_script(LOADED))
    noted = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry["message"] for entry in noted if entry["level"] == "SEVERE"] == [], "it keeps to the page's policy"


def test_the_evidence_is_that_of_the_predicted_class(small: Path, tmp_path: Path) -> None:
    import torch

    photograph = small / "welds" / "pore" / "seam29_0.jpg"
    engine = load_engine(str(small / "run"), device="cpu")
    assert isinstance(engine, TorchEngine)
    with Predictor(engine, 2) as predictor, DecisionRecords(tmp_path / "decisions", engine.facts) as records:
        (prediction,) = predictor.predict_files([str(photograph)])
        with Client(create_app(predictor, records, Limits())) as client:
            assert client.ask("/model").json()["explains"] is True
            body = make_body(("a.jpg", photograph.read_bytes()))
            answer = client.ask("/explain", "POST", body, {"content-type": CONTENT_TYPE})
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
            assert answer.headers["x-evidence"] == "1"
            for files, status in (([("a", b"x")], 422), ([("a", b"x"), ("b", b"x")], 413)):
                refused = client.ask("/explain", "POST", make_body(*files), {"content-type": CONTENT_TYPE})
                assert refused.status_code == status
                assert refused.json()["error"]
    image = read_image(photograph, height=32, width=16)
    target = torch.tensor([engine.facts.classes.index(str(prediction.predicted))])
    maps, _ = explain_images(engine.network, torch.from_numpy(image[None]), target, "hires_cam", "layer2")
    drawn = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    np.testing.assert_allclose(drawn, draw_overlay(image, maps[0]).astype(int), atol=1)
    assert not (tmp_path / "decisions").read_text(), "a heatmap is no decision"


def test_a_key_dialog_that_was_left_is_made_up_for(tmp_path: Path, browser: "WebDriver") -> None:
    import base64

    from selenium.webdriver.common.keys import Keys

    engine = Brightness()
    point = replace(engine.facts.point, accept_above=None, reject_below=None)
    engine.facts = engine.facts.model_copy(update={"point": point})
    with listening(tmp_path / "decisions", engine, Limits(), KEY) as port:
        browser.get(f"http://127.0.0.1:{port}")
        wait_for(browser, "document.getElementById('ask').open")
        find(browser, "key").send_keys(Keys.ESCAPE)
        wait_for(browser, "!document.getElementById('trouble').hidden")
        browser.execute_script(DROP, base64.b64encode(paint(250)).decode(), "a.png")
        wait_for(browser, "document.getElementById('ask').open")
        find(browser, "key").send_keys(KEY + "\n")
        wait_for(browser, "document.getElementById('model').textContent.includes('brightness')")
        wait_for(browser, "document.getElementById('trouble').hidden")
        assert find(browser, "fit").text == "Not fit to decide alone: every photograph goes to an inspector."
        assert find(browser, "rule").text.startswith("Every photograph is referred to an inspector.")


def test_the_page_reports_that_there_is_no_evidence_for_a_class(
    small: Path, tmp_path: Path, browser: "WebDriver"
) -> None:
    engine = load_engine(str(small / "run"), device="cpu")
    assert isinstance(engine, TorchEngine)
    engine.network.head.weight.data.zero_()
    with listening(tmp_path / "decisions", engine, Limits()) as port:
        browser.get(f"http://127.0.0.1:{port}")
        wait_for(browser, "document.getElementById('model').textContent.length > 20")
        find(browser, "choose").send_keys(str(write_photographs(small, tmp_path)[0]))
        wait_for(browser, "document.getElementById('explains').checkVisibility()")
        find(browser, "explain").click()
        wait_for(browser, "document.getElementById('overlay').naturalWidth > 0")
        name = max(zip(engine.network.head.bias.tolist(), engine.facts.classes, strict=True))[1]
        assert find(browser, "heatmap").text == f"What the network sees, twice: no evidence for {name} was found."
