"""The report in a browser: accessible, filtered without a script, and printed on few pages."""

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import check_accessible
from report_pages import HISTORY, make_report, save

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.slow

CLASSES = ("good", "crack", "surface pore", "undercut", "spatter", "burn-through")
MORE = {"history": HISTORY, "provenance": {"trained_epochs": 2}}
SHOWN = """return [...document.querySelectorAll(".photo")].filter(each => getComputedStyle(each).display != "none")
  .map(each => [each.dataset.kind, +each.dataset.label, each.dataset.verdict, each.dataset.weld, each.dataset.cell])"""


def test_axe_finds_nothing(browser: "WebDriver", tmp_path: Path) -> None:
    report, gallery = make_report(60, CLASSES, welds=12)
    save(report | MORE, gallery, tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    check_accessible(browser)


def test_the_page_is_filtered_and_printed(browser: "WebDriver", tmp_path: Path) -> None:
    from selenium.webdriver.support.select import Select

    report, gallery = make_report(1000, CLASSES, welds=40, skill=3.3)
    wrong = len(gallery.ranked.filter(kind="right"))
    save(report | MORE, gallery, tmp_path)
    assert 20 <= 1000 - wrong <= 60
    page = (tmp_path / "report.html").as_uri()

    browser.get(page)
    shown = browser.execute_script(SHOWN)
    assert {kind for kind, *_ in shown} == {"escape", "mistake"}
    assert len(shown) == 1000 - wrong
    for select, value, holds in (
        ("by-kind", "all", lambda card: True),
        ("by-label", "0", lambda card: card[1] == 0),
        ("by-verdict", "accept", lambda card: card[2] == "accept"),
        ("by-weld", "7", lambda card: card[3] == "7"),
    ):
        Select(browser.find_element("id", select)).select_by_value(value)
        every, shown = shown, browser.execute_script(SHOWN)
        assert shown
        assert all(map(holds, shown)), select
        assert len(shown) < len(every) or select == "by-kind"

    browser.get(f"{page}#cell-0-0")
    browser.refresh()
    cells = {cell for *_, cell in browser.execute_script(SHOWN)}
    assert cells == {"0-0"}, "a number of the matrix leads to its photographs, whatever the filters"

    settings = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", settings)["data"])
    assert len(re.findall(rb"/Type /Page\b", pdf)) <= 8
