"""What all pages share: no script, nothing loaded from elsewhere, every name escaped and visible."""

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from weldnet.spelling import make_visible

_KEY = re.compile(
    r"""('(?:data|audit)\.[a-z_]+=[^']+'|\b(?:data|split|ckpt_path)=\w+|"""
    r"""\b(?:data|audit|evaluation|decision)(?:\.[a-z_]+)+(?:=(?:\[.*?\]|{.*?}|'.*?'|[^\s;,:)]*[^\s;,:).]))?)"""
)
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%)")


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
        finalize=lambda value: _typeset(value) if type(value) is str else value,
    )
    templates.filters |= {"css": _escape_in_css, "keys": _mark_keys, "breakable": _let_break}
    return templates


def _typeset(text: str) -> str:
    """A text as it is shown: visible, each number on one line with its %."""
    return _BEFORE_UNIT.sub("\u00a0", make_visible(text))


def _mark_keys(text: str) -> Markup:
    """A text with the keys that it names, such as `data.val=known`, as code."""
    pieces = enumerate(_KEY.split(_typeset(text)))
    return Markup("").join(Markup("<code>{}</code>").format(each) if n % 2 else escape(each) for n, each in pieces)


def _let_break(name: str) -> Markup:
    """A name that breaks behind an underscore where a line is too short for it, not within a word."""
    return Markup("_<wbr>").join(_typeset(name).split("_"))


def _escape_in_css(text: str) -> Markup:
    """A text inside a string of a style sheet, where HTML's escapes mean nothing."""
    kept = "".join(letter if letter.isalnum() or letter in "-_. " else f"\\{ord(letter):06x}" for letter in text)
    return Markup(kept)
