"""What the documentation says of site calibrations is what was measured."""

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_tables_hold_the_figures_of_the_committed_run() -> None:
    text = (DOCS / "site.md").read_text()
    run = json.loads((DOCS / "figures" / "conformal.json").read_text())
    assert f"--fresh-seed {run['fresh_seed']} " in text
    assert f"bundle `{run['bundle']}`" in text
    rows = [
        f"| {n} | {100 * float(q):.0f} | {c['removed']:.2f} ± {c['se']:.2f} | {c['low']:.2f} … {c['high']:.2f} | "
        f"{c['stated_interval_holds']:.0f} |"
        for n, levels in run["coverage"].items()
        for q, c in levels.items()
    ]
    for name, row in {**run["sites"], "real ambient": run["real"]["real ambient"]}.items():
        for q in ("0.86", "0.95", "0.99"):
            cells = [
                f"{row[q][k]:.2f} ± {row[q][k + '_se']:.2f} ({row[q][k + '_least']:.2f})" for k in ("bundle", "site")
            ]
            rows.append(f"| {name} | {100 * float(q):.0f} | {cells[0]} | {cells[1]} |")
    assert len(rows) == 30
    for row in rows:
        assert row in text, row
    shares = [row["share_detected"] for row in run["sites"].values()] + [run["leaving_out"]["share_detected"]]
    assert max(shares) < 3.55
