"""Tables on a page of the docs, between marks that name them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    marks = ["---"] * len(header)
    return [f"| {' | '.join(row)} |" for row in (header, marks, *rows)]


def put(page: str, name: str, lines: Sequence[str]) -> str:
    """Replace what stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.

    Raises
    ------
    SystemExit
        If the page has no such place.
    """
    pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
    text = "\n".join(["", *lines, "", ""])  # no backslashes: safe to insert
    page, count = re.subn(pattern, rf"\g<1>{text}\g<2>", page, flags=re.DOTALL)
    if not count:
        msg = f"expected a line <!-- table: {name} --> on the page, found none"
        raise SystemExit(msg)
    return page
