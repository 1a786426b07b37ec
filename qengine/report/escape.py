"""Text that came from files, made safe to show: in a terminal, in a table of cells, in a figure."""

from __future__ import annotations

from collections.abc import Container

#: What makes a spreadsheet read a cell as a formula.
_FORMULA = "=+-@\t\r\n"


def shown(text: object, glyphs: Container[int] | None = None) -> str:
    r"""Return a text in which no character acts: what is not printable is written as an escape.

    Parameters
    ----------
    text : object
        Its `str` is shown.
    glyphs : container of code points, optional
        Those that the font has; the others are written as escapes too.

    Examples
    --------
    >>> print(shown("layer\n1\x1b[31m"))
    layer\n1\x1b[31m
    >>> print(shown("\u03b1 \u2264 1", glyphs=range(256)))
    \u03b1 \u2264 1
    """
    return "".join(
        c if c.isprintable() and (glyphs is None or ord(c) in glyphs) else c.encode("unicode_escape").decode()
        for c in str(text)
    )


def text_cell(text: object) -> str:
    r"""Return a cell of text that no spreadsheet takes for a formula: one that looks like it gets an apostrophe.

    Examples
    --------
    >>> text_cell("conv1.weight"), text_cell("=1+1"), text_cell("-w")
    ('conv1.weight', "'=1+1", "'-w")
    """
    plain = str(text)
    start = plain.lstrip(" ")[:1]
    return ("'" if start and start in _FORMULA else "") + shown(plain)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters: of a longer one the middle is left out.

    Examples
    --------
    >>> shortened("encoder.layers.11.attention.weight", 21)
    'encoder.l...on.weight'
    """
    if len(text) <= width:
        return text
    keep = width - 3
    return text[: keep // 2] + "..." + text[len(text) - (keep - keep // 2) :]
