"""What the site needs besides Markdown: formulas as MathML, Sphinx roles of the docstrings as code.

Browsers draw MathML themselves: the built site works without a connection.
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_ROLE = re.compile(r':(?:func|class|meth|mod|data|attr):<code>(~?)([^<]*)</code>')


def on_page_content(content: str, **_) -> str:
    """Called by MkDocs with the HTML of a page."""
    content = _DISPLAY.sub(lambda m: f'<p>{_mathml(m[1], "block")}</p>', content)
    content = _INLINE.sub(lambda m: _mathml(m[1], 'inline'), content)
    return _ROLE.sub(_code, content)


def _mathml(latex: str, display: str) -> str:
    return convert(html.unescape(latex).strip(), display=display)


def _code(match: re.Match) -> str:
    name = match[2].rpartition('.')[2] if match[1] else match[2]
    return f'<code>{name}</code>'
