"""What the page on real recordings says in words is what was measured; tests/house holds its tables."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = " ".join((DOCS / "real-recordings.md").read_text().split())
RUN = json.loads((DOCS / "figures" / "vessels.json").read_text())
BETTER = RUN["better_than_baseline"]


def test_the_baseline_is_called_unbeaten_as_long_as_no_interval_says_otherwise() -> None:
    assert "**The baseline is not beaten.**" in TEXT
    rows = [row for splits in BETTER.values() for row in splits.values()]
    assert all(row["auc"] < 0.0 for row in rows)
    assert all(row["balanced_accuracy_95"][0] < 0.0 for row in rows)
    gains = [round(BETTER[judge]["by site"]["balanced_accuracy"]) for judge in ("lines", "simulated")]
    assert "by site `lines` and `simulated` are {} and {} points ahead".format(*gains) in TEXT
    assert all(row["by vessel"]["balanced_accuracy"] < 0.0 for row in BETTER.values())


def test_the_primary_judge_is_told_with_what_it_lost() -> None:
    assert RUN["primary"] == "mixed"
    by = {s: round(row["balanced_accuracy"]) for s, row in BETTER["mixed"].items()}
    assert f"by site {by['by site']} points ahead of the baseline, by vessel {-by['by vessel']} points behind" in TEXT


def test_leakage_and_traps_are_those_of_the_run() -> None:
    spectra = {s: row["balanced_accuracy"] for s, row in RUN["judges"]["spectra"].items()}
    assert round(spectra["random"] - spectra["by site"]) == 12
    assert "`spectra` loses twelve points" in TEXT
    lost = RUN["judges"]["spectra"]["by site"]["balanced_accuracy_of_folds"][:4]
    assert f"`spectra` falls to {min(lost):.0f} to {max(lost):.0f}" in TEXT
    assert all(pair[0] == "deepship" for pair in RUN["pairs"][:4])
    traps = {
        r["judge"]: r["by site"] for r in RUN["other_negatives"] if r["ambient"] == "and hum, animals, sonar"
    }  # fmt: skip
    for key, said in (("balanced_accuracy", "balanced accuracy"), ("auc", "area")):
        assert f"{said}, {traps['simulated'][key]:.0f} against {traps['spectra'][key]:.0f}" in TEXT
    assert all(row["auc_95"][0] < 50.0 for name, row in traps.items() if name in ("lines", "simulated"))
    assert f"by site, come near (area {traps['spectra, power']['auc']:.0f})" in TEXT


def test_what_the_bundle_hears_is_told() -> None:
    heard = RUN["bundle"]["folders"]
    sea = [heard["ambient"], heard["ambient_2k"]]
    assert all(f["heard"] == 0.0 for f in sea)
    assert f"nothing in all {sum(f['n_windows'] for f in sea)} windows of ambient sea" in TEXT
    vessels = [f["heard"] for name, f in heard.items() if name.startswith("vessel")]
    assert f"and {min(vessels):.0f} to {max(vessels):.0f} per cent of the vessels' windows" in TEXT
    assert f"in {heard['mammal']['heard']:.0f} per cent of the animals' windows" in TEXT
    assert (heard["ambient_hum"]["heard"], heard["ambient_hum"]["n_windows"]) == (25.0, 4)
    assert (round(heard["active_sonar"]["unknown"]), heard["active_sonar"]["n_windows"]) == (67, 3)


def test_the_area_of_the_rejection_is_that_of_its_own_run() -> None:
    run = json.loads((DOCS / "figures" / "unknowns.json").read_text())
    assert f"with area {run['real']['vessels_vs_empty']['auroc']:.4f} (`tonald experiments unknowns" in TEXT
