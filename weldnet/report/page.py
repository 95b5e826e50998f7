"""What all pages share: no script, nothing loaded from elsewhere, every name escaped and visible."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from weldnet.spelling import make_visible


def render(template: str, **values: Any) -> str:
    """A page, or a section of one, as HTML: every string in it is escaped and made visible.

    Args:
        template: its path below `weldnet/report`.
        values: what it names; what is HTML already is `markupsafe.Markup`.
    """
    return _load_templates().get_template(template).render(values)


@cache
def _load_templates() -> Environment:
    templates = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("weldnet", "report"),
        finalize=lambda value: make_visible(value) if type(value) is str else value,
    )
    templates.filters |= {"css": _escape_in_css, "whole": _keep_whole}
    return templates


def _keep_whole(text: str) -> Markup:
    """A text whose numbers and their % stay on one line."""
    return Markup(escape(make_visible(text)).replace(" %", Markup("&nbsp;%")))


def _escape_in_css(text: str) -> Markup:
    """A text inside a string of a style sheet, where HTML's escapes mean nothing."""
    kept = "".join(letter if letter.isalnum() or letter in "-_. " else f"\\{ord(letter):06x}" for letter in text)
    return Markup(kept)
