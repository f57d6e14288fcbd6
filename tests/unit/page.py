"""The table of a whole run, put into a page between its marks."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

HEAD = "| part | promise | observed | s |\n|---|---|---|---|"
BLOCK = re.compile(r"<!-- unit -->\n.*?<!-- /unit -->\n", re.DOTALL)


def write(page: Path, rows: list[str], last: str) -> None:
    """Replace what stands between the marks.

    Raises
    ------
    ValueError
        If the page has no marks.
    """
    text = page.read_text()
    if not BLOCK.search(text):
        raise ValueError(f"{page} has no lines <!-- unit --> and <!-- /unit -->")
    day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    block = "\n".join(["<!-- unit -->", HEAD, *rows, "", f"{day}, {last}", "<!-- /unit -->"]) + "\n"
    page.write_text(BLOCK.sub(lambda _: block, text))
