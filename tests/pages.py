"""What every page must be: one file that loads nothing and runs nothing."""

import re
from html.parser import HTMLParser
from pathlib import Path

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
