"""Inline SVG figures: without links or duplicate names, in the page's ink colors."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

_GREY = re.compile(r"#([0-9a-f]{2})\1\1\b")
_LINKS = re.compile(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"')
_SIZE = re.compile(r'<svg([^>]*?)\swidth="[^"]*"([^>]*?)>', re.DOTALL)
_HEIGHT = re.compile(r'(<svg[^>]*?)\sheight="[^"]*"', re.DOTALL)
_INK = {"#0173b2": "var(--blue)", "#de8f05": "var(--orange)"}
_FAINT = 0xB8
_DARK = 0x73


def inline_svg(draw: Callable[[Path], object], *, prefix: str, recolored: bool = True) -> str:
    """Run a figure function and convert its SVG for embedding in a page.

    Args:
        draw: figure function, called with the path of an ``.svg`` file to write.
        prefix: prefix of every name in the figure, unique on the page.
        recolored: whether greys become the page's ``--ink``, ``--muted`` and ``--line``, and white
            becomes transparent, so that the figure is readable on light and dark backgrounds.
            Figures with text in filled cells keep their colors, for a light card.

    Returns:
        an ``<svg>`` element as wide as its parent element.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _LINKS.sub("", text).replace("xlink:href", "href")
    text = _HEIGHT.sub(r"\1", _SIZE.sub(r"<svg\1\2>", text, count=1), count=1)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = re.sub(r"\s*<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace(
        "<svg", '<svg aria-hidden="true" focusable="false" stroke-linejoin="round"', 1
    )
    if recolored:
        for color, name in _INK.items():
            text = text.replace(color, name)
        text = _GREY.sub(_paper, text)
    return re.sub(r"\n\s*", "\n", text).strip()


def _paper(found: re.Match[str]) -> str:
    shade = int(found.group(1), 16)
    if shade == 0xFF:
        return "none"
    if shade >= _FAINT:
        return "var(--line)"
    return "var(--muted)" if shade > _DARK or shade == 0x59 else "var(--ink)"
