"""Tables of text and of HTML, with a summary below."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from itertools import zip_longest

__all__ = ["html_table", "text_table"]

#: Cells of a row; a line break in one makes the row several lines.
Cells = Sequence[str]


def text_table(
    columns: Cells, rows: Sequence[Cells], right: Collection[str], summary: str
) -> str:
    """Columns side by side, those named in `right` flush right."""
    lines = [line for row in rows for line in _lines(row)]
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    table = [
        "  ".join([
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, columns, strict=True)
        ]).rstrip()
        for line in (columns, rule, *lines)
    ]  # fmt: skip
    return "\n".join([*table, summary])


def html_table(columns: Cells, rows: Sequence[Cells], summary: str) -> str:
    """The same for a notebook."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(c)}</td>".replace("\n", "<br>") for c in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table><p>{escape(summary)}</p>"


def _lines(row: Cells) -> list[tuple[str, ...]]:
    return list(zip_longest(*[cell.split("\n") for cell in row], fillvalue=""))
