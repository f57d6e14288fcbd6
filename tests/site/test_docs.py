"""What the documentation says of site calibrations in words is what was measured; tests/house holds its tables."""

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_shares_told_in_words_are_those_of_the_committed_run() -> None:
    text = (DOCS / "site.md").read_text()
    run = json.loads((DOCS / "figures" / "conformal.json").read_text())
    assert f"A class is detected in {run['leaving_out']['share_detected']:.1f} % of the windows" in text
    shares = [row["share_detected"] for row in run["sites"].values()]
    assert f"it is {min(shares):.0f} to {max(shares):.1f} %" in text
