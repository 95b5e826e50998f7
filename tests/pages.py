"""What every page must be: one file that loads nothing and runs nothing."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

_ACTIVE = {"script", "iframe", "link", "object", "embed"}


class Elements(HTMLParser):
    """Every tag, id and address of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "xlink:href")]


def check_page(page: str, folder: Path | None = None) -> Elements:
    """Asserts that a page runs nothing, hides nothing, and leads to nothing but its own parts.

    Args:
        folder: that of the page, if it shows the photographs in `report_files/` beside it.
    """
    elements = Elements(page)
    assert not _ACTIVE & set(elements.tags)
    assert not re.search("[\x1b\u202e]|https?://|@import", page)
    assert len(set(elements.ids)) == len(elements.ids)
    inner = {address[1:] for address in elements.addresses if address.startswith("#")}
    assert inner | set(re.findall(r"url\((.*?)\)", page.replace("url(#", "url("))) <= set(elements.ids)
    others = [each for each in elements.addresses if not each.startswith(("#", "data:image/jpeg;base64,"))]
    assert all(folder and re.fullmatch(r"report_files/\d+\.jpg", each) for each in others), others
    assert all(folder and (folder / each).is_file() for each in others)
    return elements


_AXE = """const done = arguments[arguments.length - 1];
axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}).then(({violations}) => done(violations.map(
  ({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)} ${nodes[0].failureSummary} (${nodes.length})`)));"""


def check_accessible(browser: "WebDriver") -> None:
    """Asserts that axe-core finds nothing against WCAG 2.2 AA in the open page: wide and narrow, light and dark."""
    browser.execute_script(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    for width in (1280, 390):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            found = browser.execute_async_script(_AXE)
            assert found == [], f"{width} pixels, {scheme}: " + "\n".join(found)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
