"""docs/archive.md names every column as the schemas have it."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_columns_in_the_page_are_those_of_the_schemas() -> None:
    """``python docs/archive_columns.py`` writes them."""
    script = runpy.run_path(str(DOCS / "archive_columns.py"))
    text = (DOCS / "archive.md").read_text()
    assert "| `p_LABEL` | double |" in text
    assert script["filled"](text) == text
